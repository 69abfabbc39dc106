"""The LaTeX tables: their numbers, their words, and that LaTeX reads them."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path

import pandas as pd
import pytest
import synthetic

from raybridge import HOUSE
from raybridge.plots import Runs
from raybridge.plots.figures import load, make
from raybridge.plots.latex import Column, escaped, render
from raybridge.results import Results

TABLES = ("main_results", "ablations", "compression", "inference", "provenance")


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Results:
    root = tmp_path_factory.mktemp("results")
    runs = [
        synthetic.trial(root, f"2_stable_s{seed}_{k}tok", soft_tokens=k, seed=seed, level=level, points=4, n=120)
        for k, level in ((8, -1.0), (64, 1.0))
        for seed in (1234, 1235)
    ]
    synthetic.sweep(root, "compression", runs)
    synthetic.loss_ablation(root, seeds=(1, 2), n=120)
    return Results(root)


@cache
def runs_of(results: Results) -> Runs:
    """As the command reads them, once for all plots."""
    return Runs(results)


def table_of(name: str, results: Results) -> pd.DataFrame:
    return load(HOUSE / f"plots/{name}.py").table(runs_of(results))


def tex_of(name: str, results: Results) -> str:
    made = make(load(HOUSE / f"plots/{name}.py"), runs_of(results), [])
    assert made is not None
    return made.files["tex"].decode()


def test_main_results_compare_the_bridge_with_every_arm(results):
    rows = table_of("main_results", results).set_index("arm")
    assert rows["label"].nunique() == 1
    assert rows.loc["target", "bridge_is"] == "worse"
    assert rows.loc["shuffled", "bridge_is"] == "better"
    assert pd.isna(rows.loc["bridged", "bridge_is"])
    for arm in rows.index.drop("bridged"):
        assert rows.loc[arm, "bridge_minus_arm"] == pytest.approx(rows.loc["bridged", "accuracy"] - rows.loc[arm, "accuracy"])
    assert rows.loc["target", "gap"] == pytest.approx(1)
    assert pd.isna(rows.loc["source", "gap"])  # another model's NLL closes no gap


def test_an_arm_that_answered_fewer_problems_does_not_shrink_the_tests_of_the_others(tmp_path):
    run = synthetic.trial(tmp_path, "t", points=2, n=120)
    evaluator, split, step = next(one for one in run.sampled() if one[1:] == ("test", run.result()["best_step"]))
    samples = run.samples(evaluator, split, step)
    late = (samples["arm"] == "shuffled") & ~samples["problem"].isin(samples["problem"].unique()[:20])
    whole = table_of("main_results", Results(tmp_path)).set_index("arm")
    run.write_samples(evaluator, split, step, samples[~late])
    rows = table_of("main_results", Results(tmp_path)).set_index("arm")
    for arm in ("source", "target", "zero"):
        assert rows.loc[arm, "bridge_minus_arm"] == pytest.approx(whole.loc[arm, "bridge_minus_arm"])


def test_bold_is_for_what_dev_chose_and_not_for_the_winner_on_test(tmp_path):
    runs = [
        synthetic.trial(tmp_path, f"t_{k}tok", soft_tokens=k, level=level, points=2, n=60)
        for k, level in ((8, 2.0), (64, -2.0))
    ]
    synthetic.sweep(tmp_path, "compression", runs)
    for run, best in zip(runs, (0.1, 0.9), strict=True):
        run.finish(run.result() | {"best": best})
    rows = table_of("compression", Results(tmp_path)).set_index("K")
    assert rows.loc[8, "accuracy"] > rows.loc[64, "accuracy"]
    assert rows["chosen"].to_dict() == {8: False, 64: True}
    bold = [line for line in tex_of("compression", Results(tmp_path)).splitlines() if "textbf" in line]
    assert [line.split()[0] for line in bold] == ["64"]
    assert "textbf" not in tex_of("main_results", Results(tmp_path))


def test_compression_says_whether_anything_is_transferred_and_flags_what_is_not_compressed(results):
    rows = table_of("compression", results).set_index("K")
    assert rows["flag"].to_dict() == {8: "", 64: "none"}
    assert rows["transfer_verdict"].tolist() == ["better", "better"]
    assert "Nothing is compressed at K = 64." in load(HOUSE / "plots/compression.py").caption(rows.reset_index())


def test_inference_lists_frozen_arms_once(results):
    rows = table_of("inference", results)
    assert rows["arm"].value_counts()[["source", "target", "bridged"]].tolist() == [1, 1, 3]  # K = 8, 16, 64
    assert rows.loc[rows["arm"] == "target", "K"].isna().all()


def test_provenance_lists_every_trial_that_is_on_disk(results):
    rows = table_of("provenance", results)
    assert sorted(rows["fingerprint"]) == sorted(run.fingerprint for run in results.trials())
    assert set(rows["hardware"]) == {"2 CPU cores, x86_64"}
    assert set(rows["commit"]) == {"abc1234"}


def test_tables_say_where_they_come_from(results):
    made = make(load(HOUSE / "plots/ablations.py"), Runs(results), [])
    assert {file.name for file in made.write(Runs(results))} == {"ablations.tex", "ablations.csv"}
    text = made.files["tex"].decode()
    assert "% commit abc1234" in text
    assert all(one in text for one in Runs(results).asked_by("loss_ablation"))


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex here")
@pytest.mark.parametrize("name", TABLES)
def test_tables_compile_as_they_are(results, tmp_path, name):
    assert "Overfull" not in compiled(tex_of(name, results), tmp_path)


def test_every_brace_and_environment_is_closed(results):
    for name in TABLES:
        text = tex_of(name, results)
        bare = text.replace(r"\{", "").replace(r"\}", "")
        assert bare.count("{") == bare.count("}")
        assert text.count(r"\begin") == text.count(r"\end{")
        body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
        rows = [line for line in body.splitlines() if line.endswith(r"\\") and not line.startswith(r"\multicolumn")]
        assert len({line.count(" & ") for line in rows}) == 1
        assert not any(character > "\x7f" for character in text), name  # older LaTeX knows few of them


def test_cells():
    frame = pd.DataFrame({"a_b": ["x_1", "50%"], "v": [0.123456, None], "l": [0.1, None], "h": [0.2, None], "m": [True, True]})
    columns = {"a_b": Column(header="A & B"), "v": Column(header="v", format=".2f", low="l", high="h", mark="m")}
    lines = render(frame, columns, caption="", label="t", origin={"commits": "", "fingerprints": ""}).splitlines()
    assert r"x\_1 & \textbf{0.12} {\scriptsize [0.10, 0.20]} \\" in lines
    assert r"50\% & --- \\" in lines  # missing is not zero, and nothing to mark
    assert r"A \& B & v \\" in lines
    assert escaped("a\\b^c~d<e>f$g#h{i}") == (
        r"a\textbackslash{}b\textasciicircum{}c\textasciitilde{}d\textless{}e\textgreater{}f\$g\#h\{i\}"
    )


ORIGIN = {"commits": "", "fingerprints": ""}


def test_heads_stand_above_their_rows():
    frame = pd.DataFrame({"of": ["a_b", "a_b", "c"], "v": [1, 2, 3]})
    columns = {"of": Column(header="", heads=True), "v": Column(header="v")}
    lines = render(frame, columns, caption="", label="t", origin=ORIGIN).splitlines()
    body = lines[lines.index(r"\midrule") + 1 : lines.index(r"\bottomrule")]
    first, second = (rf"\multicolumn{{1}}{{@{{}}l}}{{\textit{{{name}}}}} \\" for name in (r"a\_b", "c"))
    assert body == [first, r"1 \\", r"2 \\", r"\addlinespace", second, r"3 \\"]


def compiled(text: str, folder: Path) -> str:
    """What LaTeX said of a document."""
    (folder / "table.tex").write_text(text)
    command = [
        "pdflatex",
        "-interaction=nonstopmode",
        "-halt-on-error",
        f"-output-directory={folder}",
        str(folder / "table.tex"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    return done.stdout


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex here")
@pytest.mark.parametrize("rows", [3, 200])
def test_wide_and_long_tables_fit_the_page(tmp_path, rows):
    columns = {f"c{i}": Column(header=f"a long header {i}") for i in range(16 if rows < 10 else 3)}
    frame = pd.DataFrame({name: ["some words that take room"] * rows for name in columns})
    said = compiled(render(frame, columns, caption="A caption.", label="t", origin=ORIGIN), tmp_path)
    assert "Overfull" not in said
    assert ("(1 page" in said) == (rows < 10)


def test_p_values_are_not_given_with_more_digits_than_they_have():
    frame = pd.DataFrame({"p": [2.8e-17, 0.0412, 1.0]})
    text = render(frame, {"p": Column(header="p", format="p")}, caption="", label="t", origin=ORIGIN)
    rows = [line for line in text.splitlines() if line.endswith(r" \\")]
    assert rows[1:] == [r"$<$0.001 \\", r"0.041 \\", r"1.000 \\"]


def test_an_arm_in_a_table_is_written_as_words():
    frame = pd.DataFrame({"arm": ["token_budget"]})
    columns = {"arm": Column(header="Arm", format="words")}
    assert "token budget" in render(frame, columns, caption="", label="t", origin={"commits": "", "fingerprints": ""})
