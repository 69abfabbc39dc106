"""Earlier runs as they were recorded: directories of eval_samples_step_*.jsonl and train.log, read, checked and graded.

Completions are graded again, by an evaluator, as they stand; where that differs from what the run itself extracted or
logged, a note says so. What was not recorded (NLL, token counts, truncation) stays missing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from raybridge.data import Evaluator, Problem, read_jsonl, text
from raybridge.evaluation.earlier.log import RunLog, read_log
from raybridge.results.store import LONGEST

FILES = "eval_samples_step_*.jsonl"
FILE = re.compile(r"eval_samples_step_(\d+|final)\.jsonl")
ARMS = ("source", "target", "bridged")  # as the fields are called
FIELDS = (
    *("eval_step", "index", "question", "gold_full_text", "gold_extracted"),
    *(f"{arm}_{part}" for arm in ARMS for part in ("full", "extracted")),
)
MISSING = ("generated_tokens", "truncated", "nll", "nll_tokens", "prompt_tokens")  # what these runs did not record
TYPES = dict.fromkeys(MISSING, "Float64") | {"truncated": "boolean", "soft_tokens": "Int64"}
ABOVE = 4  # names of a run's path that are kept
INVALID = "[invalid]"  # how these runs wrote an answer that they did not find
TOKENS_IN_NAME = re.compile(r"(?<=_)\d+(?=tok(?![a-z]))")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One file of a run. label: the step as recorded, a number or "final"."""

    label: str
    step: int
    samples: pd.DataFrame


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """An earlier run, read, checked and graded."""

    name: str
    folder: str  # where it stood: the last names of its path, which tell runs of one name apart
    log: RunLog
    bridge: str  # the arm that the run called bridged
    evaluations: tuple[Evaluation, ...]  # by step, the final one last
    digests: dict[str, str]  # SHA-256 of each file
    notes: tuple[str, ...]


def find_runs(folders: Sequence[Path]) -> list[Path]:
    """The run directories among these or below them."""
    found: dict[Path, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"{folder} is not a directory")
        runs = {path for path in _folders(folder) if any(path.glob(FILES))}
        if not runs:
            raise ValueError(f"{folder} holds no earlier run: there is no {FILES} in it or below it")
        for path in sorted(runs):
            found.setdefault(path.resolve(), path)  # a link and what it leads to are one run
    return list(found.values())


