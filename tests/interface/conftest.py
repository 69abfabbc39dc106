"""A complete trial whose soft tokens depend on the question, and answers that are short."""

from __future__ import annotations

import pytest
from quick import short_answers
from small_bridge import finished

from raybridge.results import TrialRun


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> TrialRun:
    return finished(tmp_path_factory.mktemp("interface") / "ray_results")


@pytest.fixture(autouse=True)
def short():
    """What they say is of no matter here."""
    with short_answers():
        yield
