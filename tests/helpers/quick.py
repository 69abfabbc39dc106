"""What is made smaller where its size is of no matter."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from evaluators.pocket import Pocket
from raybridge.evaluation import costs
from raybridge.training import fitting, start

FITTED_FROM = 16  # problems of train


@contextmanager
def short_answers(tokens: int = 20) -> Iterator[None]:
    """Answers of so many tokens: what they say is of no matter here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pocket, "max_new_tokens", tokens)
        yield


@contextmanager
def short_timings() -> Iterator[None]:
    """Arms are timed once over two tokens."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(costs, "TOKENS", 2)
        patch.setattr(costs, "REPEATS", 1)
        yield


@contextmanager
def quick_start() -> Iterator[None]:
    """Translators are fitted from a few problems when a trial starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(start, "fit", partial(fitting.fit, problems=FITTED_FROM))
        yield
