"""Arms and controls: what is asked of which model, and what came back. Plain torch, no Ray.

Evaluation is cut into requests: a batch of problems and the arms to answer them with. How a split is cut depends on the
problems alone, so the same rows come back from one replica or from eight.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from raybridge import lm as lms
from raybridge.config import fingerprint, resolve
from raybridge.data import Evaluator, Problem, Split, draw
from raybridge.decode import greedy
from raybridge.errors import unknown
from raybridge.lm import FrozenLM, Piece
from raybridge.losses.next_token import REPEAT_CUE
from raybridge.prompts import Frame, frame, prompt_hash
from raybridge.statistics import wilson
from raybridge.translators import Translator, TranslatorModule
from raybridge.trial import Trial

TRIAL_ARMS_DEV = ("bridged", "shuffled")
TRIAL_ARMS_TEST = ("bridged", "shuffled", "bridged_with_text")
TRIAL_ARMS = frozenset(TRIAL_ARMS_TEST)
BASELINE_ARMS = ("source", "target", "token_budget", "no_context", "zero")
K_ARMS = frozenset(["token_budget", "zero"])  # baselines that depend on the number of soft tokens
CACHED_STATES = 2 * 2**30  # bytes of frozen source states that a replica keeps


@dataclass(frozen=True, kw_only=True)
class Request:
    """One batch of work. The same key always stands for the same rows."""

    key: str
    arms: tuple[str, ...]
    problems: tuple[Problem, ...]
    evaluator: Evaluator
    source: str
    target: str
    translator: Translator | None = None
    soft_tokens: int = 0
    seed: int = 0


def problems_of(trial: Trial, split: Split) -> list[Problem]:
    """The problems of a split that the trial is judged on, in the order of every evaluation of it."""
    problems = trial.evaluator.problems(split)
    count = {"dev": trial.dev_problems, "test": trial.test_problems}.get(split)
    return problems if count is None else draw(problems, count, seed=0)


def batches(problems: Sequence[Problem], size: int) -> list[tuple[Problem, ...]]:
    """Problems of like length together, never one alone: the shuffled control needs a neighbour."""
    ordered = sorted(problems, key=lambda problem: (len(problem.question), problem.id))
    cut = [tuple(ordered[start : start + size]) for start in range(0, len(ordered), size)]
    if len(cut) > 1 and len(cut[-1]) == 1:
        cut[-2:] = [cut[-2] + cut[-1]]
    if len(cut[-1]) < 2:
        raise ValueError("an evaluation needs at least 2 problems: the shuffled control answers with another one's soft tokens")
    return cut


def requests_for(trial: Trial, *, step: int, split: Split, arms: tuple[str, ...], batch: int = 128) -> list[Request]:
    """The requests of one evaluation of a trial's translator."""
    if not TRIAL_ARMS.issuperset(arms):
        raise unknown("arm of a translator", next(iter(set(arms) - TRIAL_ARMS)), sorted(TRIAL_ARMS))
    return [
        Request(
            key=f"{trial.fingerprint}/{step}/{split}/{'+'.join(arms)}/{number}",
            arms=arms,
            problems=problems,
            evaluator=trial.evaluator,
            source=trial.source,
            target=trial.target,
            translator=trial.translator,
            soft_tokens=trial.translator.soft_tokens,
            seed=trial.seed,
        )
        for number, problems in enumerate(batches(problems_of(trial, split), batch))
    ]


def baseline_requests(trial: Trial, split: Split, *, batch: int = 128) -> list[tuple[str, str, list[Request]]]:
    """(arm, key, requests) of each arm that needs no translator; trials that share a key share the rows."""
    problems = problems_of(trial, split)
    ids = [problem.id for problem in problems]
    found = []
    for arm in BASELINE_ARMS:
        soft_tokens = trial.translator.soft_tokens if arm in K_ARMS else 0
        model = trial.source if arm == "source" else trial.target
        identity = {
            "arm": arm,
            "model": model,
            "evaluator": resolve(trial.evaluator),
            "problems": ids,
            "soft_tokens": soft_tokens,
        }
        key = f"{arm}-{trial.evaluator.name}-{split}-{fingerprint(identity)[:16]}"
        requests = [
            Request(
                key=f"{key}/{number}",
                arms=(arm,),
                problems=part,
                evaluator=trial.evaluator,
                source=trial.source,
                target=trial.target,
                soft_tokens=soft_tokens,
            )
            for number, part in enumerate(batches(problems, batch))
        ]
        found.append((arm, key, requests))
    return found


