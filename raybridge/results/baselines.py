"""Frozen arms as they are kept: what their rows depend on, the key that follows from it, and a key taken apart.

Rows of a frozen arm are the same for every trial. They are kept once for each identity and choice of problems, and carry the
identity's digest, so that rows of some problems can stand in for those of others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from raybridge.arms import Arm
from raybridge.config import Json, fingerprint


def identity_of(
    arm: Arm, *, source: str, target: str, evaluator: Json, soft_tokens: int, decoding: Json = None
) -> dict[str, Json]:
    """What the rows of a frozen arm depend on, the choice of problems left out. decoding: None for plain greedy decoding."""
    assert arm.frozen, arm.name
    identity: dict[str, Json] = {
        "arm": arm.name,
        "model": source if arm.answered_by == "source" else target,
        "evaluator": evaluator,
        "soft_tokens": soft_tokens if arm.of_k else 0,
    }
    if arm.passes_on:
        identity["source"] = source
    if decoding is not None:
        identity["decoding"] = decoding
    return identity


def identity_in(arm: Arm, config: Mapping[str, Any]) -> dict[str, Json]:
    """The same of a resolved trial, as its sweep evaluates it."""
    return identity_of(
        arm,
        source=config["source"],
        target=config["target"],
        evaluator=config["evaluator"],
        soft_tokens=config["translator"]["soft_tokens"],
    )


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
