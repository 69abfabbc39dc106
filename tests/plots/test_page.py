"""The report and its cautions: what is said, and that the page needs nothing from outside."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
import synthetic
from opened import plain
from typer.testing import CliRunner

from raybridge.analysis.cautions import cautions
from raybridge.analysis.questions import problems_of
from raybridge.analysis.runs import Runs
from raybridge.analysis.seeds import mean_gap
from raybridge.analysis.sweeps import changes, costs, differences, outcomes
from raybridge.config import resolve
from raybridge.plots.__main__ import app
from raybridge.plots.page import SCRIPT, STYLE, Drawn, examples, report
from raybridge.results import Results
from raybridge.results.files import write_frame

ARMS = ("bridged", "shuffled")
FEW = "60 test problems of pocket: between two that disagree on half of them, a difference below 0.25 would often be missed"
ALONE = {"one seed": ["its differences are of a checkpoint; of the method another seed must tell"]}


@pytest.fixture
def one(tmp_path):
    """One complete trial with 60 problems, and a way to write its test samples anew."""
    return synthetic.trial(tmp_path, "2_stable_s1_16tok", soft_tokens=16, seed=1, level=1.0, points=3, n=60)


def digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def said(root: Path) -> dict[str, list[str]]:
    return cautions(Runs(Results(root))).groupby("kind")["sentence"].agg(list).to_dict()


class Balanced(HTMLParser):
    """Every element that is opened is closed, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing_from_outside(tmp_path):
    synthetic.compression(tmp_path, tokens=(8, 32), seeds=(1, 2), n=60)
    done = CliRunner().invoke(app, ["--results", str(tmp_path), "--report", "--format", "png"])
    assert done.exit_code == 0, done.output
    page = (tmp_path / "report.html").read_text()
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in parser.links)
    assert page.count("<script>") == 1
    assert page.count(digest(SCRIPT)) == page.count(digest(STYLE)) == 1  # what may run and look is named, nothing else may
    assert len(re.findall("data:image/png", page)) >= 5
    assert "loss_ablation: no data; made by: python -m raybridge.sweep sweeps/loss_ablation.py" in page
    for run in Results(tmp_path).trials():
        assert run.fingerprint in page
    again = CliRunner().invoke(app, ["--results", str(tmp_path), "--report", "--format", "png"])
    assert again.exit_code == 0
    assert (tmp_path / "report.html").read_text() == page


def test_a_plot_that_fails_does_not_keep_the_report_from_being_written(tmp_path, one):
    broken = tmp_path / "broken.py"
    broken.write_text('"""T."""\nNEEDS = "x"\ndef table(runs): raise KeyError("b")\ndef caption(t): ...\ndef draw(f, t): ...\n')
    done = CliRunner().invoke(app, [str(broken), "--results", str(tmp_path), "--report"])
    assert done.exit_code == 1
    assert (tmp_path / "report.html").exists()


def test_completions_are_shown_as_text(tmp_path, one):
    step = one.result()["best_step"]
    samples = one.samples("pocket", "test", step)
    one.write_samples("pocket", "test", step, samples.assign(completion="<script>alert(1)</script>"))
    page = report(Runs(Results(tmp_path)), [Drawn(title="<b>", png=b"x", caption='"quoted"')], ["<i>"])
    assert page.count("<script>") == 1  # ours
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert 'alt="&lt;b&gt;"' in page
    assert "<b>&lt;b&gt;.</b> &quot;quoted&quot;</figcaption>" in page


def test_an_example_shows_its_question_and_what_counts_as_right(tmp_path):
    from evaluators.pocket import Pocket

    asked = resolve(Pocket(test=60))
    synthetic.trial(tmp_path, "t", points=3, n=60, evaluator=asked)
    page = report(Runs(Results(tmp_path)), [], [])
    problem = Pocket(test=60).problems("test")[0]
    shown = [one for one in Pocket(test=60).problems("test") if escape(one.question) in page]
    assert shown
    assert all(f"<pre>{escape(one.question)}</pre>gold: {escape(one.gold)}</div>" in page for one in shown)
    assert problem.id.startswith("pocket/test/")
    assert "Without question and gold" not in page


def test_a_benchmark_that_cannot_be_had_is_said(tmp_path, one):
    page = report(Runs(Results(tmp_path)), [], [])
    assert "Without question and gold: Pocket was recorded at version 1" in page
    with pytest.raises(ValueError, match="the trial says nothing of how gsm8k was set up"):
        problems_of(one.config, "gsm8k", "test")


def test_examples_are_what_they_are_called():
    rows = [
        ("p1", "bridged", 1.0, "a"), ("p1", "target", 0.0, "x"),
        ("p2", "bridged", 0.0, "same"), ("p2", "target", 1.0, "y"),
        ("p3", "bridged", 0.0, "same"), ("p3", "target", 0.0, "z"),
        ("p4", "bridged", 1.0, ""), ("p4", "target", 1.0, "w"),
    ]  # fmt: skip
    answers = pd.DataFrame(rows, columns=["problem", "arm", "score_strict", "completion"])
    wins, losses, collapses = examples(answers, "bridged", "score_strict").values()
    assert (wins, losses, collapses) == (["p1"], ["p2"], ["p2", "p3"])


