"""Frozen arms as they are kept: what their rows depend on, the key that follows from it, and a key taken apart.

Rows of a frozen arm are the same for every trial. They are kept once for each identity and choice of problems, and carry the
identity's digest, so that rows of some problems can stand in for those of others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from raybridge.arms import Arm, find
from raybridge.config import Json, fingerprint, identified
from raybridge.results.contents import FACTS, MEMBERS


def identity_in(
    arm: Arm, config: Mapping[str, Any], contents: Mapping[str, Any] | None, split: str, decoding: Json = None
) -> dict[str, Json]:
    """What the rows of a frozen arm of a resolved trial depend on, the choice of problems left out, as its sweep evaluates it.

    contents: None of an earlier identity, whose rows are still read. decoding: None for plain greedy decoding.
    """
    evaluator, k = config["evaluator"], config["translator"]["soft_tokens"]
    if contents is None:
        models = {"source": config["source"], "target": config["target"]}
        return earlier_identity(arm, **models, evaluator=evaluator, soft_tokens=k, decoding=decoding)
    return identity_of(arm, contents, evaluator=evaluator, split=split, soft_tokens=k, decoding=decoding)


def identity_of(
    arm: Arm, contents: Mapping[str, Any], *, evaluator: Json, split: str, soft_tokens: int, decoding: Json = None
) -> dict[str, Json]:
    """The same of resolved contents and a resolved evaluator."""
    assert arm.frozen, arm.name
    benchmark = contents["benchmark"]
    members = members_of(arm)
    identity: dict[str, Json] = {
        "arm": arm.name,
        "version": arm.version,
        "handed": {name: find(name).version for name in arm.passes_on},
        "models": {member: contents[member] for member in members},
        "prompts": {member: benchmark[f"{member}_prompt"] for member in members},
        "evaluator": evaluator,
        "benchmark": {fact: benchmark[fact] for fact in (*FACTS, "exemplars", split)},
        "soft_tokens": soft_tokens if arm.of_k else 0,
        **{part: contents[part] for part in ("device", "precision", "answering")},
    }
    if decoding is not None:
        identity["decoding"] = decoding
    told = identified(identity)
    assert isinstance(told, dict)
    return told


def members_of(arm: Arm) -> tuple[str, ...]:
    """The models that a frozen arm's rows depend on: who answers, who is consulted, and who gave the answers passed on."""
    asked = {arm.answered_by, *arm.consults, *(find(name).answered_by for name in arm.passes_on)}
    return tuple(member for member in MEMBERS if member in asked)


def trained_identity(
    arm: Arm, contents: Mapping[str, Any], *, evaluator: Json, split: str, trial: str, at: str, decoding: Json = None
) -> dict[str, Json]:
    """What the rows of a translator's arm depend on besides its trial, on whatever benchmark; see `identity_of`."""
    assert arm.trained, arm.name
    benchmark = contents["benchmark"]
    told = identified(
        {
            "arm": arm.name,
            "version": arm.version,
            "trial": trial,
            "at": at,
            "prompts": {member: benchmark[f"{member}_prompt"] for member in MEMBERS},
            "evaluator": evaluator,
            "benchmark": {fact: benchmark[fact] for fact in (*FACTS, "exemplars", split)},
            "decoding": decoding,
            **{part: contents[part] for part in ("device", "precision", "answering")},
        }
    )
    assert isinstance(told, dict)
    return told


def earlier_identity(
    arm: Arm, *, source: str, target: str, evaluator: Json, soft_tokens: int, decoding: Json = None
) -> dict[str, Json]:
    """The same where nobody has looked at the contents: models count by name, and the evaluator as it was recorded."""
    assert arm.frozen, arm.name
    identity: dict[str, Json] = {
        "arm": arm.name,
        "model": source if arm.answered_by == "source" else target,
        "evaluator": evaluator,
        "soft_tokens": soft_tokens if arm.of_k else 0,
    }
    if len(members_of(arm)) > 1:
        identity["source"] = source
    if decoding is not None:
        identity["decoding"] = decoding
    return identity


def digest(identity: Mapping[str, Json]) -> str:
    """Sixteen hex digits that rows carry: equal where they can stand for one another."""
    return fingerprint(dict(identity))[:16]


@dataclass(frozen=True, kw_only=True)
class Key:
    """The name of a file of baselines/. problems: digest of the identity and of the problems."""

    arm: str
    evaluator: str
    split: str
    problems: str

    def __str__(self) -> str:
        return f"{self.arm}-{self.evaluator}-{self.split}-{self.problems}"


def key_of(identity: Mapping[str, Json], evaluator: str, split: str, problems: Sequence[str]) -> str:
    """The key of rows by what they depend on and the ids of their problems, in order."""
    told = digest({**identity, "problems": list(problems)})
    return str(Key(arm=str(identity["arm"]), evaluator=evaluator, split=split, problems=told))


def parse(key: str) -> Key:
    """A key taken apart."""
    arm, _, rest = key.partition("-")
    parts = rest.rsplit("-", 2)
    if not arm or len(parts) < 3:
        raise ValueError(f"{key!r} is no key of a baseline; one is arm-evaluator-split-digest")
    return Key(arm=arm, evaluator=parts[0], split=parts[1], problems=parts[2])


def stands_for(key: str, rows: pd.DataFrame, identity: Mapping[str, Json]) -> bool:
    """Whether rows that are kept under a key have this identity. Rows of old carry none: their key tells it."""
    if "identity" in rows and len(rows):
        return str(rows["identity"].iloc[0]) == digest(identity)
    told = parse(key)
    return key == key_of(identity, told.evaluator, told.split, rows["problem"].tolist())
