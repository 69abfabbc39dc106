"""What stands before and after every question, as text, for each model and with the exemplars where an arm has them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

from raybridge.data import Evaluator
from raybridge.evaluation.benchmarks import exemplars_of
from raybridge.models.frozen import FrozenLM
from raybridge.models.identity import model_identity
from raybridge.models.prompts import Frame, frame, template_hash


@dataclass(frozen=True, kw_only=True)
class Around:
    """One frame. digest: as rows carry it (`template_hash`). exemplars: how many are in it. anchor: what answers begin with."""

    digest: str
    model: str
    exemplars: int
    anchor: str
    before: str
    after: str

    def told(self, evaluator: str) -> dict[str, Any]:
        """What a bundle says of it."""
        return {
            **{"evaluator": evaluator, "template_hash": self.digest, "model": self.model},
            **{"exemplars": self.exemplars, "anchor": self.anchor},
        }


def frames_of(evaluator: Evaluator, models: Iterable[str], anchors: Iterable[str] = ("",)) -> dict[str, Around]:
    """The frames of a benchmark by their digest, for these models by name. Their tokenizers must be here."""
    shots = exemplars_of(evaluator)
    found: dict[str, Around] = {}
    for model in dict.fromkeys(models):
        lm = cast(FrozenLM, model_identity(model))  # a prompt is made of its tokenizer alone
        for exemplars in dict.fromkeys([(), shots]):
            for anchor in dict.fromkeys(anchors):
                around = frame(lm, evaluator, exemplars=exemplars).anchored(anchor)
                digest = template_hash(around)
                texts = {"before": around.before_text, "after": around.after_text}
                told = Around(digest=digest, model=model, exemplars=len(exemplars), anchor=anchor, **texts)
                found.setdefault(digest, told)
    return found


def digest_of(before: str, after: str) -> str:
    """The digest of a frame by its texts, as rows carry it."""
    return template_hash(cast(Frame, SimpleNamespace(before_text=before, after_text=after)))
