"""Joint rescoring: source and target each score both answers, and the one that both together find likelier wins."""

from __future__ import annotations

import math
from typing import Any

from raybridge.evaluation.models import Models
from raybridge.evaluation.prompt import ask
from raybridge.evaluation.scoring import continuation_nll, readings
from raybridge.evaluation.setting import Request
from raybridge.models.prompts import prompt_hash, template_hash

MEMBERS = ("source", "target")


def joint_rows(request: Request, models: Models) -> list[dict[str, Any]]:
    """Sample rows of the arm `joint`.

    An answer's score is the sum of its mean log-likelihoods per token under the two models, each under its own prompt with
    the question as text and without exemplars, the end token counted: means, because the two count tokens differently and a
    long answer should not lose for its length. Equal scores go to the target. The gold's NLL under two models is none: it
    stays missing, and so does the time, which is mostly that of the two answers.
    """
    answers = {"source": request.source_answers, "target": request.target_answers}
    assert all(len(part) == len(request.problems) for part in answers.values()), "joint needs the answers of both models"
    asked = {member: ask(request, models, member, None, shots=False) for member in MEMBERS}
    score = {name: [0.0] * len(request.problems) for name in answers}
    for one in asked.values():
        for name, texts in answers.items():
            rows = [one.around.answer(text.strip()) for text in texts]
            nll, _ = continuation_nll(one, one.around, rows)
            for i, (total, row) in enumerate(zip(nll, rows, strict=True)):
                score[name][i] -= total / len(row)
    found = []
    for i, problem in enumerate(request.problems):
        chosen = "source" if score["source"][i] > score["target"][i] else "target"
        completion = answers[chosen][i]
        found.append(
            {
                "problem": problem.id,
                "arm": "joint" + request.hardening.label,
                "prompt_hash": prompt_hash(asked["target"].prompt_rows[i]),
                "template_hash": template_hash(asked["target"].around),
                "completion": completion,
                "chosen": chosen,
                "joint_source": score["source"][i],
                "joint_target": score["target"][i],
                **dict.fromkeys(("generated_tokens", "truncated", "nll", "nll_tokens", "prompt_tokens", "seconds"), math.nan),
                "soft_tokens": 0,
                **readings(request.evaluator, problem, completion),
            }
        )
    return found
