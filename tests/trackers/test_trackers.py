"""Trackers told of runs on disk: every number once, a control beside its arm, and nothing lost where one fails."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import synthetic
from opened import ENDED

from raybridge.arms import find
from raybridge.results import Results
from raybridge.trackers import LogTo, built, following
from raybridge.trackers.series import news, panels, points
from raybridge.trackers.tracker import Ended, Panel, Point, Tracked

BRIDGED = "dev/pocket/accuracy_strict/bridged"


@dataclass
class Book:
    """A tracker that writes down what it is told, and its own run."""

    name: str = "book"
    id: str = "page 1"
    points: list[Point] = field(default_factory=list)
    panels: list[Panel] = field(default_factory=list)
    begun: list[tuple[str, str | None]] = field(default_factory=list)
    ends: list[Ended] = field(default_factory=list)
    reports: list[str] = field(default_factory=list)

    def begin(self, trial: Tracked, run: str | None) -> Book:
        self.begun.append((trial.name, run))
        return self

    def log(self, points):
        self.points += points

    def show(self, panels):
        self.panels = list(panels)

    def end(self, ended):
        self.ends.append(ended)

    def attach(self, reports, sweep):
        self.reports += [report.read_text() for report in reports]

    def where(self) -> str:
        return "here"

    def values(self, name: str) -> list[tuple[int, float]]:
        return [(point.step, point.values[name]) for point in self.points if name in point.values]


def trial(root: Path, *, complete: bool = True, **changes):
    return synthetic.trial(root, "2_stable_16tok", points=3, n=20, complete=complete, baselines=False, **changes)


def curve(run, arm: str) -> list[tuple[int, float]]:
    rows = run.evals()
    chosen = rows[(rows["arm"] == arm) & (rows["split"] == "dev") & (rows["reading"] == "strict")]
    return list(zip(chosen["step"], chosen["accuracy"], strict=True))


def test_a_tracker_is_told_every_number_once_by_any_number_of_launches(tmp_path):
    run, first, second = trial(tmp_path, complete=False), Book(), Book()
    with following([first], Results(tmp_path), sweep="s") as told:
        told.follow([run])
        told.look()
        told.look()
    assert first.values("train/loss") == list(zip(run.metrics()["step"], run.metrics()["loss"], strict=True))
    assert first.values(BRIDGED) == curve(run, "bridged")
    assert first.begun == [("2_stable_16tok", None)]
    assert first.ends == ["interrupted"]
    run.append_metrics({"step": 1010, "loss": 0.5, "mfu": None})
    run.finish(ENDED | {"steps": 1010})
    with following([second], Results(tmp_path), sweep="s") as told:
        told.follow([run])
    assert [(one.step, dict(one.values)) for one in second.points] == [(1010, {"train/loss": 0.5})]
    assert second.begun == [("2_stable_16tok", "page 1")]
    assert second.ends == ["complete"]
    third = Book()
    with following([third], Results(tmp_path), sweep="s") as told:
        told.follow([run])
    assert third.begun == []


def test_what_was_not_measured_is_left_out_and_no_zero(tmp_path):
    run = trial(tmp_path)
    assert all("train/mfu" not in point.values for point in points(run))
    assert "train/learning_rate" in points(run)[0].values
    assert not news(points(run), {name: 10**6 for point in points(run) for name in point.values})


def test_a_panel_has_an_arm_and_its_control(tmp_path):
    run = trial(tmp_path)
    by_title = {panel.title: panel for panel in panels(run) if list(panel.lines) == ["bridged", "shuffled"]}
    panel = by_title["dev/pocket/accuracy_strict"]
    assert list(panel.lines["bridged"].items()) == curve(run, "bridged")
    assert list(panel.lines["shuffled"].items()) == curve(run, "shuffled")
    assert "test/pocket/nll" in by_title
    assert all(find(arm).against == control for panel in panels(run) for arm, control in [list(panel.lines)])


def test_a_tracker_that_fails_ends_neither_the_launch_nor_the_others(tmp_path):
    run, good, bad = trial(tmp_path), Book(), Book(name="away")
    bad.log = lambda points: (_ for _ in ()).throw(ConnectionError("no server\nat all"))
    after, said = [], []
    failed = pytest.raises(RuntimeError, match=r"away \(ConnectionError: no server\); results are whole")
    with failed, following([bad, good], Results(tmp_path), sweep="s", say=said.append) as told:
        told.follow([run])
        told.look()
        after.append(1)
    assert after == [1]
    assert said == ["away: here", "book: here", "away is told no more: ConnectionError: no server"]
    assert good.values(BRIDGED) == curve(run, "bridged")
    assert good.ends == ["complete"]
    assert bad.ends == []


def test_a_config_is_flat_and_whole():
    config = {"translator": {"soft_tokens": 4, "layers": [0, 2]}, "losses": [{"weight": 1.5}], "mixture": None, "packed": True}
    flat = Tracked(name="t", fingerprint="f", sweep="s", config=config, folder=Path()).flat()
    assert flat == {"translator.soft_tokens": 4, "translator.layers": "[0, 2]", "losses.0.weight": 1.5, "packed": True}


def test_a_report_is_attached_once_all_is_told(tmp_path):
    run, book = trial(tmp_path), Book()
    (tmp_path / "report.md").write_text("# found")
    with following([book], Results(tmp_path), sweep="s") as told:
        told.follow([run])
        told.attach([tmp_path / "report.md"])
        assert book.values(BRIDGED) == curve(run, "bridged")
    assert book.reports == ["# found"]


def told_to(kind, root: Path, run) -> Results:
    """A tracker told of a run in two launches, with a report."""
    results = Results(root)
    (root / "EXPERIMENTS_SUMMARY.md").write_text("# found 17 things")
    tracker = built(kind, results, sweep="compression")
    assert tracker.where()
    with following([tracker], results, sweep="compression") as told:
        told.follow([run])
        told.look()
    run.append_metrics({"step": 1010, "loss": 0.5})
    tracker = built(kind, results, sweep="compression")
    with following([tracker], results, sweep="compression") as told:
        told.follow([run])
        told.attach([root / "EXPERIMENTS_SUMMARY.md"])
    return results


@pytest.mark.filterwarnings("ignore")  # of TensorBoard's own
def test_tensorboard_reads_one_run_a_trial(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", exc_type=ImportError)
    run = trial(tmp_path)
    folder = told_to(LogTo.TENSORBOARD, tmp_path, run).tracked("tensorboard")
    everything = dict.fromkeys(("scalars", "tensors"), 0)
    read = accumulator.EventAccumulator(str(folder / run.path.name), size_guidance=everything).Reload()
    assert {path.parent.name for path in folder.glob("*/events.*")} == {run.path.name, "compression"}
    scalars = [(one.step, round(one.value, 6)) for one in read.Scalars(BRIDGED)]
    assert scalars == [(step, round(value, 6)) for step, value in curve(run, "bridged")]
    assert [one.step for one in read.Scalars("train/loss")] == list(run.metrics()["step"])
    assert read.SummaryMetadata("custom_scalars__config__").plugin_data.plugin_name == "custom_scalars"
    (layout,) = read.Tensors("custom_scalars__config__")[-1].tensor_proto.string_val
    assert rb"dev/pocket/accuracy_strict/shuffled$" in layout
    (config,) = read.Tensors("config/text_summary")[0].tensor_proto.string_val
    assert json.loads(config.decode().strip("`").removeprefix("json")) == run.config
    assert b"translator.soft_tokens" in read.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    read = accumulator.EventAccumulator(str(folder / "compression")).Reload()
    (report,) = read.Tensors("EXPERIMENTS_SUMMARY/text_summary")[0].tensor_proto.string_val
    assert report == b"# found 17 things"


@pytest.mark.filterwarnings("ignore")  # of MLflow's own
def test_mlflow_reads_one_run_a_trial(tmp_path, monkeypatch):
    pytest.importorskip("sqlalchemy")
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run = trial(tmp_path)
    folder = told_to(LogTo.MLFLOW, tmp_path, run).tracked("mlflow")
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    kept = {one.info.run_name: one for one in client.search_runs([client.get_experiment_by_name("compression").experiment_id])}
    assert set(kept) == {run.name, "compression"}
    own = kept[run.name]
    assert own.info.status == "FINISHED"
    assert own.data.params["translator.soft_tokens"] == "16"
    history = client.get_metric_history(own.info.run_id, BRIDGED)
    assert sorted((one.step, one.value) for one in history) == curve(run, "bridged")
    assert len(client.get_metric_history(own.info.run_id, "train/loss")) == len(run.metrics())
    panels_ = [one.path for one in client.list_artifacts(own.info.run_id, "panels")]
    assert "panels/dev pocket accuracy_strict bridged shuffled.png" in panels_
    report = client.list_artifacts(kept["compression"].info.run_id)
    assert [one.path for one in report] == ["EXPERIMENTS_SUMMARY.md"]


@pytest.mark.filterwarnings("ignore")  # of W&B's own
def test_weights_and_biases_keeps_one_run_a_trial_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = trial(tmp_path)
    results = told_to(LogTo.WANDB, tmp_path, run)
    folder = results.tracked("wandb")
    run_id = json.loads((folder / run.path.name / "told.json").read_text())["run"]
    files = [path.read_bytes() for path in sorted(folder.glob(f"wandb/offline-run-*/run-{run_id}.wandb"))]
    assert len(files) == 2  # a launch each, one run: they are synchronised by its id
    assert all(BRIDGED.encode() in files[0] and name in files[0] for name in (b"soft_tokens", b"shuffled", b"train/loss"))
    assert BRIDGED.encode() not in files[1].replace(b"panels", b"")
    assert b"train/loss" in files[1]


@pytest.mark.filterwarnings("ignore")  # of W&B's own
def test_weights_and_biases_without_a_key_is_refused_before_anything_starts(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setattr(wandb, "login", lambda *, prompt: prompt)
    with pytest.raises(ValueError, match="WANDB_MODE=offline"):
        built(LogTo.WANDB, Results(tmp_path), sweep="s")


def test_a_tracker_that_is_not_installed_is_refused_with_what_to_type(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    monkeypatch.delitem(__import__("sys").modules, "raybridge.trackers.wandb", raising=False)
    with pytest.raises(ValueError, match=r"pip install 'raybridge\[wandb\]'"):
        built(LogTo.WANDB, Results(tmp_path), sweep="s")
    assert not (tmp_path / "trackers").exists()
