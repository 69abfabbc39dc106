"""Joint rescoring: source and target each score both answers, and the one that both together find likelier wins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from raybridge.arms.arm import SKY, Arm


@dataclass(frozen=True, kw_only=True)
class Joint(Arm):
    """One of the two models' own answers.

    An answer's score is the sum of its mean log-likelihoods per token under the two models, each behind the prompt
    that it answered itself, exemplars and all, the end token counted: means, because the two count tokens differently and a
    long answer should not lose for its length. Equal scores go to the target.
    """

    passes_on: tuple[str, ...] = ("source", "target")
    chooses: bool = True

    def choose(self, scores: Mapping[str, Mapping[str, Sequence[float]]]) -> list[str]:
        """The likelier of the two for each problem. scores: by model, by arm, the mean log-likelihood of each answer."""
        both = {arm: together(scores, arm) for arm in self.passes_on}
        pairs = zip(both["source"], both["target"], strict=True)
        return ["source" if source > target else "target" for source, target in pairs]


def together(scores: Mapping[str, Mapping[str, Sequence[float]]], arm: str) -> list[float]:
    """An arm's answers as both models together find them."""
    return [sum(values) for values in zip(*(of_model[arm] for of_model in scores.values()), strict=True)]


JOINT = Joint(name="joint", version=2, look={"color": SKY, "linestyle": "-.", "marker": "*"}, order=130)
