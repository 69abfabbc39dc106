"""Sweeps beside each other, and sweeps called from a folder of one's own: on a local cluster."""

from __future__ import annotations

from pathlib import Path
from shutil import copytree

import pytest
from desk import WITHOUT_RUNS, Desk, Launch

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


@pytest.fixture(scope="module")
def launched(tmp_path_factory) -> tuple[Path, list[Launch]]:
    """A folder in which its models are, and two sweeps of one trial that were started there together and have ended well."""
    at = tmp_path_factory.mktemp("places") / "meine Läufe 尺寸"
    for model in ("source", "target"):
        copytree(POCKET / model, at / "models" / f"{model}, mine")
    relative = 'name=f"short_{soft_tokens}tok", source="./models/source, mine", target="models/target, mine",'
    desks = []
    for name in ("wie groß?", "other"):
        file = at / f"{name}.py"
        file.write_text(SHORT.replace('name=f"short_{soft_tokens}tok",', relative), encoding="utf8")
        desks.append(Desk(at, file, WITHOUT_RUNS, at=at))
    launches = [desk.launch() for desk in desks]
    for launch in launches:
        assert launch.process.wait(timeout=300) == 0, launch.said
    return at, launches


@pytest.mark.cluster
@pytest.mark.timeout(400)
def test_of_two_sweeps_that_share_a_trial_one_runs_it_and_the_other_waits_and_reuses_it(launched):
    at, launches = launched
    for launch in launches:
        assert "short_4tok: complete, step 20 of 20" in launch.said
    (run,) = Results(at / "results").trials()
    assert (run.path / "train.log").read_text(encoding="utf8").count("from step ") == 1
    lines = (run.path / "metrics.jsonl").read_text(encoding="utf8").splitlines()
    assert len(lines) == run.metrics()["step"].nunique()
    assert not list(run.path.glob("failure.json"))


@pytest.mark.cluster
@pytest.mark.timeout(400)
def test_relative_paths_of_models_hold_in_the_workers(launched):
    at, _ = launched
    (run,) = Results(at / "results").trials()
    assert run.complete
    assert run.config["source"] == "./models/source, mine"
