"""Sweeps beside each other, and sweeps called from a folder of one's own: on a local cluster."""

from __future__ import annotations

from shutil import copytree

import pytest
from desk import Desk

from raybridge.models.names import POCKET
from raybridge.results import Results

SHORT = '''"""Does everything run?"""

from dataclasses import replace

from raybridge.trial import Trial

axes = {"pocket": dict(soft_tokens=[4])}


def trial(base: Trial, *, soft_tokens: int) -> Trial:
    translator = replace(base.translator, soft_tokens=soft_tokens, width=32, depth=1, heads=2)
    cut = dict(steps=20, warmup=4, batch=4, eval_every=20, dev_problems=8, test_problems=8)
    return replace(base, name=f"short_{soft_tokens}tok", translator=translator, **cut)
'''


@pytest.mark.cluster
@pytest.mark.timeout(400)
def test_of_two_sweeps_that_share_a_trial_one_runs_it_and_the_other_waits_and_reuses_it(tmp_path):
    desks = []
    for name in ("one", "other"):
        file = tmp_path / f"{name}.py"
        file.write_text(SHORT, encoding="utf8")
        desks.append(Desk(tmp_path, file))
    launches = [desk.launch() for desk in desks]
    for launch in launches:
        assert launch.process.wait(timeout=300) == 0, launch.said
        assert "short_4tok: complete, step 20 of 20" in launch.said
    (run,) = Results(tmp_path / "results").trials()
    assert (run.path / "train.log").read_text(encoding="utf8").count("from step ") == 1
    lines = (run.path / "metrics.jsonl").read_text(encoding="utf8").splitlines()
    assert len(lines) == run.metrics()["step"].nunique()
    assert not list(run.path.glob("failure.json"))


@pytest.mark.cluster
@pytest.mark.timeout(400)
def test_relative_paths_of_models_hold_in_the_workers(tmp_path):
    at = tmp_path / "meine Läufe 尺寸"
    for model in ("source", "target"):
        copytree(POCKET / model, at / "models" / f"{model}, mine")
    file = at / "wie groß?.py"
    relative = 'name=f"short_{soft_tokens}tok", source="./models/source, mine", target="models/target, mine",'
    file.write_text(SHORT.replace('name=f"short_{soft_tokens}tok",', relative), encoding="utf8")
    launch = Desk(at, file, at=at).launch()
    assert launch.process.wait(timeout=300) == 0, launch.said
    (run,) = Results(at / "results").trials()
    assert run.complete
    assert run.config["source"] == "./models/source, mine"
