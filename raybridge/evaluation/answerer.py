"""Who answers: what an evaluation asks of this process or of a pool of replicas, and this process as one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

from torch import Tensor

from raybridge.arms import Arm
from raybridge.evaluation.answering import answer
from raybridge.evaluation.conditioning import look_inside
from raybridge.evaluation.costs import measure
from raybridge.evaluation.kept_source import Reading
from raybridge.evaluation.models import Models
from raybridge.evaluation.prompt import prompt_of
from raybridge.evaluation.scoring import check_alignment
from raybridge.evaluation.setting import Request, Setting

Weights = Mapping[str, Tensor]
Rows = list[dict[str, Any]]


class Answerer(Protocol):
    """Answers requests. weights: the translator's, needed by requests with an arm of a translator."""

    @property
    def device(self) -> str:
        """What it answers on, for the record."""

    def answer(self, requests: Sequence[Request], weights: Weights | None) -> Iterator[tuple[int, Rows]]:
        """(number of the request, its rows) as each is done."""

    def start(self, requests: Sequence[Request], weights: Weights | None) -> Future[Rows]:
        """The rows of all requests in their order, when they are asked for; does not wait where others answer."""

    def costs(self, request: Request, arm: Arm, weights: Weights | None, *, alone: int) -> dict[str, dict[str, float]]:
        """What an arm costs on the request's problems; see `costs.measure`."""

    def check(self, request: Request, weights: Weights | None) -> None:
        """Assert that training and decoding read the first answer token from the same position."""

    def keep(self, readings: Sequence[Reading]) -> Iterator[int]:
        """Number of each reading whose states are on disk, as each is done."""

    def look(self, setting: Setting, weights: Weights) -> Rows:
        """What a translator's soft tokens look like from inside; see `conditioning.look_inside`."""


class Local:
    """This process."""

    def __init__(self, models: Models) -> None:
        self.models = models

    @property
    def device(self) -> str:
        """The models'."""
        return str(self.models.device)

    def answer(self, requests: Sequence[Request], weights: Weights | None) -> Iterator[tuple[int, Rows]]:
        """One after the other."""
        for number, request in enumerate(requests):
            self.models.hold(needed(request))
            yield number, answer(request, self.models, weights)

    def start(self, requests: Sequence[Request], weights: Weights | None) -> Future[Rows]:
        """Answered at once."""
        done: Future[Rows] = Future()
        done.set_result([row for _, rows in self.answer(requests, weights) for row in rows])
        return done

    def costs(self, request: Request, arm: Arm, weights: Weights | None, *, alone: int) -> dict[str, dict[str, float]]:
        """Measured here."""
        self.models.hold({request.setting.source, request.setting.target})
        return measure(request, self.models, arm, weights, alone=alone)

    def check(self, request: Request, weights: Weights | None) -> None:
        """Checked here."""
        self.models.hold(needed(request))
        check(request, self.models, weights)

    def keep(self, readings: Sequence[Reading]) -> Iterator[int]:
        """Read here, one after the other."""
        for number, reading in enumerate(readings):
            self.models.keep(reading)
            yield number

    def look(self, setting: Setting, weights: Weights) -> Rows:
        """Looked at here."""
        self.models.hold({setting.target})
        return look_inside(setting, self.models, weights)


def needed(request: Request) -> set[str]:
    """The models that have to be in memory for a request: the source only where it answers, judges answers or is consulted."""
    setting = request.setting
    by_source = any(arm.answered_by == "source" or arm.chooses or "source" in arm.consults for arm in request.arms)
    return {setting.target, *([setting.source] if by_source else [])}


def check(request: Request, models: Models, weights: Weights | None) -> None:
    """Assert that training and decoding read the first answer token from the same position, by a request's only arm.

    On the prompts that are answered, exemplars and all.
    """
    (arm,) = request.arms
    check_alignment(prompt_of(request, models, arm, models.written(request, weights), shots=True, weights=weights))