def test_differences_are_what_the_trials_of_a_sweep_do_not_share(tmp_path):
    for k in (8, 16):
        synthetic.trial(tmp_path, f"t_{k}tok", soft_tokens=k, points=2, n=20)
    runs = Runs(Results(tmp_path))
    assert differences(runs, runs.trials).columns.tolist() == ["configuration", "translator.soft_tokens"]


def test_a_field_that_is_none_in_one_trial_and_set_in_another_is_a_difference(tmp_path):
    def stopping(**fields):
        return {"class": "raybridge.stopping:Stopping", **fields}

    synthetic.trial(tmp_path, "a", points=2, n=20, stopping=stopping(patience=None, degradation=None))
    synthetic.trial(tmp_path, "b", points=2, n=20, stopping=stopping(patience=3, degradation=None))
    synthetic.trial(tmp_path, "c", points=2, n=20, stopping=stopping(patience=3, degradation=None, only_here=1))
    runs = Runs(Results(tmp_path))
    found = differences(runs, runs.trials)
    assert found.columns.tolist() == ["configuration", "stopping.patience"]
    assert found["stopping.patience"].tolist() == ["none", 3, 3]


def test_a_trial_that_another_sweep_ran_has_the_name_that_this_sweep_gave_it(tmp_path):
    ran = [synthetic.trial(tmp_path, f"0a_replicate_s{seed}_16tok", seed=seed, points=2, n=20) for seed in (1, 2, 3)]
    synthetic.sweep(tmp_path, "replicates", ran)
    plan = [{"name": f"9x_other_s{run.config['seed']}_16tok", "fingerprint": run.fingerprint} for run in ran]
    Results(tmp_path).sweep("other").write_plan({"trials": plan})
    runs = Runs(Results(tmp_path))
    assert outcomes(runs, runs.of_sweep("replicates"))["configuration"].tolist() == ["0a_replicate_16tok"]
    assert outcomes(runs, runs.of_sweep("other"))["configuration"].tolist() == ["9x_other_16tok"]
    assert set(Runs(Results(tmp_path), "other").trials["label"]) == {"9x_other_16tok"}
    assert "A/A band: 0." in report(runs, [], [])


def test_the_gap_is_told_beside_that_of_shuffled(tmp_path):
    synthetic.trial(tmp_path, "t", points=2, n=60, level=1.0)
    runs = Runs(Results(tmp_path))
    row = outcomes(runs, runs.trials).iloc[0]
    gaps = [
        mean_gap(runs, {"fingerprint": runs.trials["fingerprint"][0], "evaluator": "pocket", "arm": arm})[0] for arm in ARMS
    ]
    assert row["gap recovered (shuffled)"] == "{:.2f} ({:.2f})".format(*gaps)


def test_a_trial_that_a_sweep_asked_for_and_that_left_nothing_is_told(tmp_path, one):
    plan = [{"name": one.name, "fingerprint": one.fingerprint}, {"name": "lost", "fingerprint": "f" * 64}]
    Results(tmp_path).sweep("other").write_plan({"trials": plan})
    assert said(tmp_path)["not complete"] == ["sweep other asked for it and there is nothing on disk of it"]


def test_a_trial_is_told_against_the_base_of_its_sweep(tmp_path):
    runs = [synthetic.trial(tmp_path, f"t_{k}tok", soft_tokens=k, points=2, n=20, steps=k * 10) for k in (8, 16)]
    synthetic.sweep(tmp_path, "compression", runs)
    changed = changes(*(run.config for run in runs)).set_index("field")
    assert changed["base"].to_dict() == {"translator.soft_tokens": 8, "steps": 80}
    assert changed["this trial"].to_dict() == {"translator.soft_tokens": 16, "steps": 160}
    page = report(Runs(Results(tmp_path)), [], [])
    assert "the base of sweep compression: its other trials are told against this one" in page
    assert "against the base of sweep compression, t_8tok" in page


def test_cost_counts_gpu_hours_and_says_what_was_not_recorded(tmp_path):
    for name in ("a", "b"):
        run = synthetic.trial(tmp_path, name, soft_tokens=4, points=2, n=20, steps=100 + ord(name))
        run.finish(run.result() | ({"train_seconds": 7200.0} if name == "a" else {"train_seconds": None}))
        provenance = plain(run.path / "provenance.json")
        provenance["hardware"]["gpus"] = ["H200"] * 4
        (run.path / "provenance.json").write_text(json.dumps(provenance))
    rows = costs(Runs(Results(tmp_path))).set_index("configuration")
    assert rows["GPU hours"].isna().all()  # which of the four were used is not recorded
    (run,) = [run for run in Results(tmp_path).trials() if run.name == "a"]
    run.finish(run.result() | {"gpus": 2})
    rows = costs(Runs(Results(tmp_path))).set_index("configuration")
    assert rows["GPU hours"].dropna().to_dict() == {"a": 4.0, "all": 4.0}
    assert rows["training"].to_dict()["a"] == "2.0 h"
    assert rows["not recorded"].to_dict() == {"a": "", "b": "1 trial", "all": "1 trial"}


