"""Drawing as a person does: files, formats, bad input, plots and trials that fail."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import textwrap
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import synthetic
from drawing import HOUSE, command, made

from raybridge.analysis.cautions import cautions
from raybridge.plots import Figure, Runs, n_by_arm
from raybridge.plots.figures import load, make, plot_files
from raybridge.results import Results


def test_every_plot_file_says_what_it_needs_and_draws_from_these_results(runs):
    for path in plot_files():
        plot = load(path)
        assert plot.title
        assert plot.needs.startswith("python -m raybridge.sweep ")
        assert (HOUSE / plot.needs.split()[-1]).exists()
        assert plot.table(Runs(Results("/nowhere"))).empty


def test_drawing_twice_gives_the_same_bytes(results):
    once, again = Runs(results), Runs(results)
    for path in plot_files():
        first, second = (make(load(path), runs, ["pdf"]) for runs in (once, again))
        assert (first and first.files) == (second and second.files)


def test_the_csv_beside_a_figure_is_its_table(runs):
    plot = load(HOUSE / "plots/training_curves.py")
    table = plot.table(runs)
    pd.testing.assert_frame_equal(pd.read_csv(BytesIO(made(plot, runs)["csv"])), table, check_dtype=False, check_exact=True)


def test_a_caption_stands_beside_a_clean_figure(runs, tmp_path):
    plot = load(HOUSE / "plots/training_curves.py")
    files = made(plot, runs)
    caption = plot.caption(plot.table(runs))
    assert " ".join(files["txt"].decode().split()) == caption
    longer = replace(plot, caption=lambda table: caption * 20)
    wordy = made(longer, runs)["pdf"]
    assert wordy.count(b"/FontFile2") == files["pdf"].count(b"/FontFile2")
    box = re.compile(rb"/MediaBox \[[^]]*\]")
    assert box.findall(wordy) == box.findall(files["pdf"])  # no room for words


def test_smoke_runs_are_drawn_only_when_asked_for_and_say_so(tmp_path):
    synthetic.trial(tmp_path, "real_16tok", points=2, n=20)
    smoke = synthetic.trial(tmp_path / "smoke", "real_16tok", points=2, n=20, steps=20)
    plan = {"smoke": True, "trials": [{"name": smoke.name, "fingerprint": smoke.fingerprint}]}
    Results(tmp_path / "smoke").sweep("s").write_plan(plan)
    assert command("arms", "--results", tmp_path, "--format", "png").exit_code == 0
    assert not (tmp_path / "smoke/figures").exists()
    assert "real_16tok" in (tmp_path / "figures/arms.csv").read_text()
    assert " (2)" not in (tmp_path / "figures/arms.csv").read_text()
    assert "Smoke" not in (tmp_path / "figures/arms.txt").read_text()
    assert command("arms", "--results", tmp_path, "--smoke", "--format", "png").exit_code == 0
    assert "Smoke run: a few steps and problems" in (tmp_path / "smoke/figures/arms.txt").read_text()
    assert "smoke" in cautions(Runs(Results(tmp_path / "smoke")))["kind"].tolist()


def test_a_pdf_carries_its_origin_and_embeds_its_fonts(runs, results):
    plot = load(HOUSE / "plots/training_curves.py")
    pdf = made(plot, runs)["pdf"]
    for run in results.trials():
        assert run.fingerprint.encode() in pdf
    assert b"commit abc1234" in pdf
    assert b"CreationDate" not in pdf
    assert b"/Type3" not in pdf
    assert re.search(rb"/FontFile2", pdf)


def test_the_command_draws_what_it_can_and_names_the_sweep_for_what_it_cannot(results, tmp_path):
    done = command("--results", results.root)
    assert done.exit_code == 0, done.output
    for kind in ("pdf", "png", "csv"):
        assert (results.root / f"figures/training_curves.{kind}").stat().st_size > 0
    (tmp_path / "empty").mkdir()
    done = command("--results", tmp_path / "empty", HOUSE / "plots/training_curves.py")
    assert done.exit_code == 0
    assert "training_curves: no data; made by: python -m raybridge.sweep sweeps/compression.py" in done.output


def test_formats_and_sweep_are_chosen(results):
    for file in (results.root / "figures").glob("*"):
        file.unlink()
    done = command("plots/training_curves.py", "--results", results.root, "--format", "png", "--sweep", "compression")
    assert done.exit_code == 0, done.output
    assert {path.suffix for path in (results.root / "figures").iterdir()} == {".png", ".csv", ".txt"}
    assert "alone" not in (results.root / "figures/training_curves.csv").read_text()


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--sweep", "compresion"], "did you mean 'compression'"),
        (["--format", "pfd"], "unknown format 'pfd'; valid: pdf, png; did you mean 'pdf'"),
        (
            ["plots/training_curve.py"],
            r"plots/training_curve\.py: unknown plot 'training_curve'; valid: ablations, .*did you mean 'training_curves'",
        ),
        (["--results", "/nowhere"], "there is no folder /nowhere"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(results, args, says):
    done = command(*([] if "--results" in args else ["--results", results.root]), *args)
    assert done.exit_code == 2
    assert re.search(says, done.output), done.output
    assert "Traceback" not in done.output


def test_a_plot_is_found_by_its_name_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert [load(Path(named)).name for named in ("arms", "arms.py", "plots/arms.py")] == ["arms"] * 3


def test_a_caption_names_the_arms_that_answered_fewer_problems():
    rows = pd.DataFrame({"evaluator": "pocket", "arm": ["target", "bridged", "mean", "bridged_int8"], "n": [200, 200, 32, 32]})
    assert n_by_arm(rows) == "n = 200 (mean, bridged int8: 32)"
    assert n_by_arm(rows.head(2)) == "n = 200"
    assert n_by_arm(pd.concat([rows.head(2), rows.head(2).assign(evaluator="gsm8k")])) == "n = 200"
    other = rows.head(2).assign(evaluator="gsm8k", n=1319)
    assert n_by_arm(pd.concat([rows, other])) == "n = 1319 (gsm8k), n = 200 (pocket; mean, bridged int8: 32)"


def test_no_point_of_a_cost_figure_lies_on_its_edge(results):
    plot = load(HOUSE / "plots/inference_cost.py")
    figure = Figure()
    rows = plot.table(Runs(results))
    measured = (rows["arm"] == "bridged").map({True: 0.05, False: np.nan})  # only what `evaluate` has timed alone
    plot.draw(figure, rows.assign(latency_median=measured, timed=20))
    for ax in figure.axes:
        ends = np.concatenate([np.asarray(line.get_xdata(), dtype=float) for line in ax.lines])
        assert ax.get_xlim()[1] > 1.05 * np.nanmax(ends)


def plot_file(folder: Path, name: str, body: str) -> Path:
    path = folder / f"{name}.py"
    path.write_text('"""Title."""\nimport pandas as pd\nNEEDS = "python -m raybridge.sweep x"\n' + textwrap.dedent(body))
    return path


def test_one_plot_that_fails_does_not_keep_the_others_from_being_drawn(results, tmp_path):
    broken = plot_file(
        tmp_path,
        "broken",
        """
        def table(runs):
            return pd.DataFrame({"a": [1]})["b"]
        def caption(table): return ""
        def draw(figure, table): pass
        """,
    )
    (results.root / "figures/training_curves.png").unlink(missing_ok=True)
    done = command(broken, "plots/training_curves.py", "--results", results.root, "--format", "png")
    assert done.exit_code == 1
    assert "broken: failed: KeyError: 'b'" in done.output
    assert (results.root / "figures/training_curves.png").exists()


@pytest.mark.parametrize(("code", "says"), [(errno.ENOSPC, "error the disk is full"), (errno.EROFS, "error Read-only file")])
def test_a_disk_that_takes_nothing_ends_it_in_a_sentence(results, monkeypatch, code, says):
    def refuse(path, mode="r", *args, **kwargs):
        if set(mode) & set("wa"):
            raise OSError(code, os.strerror(code), str(path))
        return usual(path, mode, *args, **kwargs)

    usual = Path.open
    monkeypatch.setattr(Path, "open", refuse)
    done = command("plots/training_curves.py", "--results", results.root, "--format", "png", "--report")
    assert done.exit_code == 1
    assert says in done.output
    assert isinstance(done.exception, SystemExit)


def one_broken(tmp_path: Path, *names: str) -> list[Path]:
    """A sweep of two trials; the files of the first that are named are cut short."""
    runs = [synthetic.trial(tmp_path, f"t_{k}tok", soft_tokens=k, points=2, n=20) for k in (4, 8)]
    synthetic.sweep(tmp_path, "compression", runs)
    paths = [path for name in names for path in sorted(runs[0].path.glob(name))[:1]]
    for path in paths:
        path.write_bytes(path.read_bytes()[:50])
    return paths


@pytest.mark.parametrize("name", ["evals.parquet", "result.json", "provenance.json", "trial.json"])
def test_a_trial_that_cannot_be_read_is_left_out_and_said_so(tmp_path, name):
    (path,) = one_broken(tmp_path, name)
    done = command("--results", tmp_path, "--format", "png", "--report")
    assert done.exit_code == 1
    assert re.search(f"left out: {re.escape(str(path))} is not", done.output), done.output
    assert "1 trials in" in done.output
    assert "failed" not in done.output
    (arms,) = (line for line in done.output.splitlines() if line.startswith("arms: "))
    assert "arms.png" in arms
    rows = pd.read_csv(tmp_path / "figures/arms.csv")
    assert set(rows["label"]) == {"t_8tok"}
    plot = load(HOUSE / "plots/arms.py")
    assert make(plot, Runs(Results(tmp_path)), []).caption.endswith("Left out: 1 result on disk that cannot be read.")
    assert str(path) in (tmp_path / "report.html").read_text()


def test_a_baseline_that_cannot_be_read_is_missing_not_zero(tmp_path):
    one_broken(tmp_path)
    path = next(tmp_path.glob("baselines/source-pocket-test-*"))
    path.write_bytes(b"PAR1")
    done = command("--results", tmp_path, "--format", "png")
    assert done.exit_code == 1
    assert f"left out: {path} is not a parquet table" in done.output
    assert "failed" not in done.output
    assert "source" not in set(pd.read_csv(tmp_path / "figures/arms.csv")["arm"])


def test_a_plan_that_cannot_be_read_costs_the_names_of_its_sweep_and_nothing_else(tmp_path):
    one_broken(tmp_path)
    path = tmp_path / "sweeps/compression/plan.json"
    path.write_bytes(path.read_bytes()[:20])
    done = command("--results", tmp_path, "--format", "png", "--report")
    assert done.exit_code == 1
    assert f"left out: {path} is not JSON" in done.output
    assert "2 trials in" in done.output
    assert (tmp_path / "figures/arms.png").exists()
    assert str(path) in (tmp_path / "report.html").read_text()
    asked = command("--results", tmp_path, "--sweep", "compression")
    assert (asked.exit_code, f"error {path} is not JSON" in asked.output) == (2, True)


def test_samples_that_cannot_be_read_fail_what_needs_them_and_nothing_else(tmp_path):
    (path,) = one_broken(tmp_path, "samples/pocket/test/*.parquet")
    done = command("--results", tmp_path, "--format", "png", "--report")
    assert done.exit_code == 1
    assert f"scaling: failed: {path} is not a parquet table" in done.output
    assert (tmp_path / "figures/arms.png").exists()
    assert (tmp_path / "figures/training_curves.png").exists()
    assert "scaling: failed:" in (tmp_path / "report.html").read_text()


def test_of_equal_configurations_one_is_the_best(tmp_path):
    for name in ("a", "b"):
        run = synthetic.trial(tmp_path, name, points=2, n=20, steps=100 + ord(name))
        run.finish(run.result() | {"best": 0.5})
    runs = Runs(Results(tmp_path))
    assert set(runs.best_on_dev(runs.test)["label"]) == {"a"}


def test_a_plot_file_that_lacks_something_is_refused(results, tmp_path):
    path = plot_file(tmp_path, "half", "def table(runs): return None\ndef caption(table): return ''\n")
    done = command(path, "--results", results.root)
    assert done.exit_code == 2
    assert "lacks exactly one of draw and columns" in done.output
    path.write_text('"""Title."""\n')
    assert "lacks table, caption, NEEDS" in command(path, "--results", results.root).output


def test_the_command_as_a_module(results):
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "raybridge.plots",
            "plots/training_curves.py",
            "--results",
            str(results.root),
            "--format",
            "png",
        ],
        capture_output=True,
        text=True,
        check=True,
        cwd=HOUSE,
    )
    assert done.stdout.splitlines()[0] == f"7 trials in {results.root}"
