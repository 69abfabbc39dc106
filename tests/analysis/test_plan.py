"""What is said before a sweep or an evaluation starts."""

from __future__ import annotations

import pytest
import synthetic

from raybridge.analysis.plan import expected, rates_of
from raybridge.results import Results
from raybridge.results.launch import Timing


def test_an_evaluation_takes_as_long_as_earlier_ones_of_the_benchmark_took(tmp_path):
    results = Results(tmp_path)
    assert expected(results, ["bridged"], evaluator="pocket", count=100) is None
    synthetic.trial(tmp_path, "t", soft_tokens=16, points=2, n=20)
    assert expected(results, ["bridged"], evaluator="pocket", count=100) == pytest.approx(100 * (0.02 + 0.001 * (12 + 16)))
    assert expected(results, ["bridged", "unheard_of"], evaluator="pocket", count=100) > 4.8 + 4
    assert expected(results, ["bridged"], evaluator="gsm8k", count=100) is None


@pytest.mark.parametrize("name", ["evals.parquet", "result.json", "timing.json", "trial.json"])
def test_what_is_broken_of_one_trial_keeps_no_time_of_another_from_being_told(tmp_path, name):
    results = Results(tmp_path)
    whole, broken = (synthetic.trial(tmp_path, f"t_{k}", soft_tokens=k, points=2, n=20) for k in (16, 8))
    for run in (whole, broken):
        run.launch.write_timing(Timing(started=0.0, first_step=1.0, ended=100.0))
    (broken.path / name).write_text("broken", encoding="utf8")
    assert expected(results, ["bridged"], evaluator="pocket", count=100) is not None
    assert sum(map(len, rates_of(results).values())) == (2 if name == "evals.parquet" else 1)
