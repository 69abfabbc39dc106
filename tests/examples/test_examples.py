"""The examples do what they say: each is copied to where its docstring says, or run as a script."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from dataclasses import replace
from shutil import copy

import example_arm
import pytest
import torch
from small_bridge import finished

from raybridge import HOUSE, arms, translators
from raybridge.arms.arm import Texts
from raybridge.config import rebuild
from raybridge.training.step import build_trainer
from raybridge.world import World

EXAMPLES = HOUSE / "examples"


@pytest.fixture
def translator(tmp_path, monkeypatch):
    """The module of the example as a file of raybridge/translators/."""
    copy(EXAMPLES / "translator.py", tmp_path / "mean_state.py")
    monkeypatch.setattr(translators, "__path__", [*translators.__path__, str(tmp_path)])
    yield importlib.import_module("raybridge.translators.mean_state")
    del sys.modules["raybridge.translators.mean_state"]


@pytest.fixture
def arm(tmp_path, monkeypatch):
    """The example as a file of raybridge/arms/."""
    yield from example_arm.found(tmp_path / "arms", monkeypatch)


def test_translator_is_a_linear_map_of_the_mean_of_real_positions(translator):
    module = translator.MeanState(soft_tokens=3, layers=(0, 2)).build(8, 5, target_rms=0.5)
    states_BTLS = torch.randn(2, 6, 2, 8)
    mask_BT = torch.tensor([[True] * 6, [False] * 2 + [True] * 4])
    for row, real in ((0, slice(0, 6)), (1, slice(2, 6))):
        raw_KD = module.map(states_BTLS[row, real].mean(0).flatten()).view(3, 5)
        naive_KD = raw_KD / raw_KD.square().mean(-1, keepdim=True).sqrt() * 0.5
        torch.testing.assert_close(module(states_BTLS, mask_BT)[row], naive_KD)


def test_translator_is_trained_as_any_other(translator, trial, source, target):
    trial = replace(trial, translator=translator.MeanState(soft_tokens=8, layers=trial.translator.layers))
    assert rebuild(trial.resolved()) == trial
    trainer = build_trainer(trial, source=source, target=target, world=World())
    before = trainer.module.map.weight.clone()
    done = trainer.step(0, measure=True, interrupt=False)
    assert all(term.gradient > 0 for term in done.terms)
    assert not torch.equal(trainer.module.map.weight, before)


def test_arm_reads_the_sentence_that_asks(arm):
    questions = ["Ola has 9.5 pens. She gives 4 away! How many are left?", "How many?\n"]
    assert arm.texts(Texts(questions=questions, answers={})) == ["How many are left?", "How many?"]
    assert arm in arms.every()
    assert arm.frozen


def test_figure_is_an_object_that_is_drawn_from_results(results, tmp_path):
    done = subprocess.run(
        [sys.executable, EXAMPLES / "figure.py", results.root], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "<!-- 2_stable_8tok -->" in (tmp_path / "training_curves.svg").read_text()


@pytest.fixture
def asked(tmp_path, results, monkeypatch):
    """What the notebook is told: a trial that answers, and results that are drawn."""
    monkeypatch.setenv("TRIAL", str(finished(tmp_path / "ray_results").path))
    monkeypatch.setenv("RESULTS", str(results.root))
    monkeypatch.setenv("PYTHONPATH", str(HOUSE))


def test_notebook_has_no_outputs_and_its_cells_run(asked, monkeypatch):
    """Without a kernel, cell after cell."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    told: dict[str, object] = {}
    for cell in json.loads((EXAMPLES / "answer.ipynb").read_text())["cells"]:
        if cell["cell_type"] == "code":
            assert not cell["outputs"]
            exec("".join(cell["source"]), told)
    assert told["figure"].axes
    assert len(told["questions"]) == 4
    del sys.modules["figure"]


@pytest.mark.filterwarnings("default")  # of the kernel's own dependencies
def test_notebook_runs_in_a_kernel_and_shows_its_figure(asked):
    nbclient = pytest.importorskip("nbclient", reason="the optional extra notebook")
    pytest.importorskip("ipykernel", reason="the optional extra notebook")
    import nbformat

    notebook = nbformat.read(EXAMPLES / "answer.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(EXAMPLES)}}).execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert "small_8tok" in cells[0].outputs[-1].data["text/plain"]
    assert cells[1].outputs[-1].data["text/plain"] == "torch.Size([4, 8, 160])"
    assert cells[2].outputs[-1].data["text/html"].count("<tr") == 5
    assert "shuffled" in cells[3].outputs[-1].data["text/html"]
    assert "image/png" in cells[4].outputs[-1].data
