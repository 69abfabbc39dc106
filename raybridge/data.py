"""Problems: where they come from, how a split is drawn, and the comparisons that several benchmarks share."""

from __future__ import annotations

import hashlib
import json
import os
import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from raybridge.config import later as later

# Evaluators are configs, and this is the one module that they know.
from raybridge.config import typed as typed

Split = Literal["train", "dev", "test"]
STRICT = re.compile(r"#### (-?[0-9.,]+)")  # the first one counts
FLEXIBLE = re.compile(r"-?[$0-9.,]{2,}|-?[0-9]+")  # the last one counts
NUMBER = re.compile(r"-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)")
MINUS = str.maketrans(dict.fromkeys("\u2212\ufe63\uff0d", "-"))  # the minus sign, the small and the fullwidth hyphen-minus
NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
SPLITS: tuple[Split, ...] = ("train", "dev", "test")
BOM = b"\xef\xbb\xbf"
HERE = "RAYBRIDGE_HERE"  # where relative paths count from, for processes that a launcher started somewhere else


class UnreachableError(ValueError):
    """Something on the hub that this machine cannot reach: another machine may."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One problem of a benchmark.

    id: unique and stable in its benchmark, such as "gsm8k/test/17".
    question: all that the source reads and the soft tokens must carry (for reading comprehension, with its context).
    gold: the short answer that grades it. rationale: the full worked answer that training teaches.
    also: other answers that count as right, where a benchmark has several.
    """

    id: str
    question: str
    gold: str
    rationale: str
    also: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("id", "question", "gold", "rationale"):
            value = getattr(self, name)
            if not isinstance(value, str):
                raise ValueError(f"problem {self.id!r}: its {name} must be text, not {type(value).__name__}")
            if not value.strip():
                raise ValueError(f"problem {self.id!r} has no {name}; a problem without one cannot be trained on or graded")


class Evaluator(Protocol):
    """What a file of evaluators/ offers: a frozen dataclass whose fields are its options.

    A prompt is `instruction`, then `before` + question + `after`, and the model's answer follows; exemplars are written
    in the same form, answered by their rationales. A completion ends where one of `stop` begins.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]
    VERSION: ClassVar[int]
    name: ClassVar[str]
    readings: ClassVar[tuple[str, ...]]  # the first one decides stopping and selection
    instruction: ClassVar[str]
    before: ClassVar[str]
    after: ClassVar[str]
    stop: ClassVar[tuple[str, ...]]
    max_new_tokens: ClassVar[int]

    def __hash__(self) -> int:
        """Frozen, so hashable."""

    def problems(self, split: Split) -> list[Problem]:
        """All problems of a split, in a fixed order. Dev comes out of train where the benchmark has no dev."""

    def exemplars(self) -> list[Problem]:
        """The few-shot exemplars of text prompts; empty for zero-shot."""

    def read(self, completion: str) -> dict[str, str | None]:
        """The answer that each reading finds in a completion; None where it finds none (an invalid completion)."""

    def grade(self, problem: Problem, completion: str) -> dict[str, bool | float]:
        """The score of each reading."""


def from_here(path: str) -> Path:
    """A path as a user wrote it. A relative one counts from where the command was called, in Ray's workers too."""
    return Path(os.environ.get(HERE, "."), Path(path).expanduser())


def data_folder() -> Path | None:
    """The folder that RAYBRIDGE_DATA names, if set. It must exist."""
    named = os.environ.get("RAYBRIDGE_DATA")
    if not named:
        return None
    folder = from_here(named)
    if not folder.is_dir():
        raise ValueError(f"RAYBRIDGE_DATA={named!r} is not a folder")
    return folder


