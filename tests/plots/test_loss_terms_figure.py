"""The figure of loss terms: each with its gradient, named and told apart."""

from __future__ import annotations

import synthetic
from drawing import HOUSE

from raybridge.losses.contrastive import InfoNCE
from raybridge.losses.distillation import TextKL
from raybridge.plots import Figure, Runs
from raybridge.plots.figures import load
from raybridge.results import Results


def test_loss_terms_mark_a_term_that_is_on_and_moves_nothing(tmp_path):
    run = synthetic.trial(tmp_path, "alone", points=2, n=20)
    run.append_metrics({"step": 2000, "loss/idle": 1.0, "weight/idle": 0.5, "gradient/idle": 0.0})
    run.append_metrics({"step": 2010, "loss/off": 1.0, "weight/off": 0.0, "gradient/off": 0.0})
    plot = load(HOUSE / "plots/loss_terms.py")
    rows = plot.table(Runs(Results(tmp_path)))
    assert set(rows["term"]) == {"answer", "reconstruction", "idle", "off"}
    assert set(rows.loc[rows["dead"], "term"]) == {"idle"}
    assert "No gradient although on: idle." in plot.caption(rows)
    answer = rows[rows["term"] == "answer"]
    assert answer["step"].max() == 1000
    assert answer["gradient"].gt(0).all()


def test_no_two_loss_terms_look_alike(tmp_path):
    run = synthetic.trial(tmp_path, "alone", points=2, n=20)
    names = [f"{what}/term_{number}" for number in range(8) for what in ("loss", "weight", "gradient")]
    for step in (2000, 2010):
        run.append_metrics({"step": step, **dict.fromkeys(names, 1.0)})
    plot = load(HOUSE / "plots/loss_terms.py")
    figure = Figure()
    plot.draw(figure, plot.table(Runs(Results(tmp_path))))
    handles = figure.legends[0].get_lines()
    looks = {(line.get_color(), line.get_marker(), line.get_markerfacecolor()) for line in handles}
    assert len(looks) == len(handles) == 10


def test_losses_have_their_written_names_in_legend_and_caption(tmp_path):
    run = synthetic.trial(tmp_path, "alone", points=2, n=20)
    for step in (2000, 2010):
        terms = {InfoNCE.name: 0.0, TextKL.name: 0.5}
        values = {f"{what}/{term}": 1.0 for what in ("loss", "weight") for term in terms}
        run.append_metrics({"step": step, **values, **{f"gradient/{term}": at for term, at in terms.items()}})
    plot = load(HOUSE / "plots/loss_terms.py")
    figure, rows = Figure(), plot.table(Runs(Results(tmp_path)))
    plot.draw(figure, rows)
    legends = {text.get_text() for text in figure.legends[0].get_texts()}
    assert {"InfoNCE", "text KL", "answer", "reconstruction"} <= legends
    assert "No gradient although on: InfoNCE." in plot.caption(rows)
