"""What is said before a sweep or an evaluation starts."""

from __future__ import annotations

import pytest
import synthetic

from raybridge.analysis.plan import expected
from raybridge.results import Results


def test_an_evaluation_takes_as_long_as_earlier_ones_of_the_benchmark_took(tmp_path):
    results = Results(tmp_path)
    assert expected(results, ["bridged"], evaluator="pocket", count=100) is None
    synthetic.trial(tmp_path, "t", soft_tokens=16, points=2, n=20)
    assert expected(results, ["bridged"], evaluator="pocket", count=100) == pytest.approx(100 * (0.02 + 0.001 * (12 + 16)))
    assert expected(results, ["bridged", "unheard_of"], evaluator="pocket", count=100) > 4.8 + 4
    assert expected(results, ["bridged"], evaluator="gsm8k", count=100) is None
