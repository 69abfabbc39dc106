"""Trials are trained here for what becomes of them, not for what they learn or answer."""

import pytest
from quick import quick_start, short_answers


@pytest.fixture(autouse=True, scope="module")
def quick():
    with quick_start(), short_answers():
        yield