def _folders(folder: Path, above: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """A folder and those below it, links followed; one that leads back to where it stands ends there."""
    real = folder.resolve()
    if real in above:
        return
    yield folder
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            yield from _folders(path, above | {real})


def read_run(folder: Path, evaluator: Evaluator, *, official: Mapping[str, str] | None = None) -> Recorded:
    """Read and grade one run directory; `official` has the benchmark's questions by problem id, where it is at hand."""
    files = {}
    for path in sorted(folder.glob(FILES)):
        match = FILE.fullmatch(path.name)
        if not match:
            raise ValueError(f"{path}: the name must end in _step_<number>.jsonl or _step_final.jsonl")
        files[_label(match[1])] = path
    numbered = sorted(int(label) for label in files if label != "final")
    log = read_log(folder / "train.log")
    bridge = "bridged_with_text" if "text" in log.prompt_mode else "bridged"
    steps = [*((str(step), step) for step in numbered), *([("final", _after(numbered, log))] if "final" in files else [])]
    grader = _Grader(evaluator=evaluator, bridge=bridge, soft_tokens=log.soft_tokens, official=official or {})
    evaluations, notes = [], list(log.notes)
    for label, step in steps:
        samples, said = _read_file(files[label], label, grader)
        evaluations.append(Evaluation(label=label, step=step, samples=samples))
        notes += said + _disagreements(files[label], label, samples, grader, log)
    if evaluations[-1].step not in numbered and numbered:
        notes.append(f"the final evaluation stands at step {evaluations[-1].step}, after the last step of training")
    notes += _running_on(evaluations, evaluator)
    if len({frozenset(one.samples["problem"]) for one in evaluations}) > 1:
        notes.append("its evaluations are not all of the same problems")
    paths = [*files.values(), *([folder / "train.log"] if log.found else [])]
    name, renamed = _name(folder, log.soft_tokens)
    return Recorded(
        name=name,
        folder="/".join(folder.resolve().parts[1:][-ABOVE:]),
        log=log,
        bridge=bridge,
        evaluations=tuple(evaluations),
        digests={path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths},
        notes=tuple(notes + renamed),
    )


def _read_file(path: Path, label: str, grader: _Grader) -> tuple[pd.DataFrame, list[str]]:
    """Sample rows of one file, a row for each problem and arm, and what has to be said of it."""
    rows: list[dict[str, Any]] = []
    seen: dict[int, int] = {}
    for number, row in enumerate(read_jsonl(path, FIELDS), start=1):
        where, index = f"{path}, line {number}", row["index"]
        if not isinstance(index, int) or isinstance(index, bool) or index < 0:
            raise ValueError(f"{where}: index must be a number from 0 on, not {index!r}")
        if index in seen:
            raise ValueError(f"{where}: index {index} occurs twice, first in line {seen[index]}")
        if _label(str(row["eval_step"])) != label:
            raise ValueError(f"{where}: eval_step is {row['eval_step']!r} in a file of step {label}")
        seen[index] = number
        rows += grader.samples(row, where)
    if not rows:
        raise ValueError(f"{path} is empty: there is no evaluation in it")
    samples = pd.DataFrame(rows).astype(TYPES)
    order = ["source", "target", grader.bridge]
    samples = samples.sort_values("arm", key=lambda arms: arms.map(order.index), kind="stable", ignore_index=True)
    return samples.drop(columns=["gold_agrees", "official"]), _said(path, samples)


@dataclass(frozen=True, kw_only=True)
class _Grader:
    """Turns recorded rows into sample rows."""

    evaluator: Evaluator
    bridge: str
    soft_tokens: int | None
    official: Mapping[str, str]  # question of each problem id, where the benchmark is at hand

    def arm(self, called: str) -> str:
        """The arm that the run called so."""
        return self.bridge if called == "bridged" else called

    def samples(self, row: dict[str, Any], where: str) -> Iterator[dict[str, Any]]:
        """A sample row for each arm."""
        problem, agrees = self._problem(row, where)
        for arm in ARMS:
            completion = text(row, f"{arm}_full", where)
            found, scores = self.evaluator.read(completion), self.evaluator.grade(problem, completion)
            yield {
                "problem": problem.id,
                "arm": self.arm(arm),
                "prompt_hash": _digest(problem.question),
                "completion": completion,
                **dict.fromkeys(MISSING),
                "soft_tokens": self.soft_tokens if arm == "bridged" else 0,
                **{f"answer_{reading}": found[reading] for reading in self.evaluator.readings},
                **{f"score_{reading}": float(scores[reading]) for reading in self.evaluator.readings},
                "answer_recorded": _recorded_answer(text(row, f"{arm}_extracted", where)),
                "gold_agrees": agrees,
                "official": problem.id.startswith(f"{self.evaluator.name}/test/"),
            }

    def _problem(self, row: dict[str, Any], where: str) -> tuple[Problem, bool]:
        """The problem of a row, and whether the run's own extraction of its gold agrees with its gold text.

        The gold text repeats the prompt with its exemplars; gold is read from what follows it, never from the prompt. The
        index counts the rows of the official test split; where the question is another one, the problem is kept apart.
        """
        question, whole = text(row, "question", where), text(row, "gold_full_text", where)
        extracted = _recorded_answer(text(row, "gold_extracted", where))
        answer, first = whole.removeprefix(question), self.evaluator.readings[0]
        gold = self.evaluator.read(answer)[first]
        if extracted is None or gold is None:
            field = "gold_extracted" if extracted is None else "gold_full_text"
            raise ValueError(f"{where}: a gold without an answer ({field} holds none); the problem cannot be graded")
        name, index = self.evaluator.name, row["index"]
        known = self.official.get(f"{name}/test/{index}")
        official = known is None or known.strip() in question
        place = f"test/{index}" if official else f"other/{_digest(question)}-{index}"
        problem = Problem(id=f"{name}/{place}", question=question, gold=gold, rationale=answer)
        same = replace(problem, gold=extracted)
        return problem, bool(self.evaluator.grade(same, answer)[first])


def _said(path: Path, samples: pd.DataFrame) -> list[str]:
    """What has to be said of a file that can be read but is not as one expects."""
    notes = []
    for arm, part in samples[samples["completion"].str.strip() == ""].groupby("arm", sort=False):
        first = part["problem"].iloc[0]
        count = "1 empty completion counts" if len(part) == 1 else f"{len(part)} empty completions count"
        notes.append(f"{path.name}: {count} as invalid for {arm} (the first: {first})")
    once = samples.drop_duplicates("problem")
    for column, saying in {
        "gold_agrees": "the gold was extracted as another answer than the gold text gives; they are graded by the gold text",
        "official": "the question is not the official test problem of that index; they are known by their question",
    }.items():
        part = once[~once[column]]
        if len(part):
            notes.append(f"{path.name}: of {len(part)} problems (the first is {part['problem'].iloc[0]}) {saying}")
    return notes


def _digest(prompt: str) -> str:
    return hashlib.sha256(prompt.encode()).hexdigest()[:16]


def _label(step: str) -> str:
    """A step as it is called: 0250 and 250 are one."""
    return str(int(step)) if step.isdecimal() else step


def _recorded_answer(extracted: str) -> str | None:
    return None if extracted.strip() in ("", INVALID) else extracted


def _after(numbered: Sequence[int], log: RunLog) -> int:
    """The step of the final evaluation: the last one trained, or the one after if an evaluation stands there already."""
    last = max([*numbered, *log.losses, 0])
    return last + 1 if last in numbered else last


def runs_on(completion: str, evaluator: Evaluator) -> bool:
    """Whether decoding as we do it would have stopped inside this completion."""
    return any(stop in completion for stop in evaluator.stop)


def _running_on(evaluations: Sequence[Evaluation], evaluator: Evaluator) -> list[str]:
    completions = [completion for one in evaluations for completion in one.samples["completion"]]
    count = sum(runs_on(completion, evaluator) for completion in completions)
    if not count:
        return []
    return [
        f"{count:,} of {len(completions):,} completions run on into a new question: a reading that looks for the last answer "
        "finds that question's"
    ]


def _disagreements(path: Path, label: str, samples: pd.DataFrame, grader: _Grader, log: RunLog) -> list[str]:
    """Notes on logged accuracies that are not those of the completions."""
    notes = []
    for arm, logged in log.accuracies.get(label, {}).items():
        part = samples[samples["arm"] == grader.arm(arm)]
        graded = part[f"score_{grader.evaluator.readings[0]}"].mean()
        if abs(graded - logged) > 0.00051:  # the log has three digits
            notes.append(f"{path.name}: train.log says {logged:.3f} for {arm}, its completions say {graded:.3f}")
    return notes


def _name(folder: Path, soft_tokens: int | None) -> tuple[str, list[str]]:
    """The trial's name; a number of soft tokens in it that is not the run's own is replaced."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", folder.resolve().name).lstrip("_.-")[:LONGEST] or "imported"
    claimed = TOKENS_IN_NAME.search(name)
    if claimed is None or soft_tokens is None or int(claimed[0]) == soft_tokens:
        return name, []
    return TOKENS_IN_NAME.sub(str(soft_tokens), name, count=1), [
        f"it is named {claimed[0]}tok and ran with {soft_tokens} soft tokens"
    ]
