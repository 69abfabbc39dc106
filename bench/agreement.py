"""Does the arm `target` say what a user's own `generate` says? Both on the same problems, one by one.

python bench/agreement.py [--model pocket:target] [--on pocket] [--problems 40] [--batch 16]

The prompts are written out here, by the chat template where there is one, and answered by transformers' `generate`. Where the
completions differ, the first token that does is looked at: the two best logits of a pass over that one row are closer than
their rounding where the argmax was a tie, and only there.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from raybridge.arms import find
from raybridge.data import Evaluator
from raybridge.evaluation.answering import answer
from raybridge.evaluation.benchmarks import load_evaluator
from raybridge.evaluation.models import Models
from raybridge.evaluation.trained import of_models
from raybridge.models.pieces import pad
from raybridge.models.prompts import FIXED
from raybridge.results.files import write_json

SPACINGS = 2.0  # of the model's precision at the size of the logit: two passes over one row differ by about one


@dataclass(frozen=True, kw_only=True)
class Split:
    """Where two completions part: after so many tokens, by how much the one logit is behind the other, and the rounding."""

    after: int
    behind: float
    rounding: float

    @property
    def tie(self) -> bool:
        """Whether rounding alone decides."""
        return self.behind <= self.rounding


def written_out(tokenizer: Any, evaluator: Evaluator, question: str) -> list[int]:
    """The prompt of a question behind the benchmark's exemplars, as a user would write it."""
    opening, ask = (evaluator.instruction + "\n\n" if evaluator.instruction else ""), evaluator.before.rstrip()
    shots = evaluator.exemplars()
    if not tokenizer.chat_template:
        before = "".join(f"{ask} {s.question.strip()}{evaluator.after} {s.rationale}\n\n" for s in shots)
        return tokenizer(f"{opening}{before}{ask} {question.strip()}{evaluator.after}").input_ids
    turns = []
    for shot in shots:
        turns.append({"role": "user", "content": f"{ask} {shot.question.strip()}"})
        turns.append({"role": "assistant", "content": shot.rationale})
    turns.append({"role": "user", "content": f"{ask} {question.strip()}"})
    turns[0] = {"role": "user", "content": opening + turns[0]["content"]}
    return tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=True, return_dict=False, **FIXED)


@torch.no_grad()
def generated(lm: Any, prompts: list[list[int]], evaluator: Evaluator) -> list[list[int]]:
    """What transformers generates greedily behind each prompt, without its end token."""
    ids, mask = pad(prompts, pad_id=lm.tokenizer.pad_token_id, side="left", device=lm.device)
    out: Tensor = lm.model.generate(
        ids,
        attention_mask=mask.long(),
        max_new_tokens=evaluator.max_new_tokens,
        do_sample=False,
        temperature=None,
        top_p=None,
        top_k=None,
        repetition_penalty=1.0,
        eos_token_id=sorted(lm.end_ids),
        pad_token_id=lm.tokenizer.pad_token_id,
    )
    rows = out[:, ids.shape[1] :].tolist()
    return [row[: next((i for i, token in enumerate(row) if token in lm.end_ids), len(row))] for row in rows]


def cut(text: str, evaluator: Evaluator) -> str:
    """A completion up to the first stop string."""
    return text[: min((at for at in map(text.find, evaluator.stop) if at >= 0), default=len(text))]


@torch.no_grad()
def parting(lm: Any, prompt: list[int], theirs: list[int], ours: str) -> Split:
    """Where our completion leaves theirs, by the logits of a pass over this row alone.

    A token may begin as ours does without being it (" a" where ours is " an"): then they part before it.
    """
    count = next((i for i in range(len(theirs)) if not ours.startswith(lm.text(theirs[: i + 1]))), len(theirs))
    eps = torch.finfo(lm.model.dtype).eps
    for after in range(count, max(count - 4, -1), -1):
        logits_V = lm.model(torch.tensor([[*prompt, *theirs[:after]]], device=lm.device)).logits[0, -1].float()
        best = logits_V.topk(8).indices.tolist()
        taken = theirs[after] if after < len(theirs) else best[0]
        fits = [t for t in best if t != taken and (t in lm.end_ids or ours.startswith(lm.text([*theirs[:after], t])))]
        if fits:
            behind = abs(logits_V[taken] - logits_V[fits[0]]).item()
            return Split(after=after, behind=behind, rounding=SPACINGS * eps * logits_V[best].abs().max().item())
    raise AssertionError(f"no likely token leads from theirs to ours after {count} tokens: {lm.text(theirs)!r} and {ours!r}")


def main(
    model: str = "pocket:target",
    on: Annotated[str, typer.Option(help="a file of evaluators/")] = "pocket",
    problems: int = 40,
    batch: int = 16,
    out: Annotated[str, typer.Option(help="a JSON file for the figures")] = "",
) -> None:
    """Print how many completions are the same, and of those that are not how many part at a tie."""
    evaluator = load_evaluator(on)
    models = Models("cuda" if torch.cuda.is_available() else "cpu")
    lm = models.load(model)
    setting = of_models(model, model, evaluator=evaluator, split="test", count=problems)
    started = time.perf_counter()
    rows = [row for request in setting.requests([find("target")], size=batch) for row in answer(request, models)]
    ours_seconds = time.perf_counter() - started
    completions = {row["problem"]: row for row in rows}
    started = time.perf_counter()
    parted = []
    right = {"ours": 0, "generate": 0}
    prompts = [written_out(lm.tokenizer, evaluator, problem.question) for problem in setting.problems]
    parts = [prompts[start : start + batch] for start in range(0, problems, batch)]
    generations = [row for part in parts for row in generated(lm, part, evaluator)]
    theirs_seconds = time.perf_counter() - started
    for problem, prompt, theirs in zip(setting.problems, prompts, generations, strict=True):
        told = completions[problem.id]
        right["ours"] += bool(told[f"score_{evaluator.readings[0]}"])
        right["generate"] += bool(evaluator.grade(problem, cut(lm.text(theirs), evaluator))[evaluator.readings[0]])
        if cut(lm.text(theirs), evaluator) != told["completion"]:
            parted.append(parting(lm, prompt, theirs, told["completion"]))
    ties = sum(one.tie for one in parted)
    figures = {
        "model": model,
        "on": on,
        "problems": problems,
        "same": problems - len(parted),
        "parted at a tie": ties,
        "parted otherwise": len(parted) - ties,
        "largest gap of a tie": max((one.behind for one in parted if one.tie), default=0.0),
        "gaps otherwise": [one.behind for one in parted if not one.tie],
        "right, ours": right["ours"] / problems,
        "right, generate": right["generate"] / problems,
        "seconds, ours": ours_seconds,
        "seconds, generate": theirs_seconds,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "precision": str(lm.model.dtype).removeprefix("torch."),
    }
    for name, value in figures.items():
        print(f"{name}: {value}")
    if out:
        write_json(Path(out), figures)


if __name__ == "__main__":
    typer.run(main)