class Models:
    """The frozen models of one process, and what is computed from them alone."""

    def __init__(self, device: torch.device | str) -> None:
        self.device = torch.device(device)
        self._models: dict[str, FrozenLM] = {}
        self._states: OrderedDict[tuple[Any, ...], tuple[Tensor, Tensor]] = OrderedDict()

    def load(self, name: str) -> FrozenLM:
        """The model of that name, loaded once."""
        if name not in self._models:
            self._models[name] = lms.load(name, device=self.device)
        return self._models[name]

    def states(self, request: Request, layers: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Source states of a request's questions; kept, for they are the same at every step of every trial."""
        key = (
            request.source,
            fingerprint(request.evaluator),
            tuple(problem.id for problem in request.problems),
            layers,
        )
        if key not in self._states:
            source = self.load(request.source)
            around = frame(source, request.evaluator)
            rows = [around.question(problem.question) for problem in request.problems]
            self._states[key] = source.hidden_states(around.before, rows, layers)
            while len(self._states) > 1 and sum(states.nbytes for states, _ in self._states.values()) > CACHED_STATES:
                self._states.popitem(last=False)
        self._states.move_to_end(key)
        return self._states[key]

    def soft_tokens(self, request: Request, weights: Mapping[str, Tensor]) -> Tensor:
        """Soft tokens (B, K, D) of a request's questions."""
        assert request.translator is not None
        source, target = self.load(request.source), self.load(request.target)
        module: TranslatorModule = request.translator.build(source.width, target.width, target_rms=target.embedding_rms)
        module.load_state_dict(dict(weights))
        module.to(self.device).eval()
        with torch.no_grad(), autocast(self.device):
            return module(*self.states(request, request.translator.layers))


def autocast(device: torch.device) -> torch.autocast:
    """bf16 where the hardware has it; a no-op on CPU, where fp32 is faster and exact."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")


@cache
def _exemplars(evaluator: Evaluator) -> tuple[Problem, ...]:
    return tuple(evaluator.exemplars())


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """A batch as one arm puts it to a model: the tokens that all rows share, and the pieces that differ."""

    lm: FrozenLM
    shared: tuple[int, ...]
    place: tuple[Piece, ...]  # what stands in the question's place
    around: Frame
    prompt_rows: list[list[int]]  # token ids of each row's text, for hashes and lengths
    soft_tokens: int

    def pieces(self, after: Sequence[int]) -> list[Piece]:
        """All that follows the shared tokens."""
        return [*self.place, self.lm.text_piece([after] * len(self.prompt_rows))]


def _ask(request: Request, models: Models, arm: str, soft_BKD: Tensor | None, *, shots: bool) -> _Asked:
    """Build one arm's prompts. Exemplars are text: only arms that read text get them, and never when NLL is measured."""
    lm = models.load(request.source if arm == "source" else request.target)
    reads_text = arm in ("source", "target", "token_budget", "no_context")
    around = frame(lm, request.evaluator, exemplars=_exemplars(request.evaluator) if shots and reads_text else ())
    rows = [around.question(problem.question) for problem in request.problems]
    if arm == "token_budget":
        rows = [row[: request.soft_tokens] for row in rows]
    elif arm in ("no_context", "zero", "bridged", "shuffled"):
        rows = [[] for _ in rows]
    place: list[Piece] = []
    if arm == "zero":
        place.append(lm.soft_piece(torch.zeros(len(rows), request.soft_tokens, lm.width, device=lm.device)))
    elif soft_BKD is not None and not reads_text:
        place.append(lm.soft_piece(soft_BKD.roll(1, dims=0) if arm == "shuffled" else soft_BKD))
    if any(rows):
        place.append(lm.text_piece(rows))
    return _Asked(
        lm=lm,
        shared=around.before,
        place=tuple(place),
        around=around,
        prompt_rows=[[*around.before, *row, *around.after] for row in rows],
        soft_tokens=place[0].mask_BT.shape[1] if place and not reads_text else 0,
    )


@torch.no_grad()
def _nll(asked: _Asked, after: Sequence[int], rows: Sequence[Sequence[int]]) -> list[float]:
    """Summed NLL of each row's continuation."""
    before = asked.lm.text_piece([asked.shared] * len(rows))
    return asked.lm.answer_nll([before, *asked.pieces(after)], rows).sum(1).tolist()


def answer(request: Request, models: Models, weights: Mapping[str, Tensor] | None = None) -> list[dict[str, Any]]:
    """Answer every problem with every arm: a row for each, with the completion, its readings, and the gold's NLL."""
    soft_BKD = models.soft_tokens(request, weights) if weights is not None else None
    rows = []
    for arm in request.arms:
        rows += _answer_arm(request, models, arm, soft_BKD)
    return rows


def _answer_arm(request: Request, models: Models, arm: str, soft_BKD: Tensor | None) -> list[dict[str, Any]]:
    started = time.perf_counter()
    evaluator, problems = request.evaluator, request.problems
    asked = _ask(request, models, arm, soft_BKD, shots=True)
    completions = greedy(
        asked.lm,
        asked.pieces(asked.around.after),
        max_new_tokens=evaluator.max_new_tokens,
        stop=evaluator.stop,
        shared=asked.shared,
    )
    seconds = (time.perf_counter() - started) / len(problems)
    bare = _ask(request, models, arm, soft_BKD, shots=False)
    answers = [bare.around.answer(problem.rationale) for problem in problems]
    nll = _nll(bare, bare.around.after, answers)
    repeat = frame(bare.lm, evaluator, after=REPEAT_CUE)
    questions = [repeat.answer(problem.question) for problem in problems]
    reconstruction_nll = _nll(bare, repeat.after, questions)
    rows = []
    for i, (problem, completion) in enumerate(zip(problems, completions, strict=True)):
        found = evaluator.read(completion.text)
        scores = evaluator.grade(problem, completion.text)
        rows.append(
            {
                "problem": problem.id,
                "arm": arm,
                "prompt_hash": prompt_hash(asked.prompt_rows[i]),
                "completion": completion.text,
                "generated_tokens": completion.tokens,
                "truncated": completion.truncated,
                "nll": nll[i],
                "nll_tokens": len(answers[i]),
                "reconstruction_nll": reconstruction_nll[i],
                "reconstruction_tokens": len(questions[i]),
                "prompt_tokens": len(asked.prompt_rows[i]),
                "question_tokens": len(asked.around.question(problem.question)),
                "soft_tokens": asked.soft_tokens,
                "seconds": seconds,
                **{f"answer_{reading}": found[reading] for reading in evaluator.readings},
                **{f"score_{reading}": float(scores[reading]) for reading in evaluator.readings},
            }
        )
    return rows


def in_order(rows: Iterable[Mapping[str, Any]], problems: Sequence[Problem]) -> pd.DataFrame:
    """Sample rows as a table, arm by arm in the order of the problems; a missing or doubled row is a fault."""
    frame_ = pd.DataFrame(list(rows))
    place = {problem.id: number for number, problem in enumerate(problems)}
    assert not frame_.duplicated(["problem", "arm"]).any(), "a problem was answered twice by one arm"
    assert (frame_.groupby("arm").size() == len(place)).all(), "an arm did not answer every problem"
    arms = {arm: number for number, arm in enumerate(dict.fromkeys(frame_["arm"]))}
    key = frame_["arm"].map(arms) * len(place) + frame_["problem"].map(place)
    return frame_.iloc[key.argsort(kind="stable")].reset_index(drop=True)


def summarise(samples: pd.DataFrame, evaluator: Evaluator, *, step: int, split: Split) -> list[dict[str, Any]]:
    """Rows for evals.parquet: one for each arm and reading."""
    rows = []
    for arm, part in samples.groupby("arm", sort=False):
        for reading in evaluator.readings:
            n, score = len(part), float(part[f"score_{reading}"].sum())
            low, high = wilson(round(score), n)
            rows.append(
                {
                    "step": step,
                    "evaluator": evaluator.name,
                    "split": split,
                    "arm": arm,
                    "reading": reading,
                    "n": n,
                    "correct": score,
                    "accuracy": score / n,
                    "low": low,
                    "high": high,
                    "invalid": int(part[f"answer_{reading}"].isna().sum()),
                    "truncated": int(part["truncated"].sum()),
                    "nll": part["nll"].sum() / part["nll_tokens"].sum(),
                    "nll_tokens": int(part["nll_tokens"].sum()),
                    "reconstruction_nll": part["reconstruction_nll"].sum() / part["reconstruction_tokens"].sum(),
                    "prompt_tokens": part["prompt_tokens"].mean(),
                    "question_tokens": part["question_tokens"].mean(),
                    "soft_tokens": int(part["soft_tokens"].max()),
                    "generated_tokens": part["generated_tokens"].mean(),
                    "seconds": part["seconds"].sum(),
                }
            )
    return rows


class LocalEvaluations:
    """Evaluations of one trial in this process: what `train` needs where there is no replica pool."""

    def __init__(self, trial: Trial, models: Models) -> None:
        self.trial, self.models = trial, models
        self._done: dict[tuple[int, str], pd.DataFrame] = {}

    def submit(self, *, step: int, split: Split, arms: tuple[str, ...], weights: Mapping[str, Tensor]) -> None:
        """Evaluate now."""
        requests = requests_for(self.trial, step=step, split=split, arms=arms)
        rows = [row for request in requests for row in answer(request, self.models, weights)]
        self._done[step, split] = in_order(rows, problems_of(self.trial, split))

    def collect(self, *, step: int, split: Split) -> pd.DataFrame:
        """The sample rows of what was submitted."""
        return self._done[step, split]