def test_every_trial_without_a_gpu_has_no_gpu_hours(tmp_path, one):
    assert costs(Runs(Results(tmp_path)))["GPU hours"].tolist() == [0.0, 0.0]


def test_a_bridge_without_its_control_is_said(tmp_path, one):
    evals = one.evals().query("not (split == 'test' and arm == 'shuffled')")
    write_frame(one.path / "evals.parquet", evals)
    assert said(tmp_path)["no control"] == ["no shuffled control was run on pocket: what its soft tokens carry is not known"]


def test_a_sound_trial_gives_no_caution_but_that_its_problems_are_few(tmp_path, one):
    assert said(tmp_path) == {"n too small": [FEW]} | ALONE


def test_enough_problems_give_none(tmp_path):
    for seed in (1, 2):
        synthetic.trial(tmp_path, f"t_s{seed}", seed=seed, points=2, n=500, level=2.0)
    assert said(tmp_path) == {}


def test_one_seed_is_one_checkpoint(tmp_path):
    for seed, steps in ((1, 1000), (2, 1000), (1, 500), (1, 800)):
        synthetic.trial(tmp_path, f"t_{steps}_s{seed}", seed=seed, steps=steps, points=2, n=500, level=2.0)
    found = cautions(Runs(Results(tmp_path)))
    assert found[found["kind"] == "one seed"]["trial"].tolist() == ["2 trials"]
    assert said(tmp_path)["one seed"] == ALONE["one seed"]


@pytest.mark.parametrize(
    ("rival", "arm", "kind", "sentence"),
    [
        (
            "token_budget",
            "bridged",
            "token budget is better",
            "the first K tokens of the question as text beat the bridged arm",
        ),
        ("target", "bridged_with_text", "text is harmed", "the text alone beats the bridged_with_text arm"),
    ],
)
def test_what_is_better_without_a_translator_is_told(tmp_path, one, rival, arm, kind, sentence):
    assert kind not in said(tmp_path)
    step = one.result()["best_step"]
    samples = one.samples("pocket", "test", step)
    samples.loc[samples["arm"] == arm, "score_strict"] = 0.0
    one.write_samples("pocket", "test", step, samples)
    (told,) = said(tmp_path)[kind]
    assert told.startswith(f"{sentence} on pocket by 0.")
    results, key = Results(tmp_path), Runs(Results(tmp_path)).baseline_keys(one.fingerprint, "test")[rival]
    results.write_baseline(key, results.baseline(key).assign(score_strict=0.0))
    assert kind not in said(tmp_path)


def test_the_trap_of_more_soft_tokens_than_the_question_has(tmp_path):
    synthetic.trial(tmp_path, "t_2048tok", soft_tokens=2048, points=2, n=500)
    told = said(tmp_path)["no compression"]
    assert told == ["2048 soft tokens stand for 45 question tokens: nothing is compressed"]


def test_a_trial_without_a_result_says_why(tmp_path):
    run = synthetic.trial(tmp_path, "t", points=2, n=500, complete=False)
    assert said(tmp_path)["not complete"] == ["has no result yet; it is in no comparison on test"]
    (run.path / "failure.json").write_text('{"sentence": "loss term answer is nan at step 7", "traceback": ""}')
    assert said(tmp_path)["not complete"][0].startswith("failed: loss term answer is nan at step 7")


def test_a_term_that_moves_nothing(tmp_path, one):
    one.append_metrics({"step": 2000, "loss/idle": 1.0, "weight/idle": 0.5, "gradient/idle": 0.0})
    assert said(tmp_path)["dead term"] == ["loss term idle had no gradient at 1 logged steps"]


def test_a_bridge_that_reads_the_question_as_text(tmp_path, one):
    rows = one.evals().query("split == 'test' and arm == 'bridged'").to_dict("records")
    one.add_evals({**row, "prompt_tokens": 57.0} for row in rows)
    assert said(tmp_path)["contaminated arm"] == ["the bridged arm reads 57 prompt tokens where no context has 12"]


def test_a_bridge_that_always_says_the_same(tmp_path, one):
    step = one.result()["best_step"]
    samples = one.samples("pocket", "test", step)
    samples.loc[samples["arm"] == "bridged", "completion"] = "#### 5"
    one.write_samples("pocket", "test", step, samples)
    (sentence,) = said(tmp_path)["collapse"]
    assert sentence.startswith("bridged: 2% of its completions differ from one another")