def read_jsonl(path: Path, needs: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a JSON-lines file; a broken line or a missing field is an error that names file and line.

    Blank lines at the end are no rows, and a byte order mark is no part of the first one.
    """
    blank = 0
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            line = line.removeprefix(BOM) if number == 1 else line
            if not line.strip():
                blank = blank or number
                continue
            if blank:
                raise ValueError(f"{path}, line {blank}: blank, and rows follow")
            try:
                row = json.loads(line.decode())
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}, line {number}: not JSON ({error.msg} at column {error.colno})") from None
            except UnicodeDecodeError as error:
                raise ValueError(f"{path}, line {number}: not UTF-8 (byte {error.start + 1})") from None
            where = f"{path}, line {number}"
            check_surrogates(row, line, where)
            yield check_row(row, needs, where)


def check_surrogates(row: Any, written: bytes, where: str) -> None:
    """Refuse half a character: JSON can write one (\\ud83d alone), no file and no tokenizer takes it. written: its JSON."""
    if b"\\ud" not in written.lower():
        return
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        raise ValueError(f"{where}: a text holds half a character ({half!a}, a surrogate without the other)") from None


def check_row(row: Any, needs: Sequence[str], where: str) -> dict[str, Any]:
    """Return the row if it is an object that has a value for every field in `needs`."""
    if not isinstance(row, dict):
        raise ValueError(f"{where}: a row must be an object, not {type(row).__name__}")
    for name in needs:
        if name not in row:
            raise ValueError(f"{where}: no field {name!r}; the row has {', '.join(map(repr, row)) or 'no fields'}")
        if row[name] is None:
            raise ValueError(f"{where}: field {name!r} is null")
    return row


def text(row: dict[str, Any], name: str, where: str) -> str:
    """A row's field, which must be text."""
    if not isinstance(row[name], str):
        raise ValueError(f"{where}: field {name!r} must be text, not {type(row[name]).__name__}")
    return row[name]


def hub_rows(
    dataset: str, subset: str | None, split: str, needs: Sequence[str], *, instead: str = "its rows as plain files"
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a dataset on the hub, streamed through `datasets`; `instead` says what RAYBRIDGE_DATA may hold."""
    from datasets import load_dataset  # a second to import; not needed where RAYBRIDGE_DATA has the rows

    number = 0
    for part in split.split("+"):  # not every version of datasets streams a sum of splits
        try:
            for row in load_dataset(dataset, subset, split=part, streaming=True):
                yield check_row(dict(row), needs, f"{dataset} ({split}), row {number}")
                number += 1
        except (OSError, ConnectionError) as error:
            raise UnreachableError(
                f"dataset {dataset!r} cannot be read from the hub ({type(error).__name__}); "
                f"set RAYBRIDGE_DATA to a folder that has {instead}"
            ) from error


def rows(
    file: str,
    hub: tuple[str, str | None, str],
    needs: Sequence[str],
    *,
    flat: Callable[[Any], Iterable[dict[str, Any]]] = iter,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (where, row) from `file` under RAYBRIDGE_DATA if it is there, else from the hub's (dataset, subset, split).

    A .jsonl file has a row a line. A .json file has them all at once; `flat` takes them out of what it holds.
    """
    folder = data_folder()
    path = folder / file if folder is not None else None
    if path is None or not path.is_file():
        dataset, subset, split = hub
        place, called = f"{dataset} ({split})", "row"
        found = enumerate(hub_rows(dataset, subset, split, needs, instead=file))
    elif path.suffix == ".jsonl":
        place, called = str(path), "line"
        found = enumerate(read_jsonl(path, needs), start=1)
    else:
        place, called = str(path), "row"
        found = enumerate(_read_json(path, flat, needs))
    number = None
    for number, row in found:
        yield f"{place}, {called} {number}", row
    if number is None:
        raise ValueError(f"{place} holds no {called}s: there is no problem in it")


def _read_json(path: Path, flat: Callable[[Any], Iterable[dict[str, Any]]], needs: Sequence[str]) -> Iterator[dict[str, Any]]:
    written = path.read_bytes()
    try:
        found = list(flat(json.loads(written)))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: not of the form that was expected ({type(error).__name__}: {error})") from None
    for number, row in enumerate(found):
        where = f"{path}, row {number}"
        check_surrogates(row, written, where)
        yield check_row(row, needs, where)


def check_split(split: str, valid: Sequence[str], benchmark: str, why: str = "") -> None:
    """Refuse a split that a benchmark does not have."""
    if split not in valid:
        raise ValueError(f"{benchmark} has no split {split!r}; valid: {', '.join(valid)}" + (f" ({why})" if why else ""))


def read_numbers(completion: str) -> dict[str, str | None]:
    """An answer by the two filters of lm-evaluation-harness's gsm8k (see `evaluators.gsm8k`), as plain numbers.

    strict: what follows the first marker; flexible: the last thing that looks like a number. What is none after all, such as
    the dots of "in total...", is no answer. A minus is a minus in every script; the filters know the ASCII one alone.
    """
    plain = with_minus(completion)
    marked, numbers = STRICT.search(plain), FLEXIBLE.findall(plain)
    found = {"strict": marked[1] if marked else None, "flexible": numbers[-1] if numbers else None}
    return {reading: plain_number(number) if number else None for reading, number in found.items()}


def with_minus(text: str) -> str:
    """The text with every minus sign as the one that a keyboard has."""
    return text.translate(MINUS)


def plain_number(number: str) -> str | None:
    """The number without thousands separators, currency and a sentence's full stop; None for what is no number."""
    plain = number.replace(",", "").replace("$", "").removesuffix(".")
    return plain if NUMBER.fullmatch(plain) else None


def same_number(answer: str | None, gold: str | None, *, within: Decimal = Decimal(0)) -> bool:
    """Whether both are numbers and equal as such: 18, 18. and 18.0 are one number. An absent answer equals nothing."""
    if answer is None or gold is None:
        return False
    try:
        left, right = Decimal(answer), Decimal(gold)
    except InvalidOperation:
        return False
    return left.is_finite() and right.is_finite() and abs(left - right) <= within


def plain_words(text: str) -> list[str]:
    """Words as official SQuAD grading sees them: lower case, no ASCII punctuation, no English articles."""
    return re.sub(r"\b(?:a|an|the)\b", " ", text.lower().translate(NO_PUNCTUATION)).split()


def word_f1(answer: Sequence[str], gold: Sequence[str]) -> float:
    """F1 of two bags of words; 0 where they share none."""
    shared = (Counter(answer) & Counter(gold)).total()
    return 2 * shared / (len(answer) + len(gold)) if shared else 0.0


def first_line(completion: str) -> str | None:
    """The first line that is not blank: a short answer, without what a model may write after it."""
    return next((line.strip() for line in completion.splitlines() if line.strip()), None)


def rank(problem: str, *, seed: int) -> bytes:
    """Where a problem stands among all of its split by its id: a seeded hash, the same wherever and whenever asked."""
    return hashlib.sha256(f"{seed}/{problem}".encode()).digest()


def draw(problems: Iterable[Problem], count: int, *, seed: int) -> list[Problem]:
    """`count` problems in the order of their ranks: the same ones wherever and whenever drawn."""
    ranked = sorted(problems, key=lambda problem: rank(problem.id, seed=seed))
    if count > len(ranked):
        raise ValueError(f"asked for {count} problems where there are {len(ranked)}")
    return ranked[:count]


def check_unique(problems: Sequence[Problem]) -> list[Problem]:
    """Return the problems as a list if no id occurs twice."""
    seen: set[str] = set()
    for problem in problems:
        if problem.id in seen:
            raise ValueError(f"two problems have the id {problem.id!r}")
        seen.add(problem.id)
    return list(problems)
