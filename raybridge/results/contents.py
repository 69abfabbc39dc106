"""What an experiment reads, by content: found on the launcher, kept in trial.json, and part of its identity.

Digests are SHA-256 in hex. Names and paths are not among them: the same bytes elsewhere are the same experiment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from raybridge.config import identified, kind_in, later
from raybridge.data import SPLITS

MEMBERS = ("source", "target")
OF_A_MODEL = {"weights": "weights are others", "tokenizer": "tokenizer is another", "template": "chat template is another"}
EARLIER = "an earlier identity"  # of what was kept before contents were looked at


@dataclass(frozen=True, kw_only=True)
class ModelContents:
    """A frozen language model. weights: with its configuration. tokenizer: its vocabulary. template: of its chats; or empty."""

    VERSION: ClassVar[int] = 1

    weights: str
    tokenizer: str
    template: str


@dataclass(frozen=True, kw_only=True)
class BenchmarkContents:
    """What an evaluator asks and how, beside its options.

    source_prompt, target_prompt: of a question put to that model, as text and as tokens. train, dev, test: of the problems of
    the splits that are used; empty for others.
    """

    VERSION: ClassVar[int] = 1

    readings: tuple[str, ...]
    instruction: str
    before: str
    after: str
    stop: tuple[str, ...]
    max_new_tokens: int
    exemplars: str
    source_prompt: str
    target_prompt: str
    train: str = ""
    dev: str = ""
    test: str = ""


FACTS = ("readings", "instruction", "before", "after", "stop", "max_new_tokens")


@dataclass(frozen=True, kw_only=True)
class Contents:
    """All of it. others: the targets beside the trial's own. device: what computes, as torch calls its kind.

    answering: version of what is common to all arms (`evaluation.setting.Setting.VERSION`). arms: those of a translator whose
    version is above 1, such as "shuffled 2"; a new arm changes nothing of what is kept. texts: of those of a mixture; or empty.
    """

    VERSION: ClassVar[int] = 1

    source: ModelContents
    target: ModelContents
    others: tuple[ModelContents, ...] = ()
    benchmark: BenchmarkContents
    device: str
    precision: str
    answering: int
    arms: tuple[str, ...] = ()
    texts: str = later("")


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """What is another in resolved contents than it was, in a few words each."""
    for member in MEMBERS:
        for part, words in OF_A_MODEL.items():
            if before[member][part] != now[member][part]:
                yield f"{member}'s {words}"
    if identified(before["others"]) != identified(now["others"]):
        yield "another target is another model"
    was, is_ = before["benchmark"], now["benchmark"]
    for fact in FACTS:
        if was[fact] != is_[fact]:
            yield f"{fact} of the benchmark is {is_[fact]!r}"
    if was["exemplars"] != is_["exemplars"]:
        yield "exemplars are others"
    for member in MEMBERS:
        if was[f"{member}_prompt"] != is_[f"{member}_prompt"]:
            yield f"{member}'s prompt is another"
    for split in SPLITS:
        if was[split] != is_[split]:
            yield f"{split} problems are others"
    if before.get("texts") != now.get("texts"):
        yield "further texts are others"
    if [before[part] for part in ("device", "precision")] != [now[part] for part in ("device", "precision")]:
        yield f"computed on {now['device']} in {now['precision']}"
    if before["answering"] != now["answering"]:
        yield f"answering: version {now['answering']}"
    yield from (f"arm {arm}" for arm in now["arms"] if arm not in before["arms"])


def raised(before: Any, now: Any) -> Iterator[str]:
    """Classes of a resolved config that are of another VERSION than they were, such as "GSM8K: version 2"."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        if before.get("VERSION") != now.get("VERSION"):
            yield f"{kind_in(now)}: version {now.get('VERSION')}"
        for name in now:
            yield from raised(before.get(name), now[name])
    elif isinstance(before, list) and isinstance(now, list):
        for one, other in zip(before, now, strict=False):
            yield from raised(one, other)
