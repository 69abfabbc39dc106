"""Tables say how many exemplars stood before every question."""

from __future__ import annotations

import math

import synthetic
from drawing import HOUSE

from raybridge.analysis.measures import shots_told
from raybridge.analysis.runs import Runs
from raybridge.analysis.scorecard import scorecard
from raybridge.analysis.sweeps import outcomes
from raybridge.plots.figures import load
from raybridge.results import Results


def test_tables_say_the_shots_and_where_arms_differ(tmp_path):
    run = synthetic.trial(tmp_path, "t", points=2, n=40)
    assert shots_told([math.nan, None]) == ""  # not on record is not none
    assert shots_told([0, 0.0]) == "0 shots in every arm"
    assert shots_told([8, 0]) == "0 to 8 shots, not the same in every arm"
    run.add_evals(run.evals().assign(shots=8).to_dict("records"))
    for key in Results(tmp_path).baselines():
        Results(tmp_path).write_baseline(key, Results(tmp_path).baseline(key).assign(shots=8))
    runs = Runs(Results(tmp_path))
    synthetic.sweep(tmp_path, "compression", [run])
    for name in ("main_results", "compression", "inference"):
        plot = load(HOUSE / f"plots/{name}.py")
        assert "8 shots in every arm" in plot.caption(plot.table(Runs(Results(tmp_path))))
    assert outcomes(runs, runs.trials)["shots"].tolist() == [8]
    samples = run.samples("pocket", "test", run.result()["best_step"]).assign(shots=8)
    told = dict(golds=5, evaluator="pocket", readings=["strict", "flexible"], split="test", step=1, title="t")
    assert "8 shots in every arm; savings and compression are of the question alone" in scorecard(samples, **told).notes
