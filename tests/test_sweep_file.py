"""A sweep file as data: what expands, and what is refused with its file, its value and the nearest match."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import get_type_hints

import pytest
from opened import ENDED

from raybridge import HOUSE, sweep_file
from raybridge.results import Results
from raybridge.results.schema.records import RESULT
from raybridge.scales import FULL, POCKET, SCALES, SMALL
from raybridge.translators.options import Projected

SWEEPS = sorted((HOUSE / "sweeps").glob("[a-z]*.py"))
GOOD = '''"""A question?"""

from dataclasses import replace

from raybridge.losses.contrastive import InfoNCE
from raybridge.trial import Trial

axes = {"pocket": dict(soft_tokens=[4, 8])}


def trial(base: Trial, *, soft_tokens: int) -> Trial:
    return replace(base, name=f"t_{soft_tokens}tok", translator=replace(base.translator, soft_tokens=soft_tokens))
'''


@pytest.fixture
def write(tmp_path):
    """Writes the good sweep file with one part replaced."""

    def written(old: str = "", new: str = "") -> Path:
        assert old in GOOD
        path = tmp_path / "question.py"
        path.write_text(GOOD.replace(old, new), encoding="utf8")
        return path

    return written


def refused(path: Path, scale=POCKET) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        sweep_file.load(path).trials(scale)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_sweep_file_expands_into_its_trials(write):
    sweep = sweep_file.load(write())
    assert (sweep.name, sweep.question) == ("question", "A question?")
    assert [trial.name for trial in sweep.trials(POCKET)] == ["t_4tok", "t_8tok"]
    assert [trial.translator.soft_tokens for trial in sweep.trials(POCKET)] == [4, 8]


def test_some_trials_of_a_sweep_are_asked_for_by_name_or_pattern(write):
    sweep = sweep_file.load(write())
    assert sweep.only([]) is sweep
    assert [trial.name for trial in sweep.only(["t_8tok"]).trials(POCKET)] == ["t_8tok"]
    assert [trial.name for trial in sweep.only(["*_8tok", "t_4*"]).trials(POCKET)] == ["t_4tok", "t_8tok"]  # in its own order
    with pytest.raises(ValueError, match=r"unknown trial 't_16tok'; valid: t_4tok, t_8tok"):
        sweep.only(["t_8tok", "t_16tok"]).trials(POCKET)


def test_what_comes_next_is_not_asked_for_some_trials(write):
    path = write("def trial", "def follow_up(runs):\n    return []\n\n\ndef trial")
    assert sweep_file.load(path).follow_up is not None
    assert sweep_file.load(path).only(["t_4tok"]).follow_up is None


OF_SMALL = ["smollm", "headline"]  # their models are those of one scale


@pytest.mark.parametrize("scale", SCALES, ids=lambda scale: scale.name)
@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_sweep_expands_at_every_scale(path, scale):
    if path.stem in OF_SMALL:
        assert list(sweep_file.load(path).axes) == ["small"]
        scale = SMALL
    trials = sweep_file.load(path).trials(scale)
    assert trials
    assert len({trial.fingerprint for trial in trials}) == len({trial.name for trial in trials}) == len(trials)
    for trial in trials:
        assert f"_{trial.translator.soft_tokens}tok" in trial.name
        assert f"_s{trial.seed}_" in trial.name
        assert re.fullmatch(r"\d+[a-z]?_[A-Za-z0-9_]+_\d+tok", trial.name)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("dict(soft_tokens=", "dict(soft_token=", ["unknown axis 'soft_token'", "did you mean 'soft_tokens'?"]),
        ("[4, 8]", "[]", ["axis 'soft_tokens' must be a list of at least one value, not []"]),
        ("[4, 8]", "8", ["axis 'soft_tokens' must be a list", "not 8"]),
        ("[4, 8]", "[0]", ["trial(soft_tokens=0)", "soft_tokens must be at least 1, not 0"]),
        ("[4, 8]", "[4, 4]", ["two trials have the name 't_4tok'"]),
        ("name=f", "nmae=f", ["unknown field 'nmae'", "Trial", "did you mean 'name'?"]),
        ("soft_tokens=soft_tokens)", "soft_tokns=soft_tokens)", ["unknown field 'soft_tokns'", "did you mean 'soft_tokens'?"]),
        ("base.translator,", "base.transltor,", ["unknown attribute 'transltor'", "did you mean 'translator'?"]),
        ("return replace(base", "return repalce(base", ["unknown name 'repalce'", "did you mean 'replace'?"]),
        ("import InfoNCE", "import InfoNEC", ["unknown name 'InfoNEC'", "did you mean 'InfoNCE'?", "line 5"]),
        ("losses.contrastive", "losses.contrastiv", ["unknown module 'contrastiv'", "did you mean 'contrastive'?", "line 5"]),
        ("axes = {", "loss = InfoNCE(wieght=2)\naxes = {", ["unknown field 'wieght'", "did you mean 'weight'?", "line 8"]),
        ("axes = {", "axes = {{", ["line 8"]),
        ("axes =", "axis =", ["defines no 'axes'"]),
        ('{"pocket": dict(soft_tokens=[4, 8])}', "[4, 8]", ["`axes` must map scales to axes"]),
        ("def trial", "def trail", ["defines no 'trial'"]),
        ("return replace", "replace", ["must return a Trial, not NoneType"]),
        ("return replace(", "return dict(axes, base=", ["must return a Trial, not dict", "would define ENGINE, name, seed"]),
        ('f"t_{soft_tokens}tok"', '"t_64tok"', ["is named 64tok but has 4 soft tokens"]),
        ("*, soft_tokens: int)", "*, soft_tokens: int, seed: int)", ["missing 1 required keyword-only argument: 'seed'"]),
    ],
)
def test_a_slip_in_a_sweep_file_is_one_sentence(write, old, new, words):
    said = refused(write(old, new))
    assert "\n" not in said
    for word in words:
        assert word in said


def test_a_scale_without_axes_is_refused_with_those_that_have_some(write):
    assert "unknown scale 'full'; valid: pocket" in refused(write(), FULL)


ROW = """from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class Row:
    soft_tokens: int


ROW = Row(soft_tokens=4)
"""


def test_a_sweep_file_may_have_a_dataclass_whose_annotations_are_texts(write):
    text = GOOD.replace("from dataclasses import replace\n", ROW).replace("[4, 8]", "[ROW.soft_tokens, 8]")
    path = write()
    path.write_text(text, encoding="utf8")
    assert [trial.name for trial in sweep_file.load(path).trials(POCKET)] == ["t_4tok", "t_8tok"]
    row = sys.modules["sweeps.question"].ROW
    assert get_type_hints(type(row)) == {"soft_tokens": int}


@pytest.mark.parametrize(("old", "new"), [("axes = {", "axes = {{"), ("[4, 8]", "[nothing]"), ("axes =", "axis =")])
@pytest.mark.parametrize("loaded", [True, False])
def test_a_file_that_fails_to_load_leaves_the_modules_as_they_were(write, monkeypatch, old, new, loaded):
    monkeypatch.setitem(sys.modules, "sweeps.question", there := ModuleType("sweeps.question"))
    if not loaded:
        del sys.modules["sweeps.question"]
    refused(write(old, new))
    assert sys.modules.get("sweeps.question") is (there if loaded else None)


def test_a_sweep_of_ones_own_may_have_the_name_of_one_that_it_imports(tmp_path):
    path = tmp_path / "compression.py"
    path.write_text("from sweeps import compression\n\naxes, trial = compression.axes, compression.trial\n", encoding="utf8")
    names = [[trial.name for trial in sweep_file.load(one).trials(POCKET)] for one in (path, Path("sweeps/compression.py"))]
    assert names[0] == names[1]
    assert Path(sys.modules["sweeps.compression"].__file__) == HOUSE / "sweeps" / "compression.py"


def test_trials_that_differ_only_in_name_are_the_same_run(write):
    path = write("translator=replace(base.translator, soft_tokens=soft_tokens)", "seed=1")
    path.write_text(path.read_text(encoding="utf8").replace("tok", "_"), encoding="utf8")
    assert "trials 't_4_' and 't_8_' differ only in name" in refused(path.rename(path.with_name("named.py")))


def test_a_loss_that_lives_in_the_sweep_file_is_refused_before_a_worker_misses_it(write):
    path = write("axes =", "@dataclass(frozen=True, kw_only=True)\nclass Own(InfoNCE):\n    pass\n\n\naxes =")
    path.write_text(path.read_text(encoding="utf8").replace("import replace", "import dataclass, replace"), encoding="utf8")
    path.write_text(path.read_text(encoding="utf8").replace("replace(base,", "replace(base, losses=(Own(),),"), encoding="utf8")
    assert "is not from raybridge or evaluators" in refused(path)


LINE = '''"""Which slope has the line?"""

from fit import Fit

axes = {"pocket": dict(seed=[1, 2])}


def trial(base, *, seed: int) -> Fit:
    return Fit(name=f"line_{seed}", seed=seed, steps=8, rate=0.5)
'''


def test_a_sweep_of_another_workload_expands_as_well(tmp_path):
    path = tmp_path / "line.py"
    path.write_text(LINE, encoding="utf8")
    assert [fit.seed for fit in sweep_file.load(path).trials(POCKET)] == [1, 2]
    path.write_text(LINE.replace("seed=seed", "seed=1"), encoding="utf8")
    assert "trials 'line_1' and 'line_2' differ only in name" in refused(path)
    path.write_text(LINE.replace("-> Fit", "").replace("axes", "class Own(Fit):\n    pass\n\n\naxes", 1), encoding="utf8")
    path.write_text(path.read_text(encoding="utf8").replace("return Fit", "return Own"), encoding="utf8")
    assert "'sweeps.line:Own' is not from raybridge or evaluators" in refused(path)


def test_a_file_that_is_not_there_gets_its_neighbours_and_the_nearest(write):
    path = write()
    assert f"did you mean '{path}'?" in refused(path.with_name("qestion.py"))


@pytest.mark.parametrize("named", ["sweeps/compression.py", "compression.py", "compression"])
def test_a_sweep_that_comes_with_raybridge_is_found_from_anywhere(tmp_path, monkeypatch, named):
    monkeypatch.chdir(tmp_path)
    sweep = sweep_file.load(Path(named))
    assert (sweep.path, sweep.name) == (HOUSE / "sweeps" / "compression.py", "compression")
    (tmp_path / "compression.py").write_text(GOOD, encoding="utf8")
    assert sweep_file.load(Path("compression.py")).question == "A question?"  # one's own comes first


def test_a_mistyped_sweep_gets_the_nearest_that_comes_with_raybridge(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"did you mean 'sweeps/compression\.py'\?"):
        sweep_file.load(Path("sweeps/compresion.py"))
    with pytest.raises(ValueError, match="unknown sweep file"):
        sweep_file.load(Path("elsewhere/compression.py"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("n" * 300, "trial name 'nnnnnnnnnnnnnnnnnnnnnnnn'... is 300 bytes long; a directory's name has room for 200"),
        ("../up", "trial name '../up' must be letters, digits"),
    ],
)
def test_a_name_that_no_directory_can_have_is_refused_in_the_plan(write, name, said):
    assert said in refused(write('f"t_{soft_tokens}tok"', f'"{name}"'))


def test_a_name_of_another_workload_is_held_to_the_same(tmp_path):
    path = tmp_path / "line.py"
    path.write_text(LINE.replace('f"line_{seed}"', 'f"lines/{seed}"'), encoding="utf8")
    assert "trial name 'lines/1' is no directory's name" in refused(path)


def test_a_file_and_folder_with_spaces_and_letters_of_any_script(tmp_path):
    path = tmp_path / "größe und Länge" / "wie groß? 尺寸.py"
    path.parent.mkdir()
    path.write_text(GOOD, encoding="utf8")
    assert [trial.name for trial in sweep_file.load(path).trials(POCKET)] == ["t_4tok", "t_8tok"]


def test_a_file_that_is_not_python_is_refused(tmp_path):
    path = tmp_path / "axes.yaml"
    path.write_text("axes: 1", encoding="utf8")
    assert "its name ends in .py" in refused(path)


def ended(results: Results, trial, **result) -> None:
    run = results.open_trial(name=trial.name, fingerprint=trial.fingerprint, config=trial.resolved(), provenance={})
    run.finish(ENDED | result)


FOLLOW_UP = """
def follow_up(ended):
    return [replace(trial, name=trial.name + "_more", steps=9, warmup=2) for trial, result in ended if result["peak"] < 0.5]


def trial"""


def test_follow_up_is_optional_and_sees_the_trials_of_this_scale_with_their_results(write, tmp_path):
    results = Results(tmp_path)
    sweep = sweep_file.load(write())
    assert sweep.further(sweep.trials(POCKET), results) == []
    sweep = sweep_file.load(write("\ndef trial", FOLLOW_UP))
    trials = sweep.trials(POCKET)
    ended(results, trials[0], peak=0.4)
    assert sweep.further(trials, results) == []  # the other has no result yet
    ended(results, trials[1], peak=0.6)
    assert [trial.name for trial in sweep.further(trials, results)] == ["t_4tok_more"]


def test_a_slip_in_a_follow_up_is_one_sentence(write, tmp_path):
    results = Results(tmp_path)
    for new, said in (
        (
            FOLLOW_UP.replace('"peak"', '"peek"'),
            "unknown key of a result 'peek'; valid: steps, stopped, reason, peak",
        ),
        (FOLLOW_UP.replace("steps=9, warmup=2", "stps=9"), "did you mean 'steps'?"),
        (FOLLOW_UP.replace("return [", "return tuple([").replace("0.5]", "0.5])"), "must return a list of trials, not tuple"),
        (FOLLOW_UP.replace(", steps=9, warmup=2", ""), "differ only in name"),
    ):
        sweep = sweep_file.load(write("\ndef trial", new))
        trials = sweep.trials(POCKET)
        for trial in trials:
            ended(results, trial, peak=0.4)
        with pytest.raises(ValueError, match=r".") as caught:
            sweep.further(trials, results)
        assert said in str(caught.value)


@pytest.mark.parametrize(
    ("new", "said"),
    [
        (
            FOLLOW_UP.replace('"peak"', '"peek"'),
            "unknown key of a result 'peek'; valid: name, fingerprint, .*; did you mean 'peak'",
        ),
        (FOLLOW_UP.replace("steps=9, warmup=2", "stps=9"), "did you mean 'steps'"),
        (FOLLOW_UP.replace('result["peak"] <', "result['test']['bridge']['strict']['accuracy'] <"), "no entry 'bridge'"),
    ],
)
def test_a_slip_in_a_follow_up_is_found_before_anything_runs(write, new, said):
    sweep = sweep_file.load(write("\ndef trial", new))
    with pytest.raises(ValueError, match=said):
        sweep.rehearse(sweep.trials(POCKET))
    sweep = sweep_file.load(write("\ndef trial", FOLLOW_UP))
    sweep.rehearse(sweep.trials(POCKET))


def test_a_made_up_result_has_the_keys_of_a_real_one():
    imagined = POCKET.trial.imagined(0.5)
    now = [column for column in RESULT if not column.only or column.only.startswith("trials since")]
    assert set(imagined) == {column.name.partition(".")[0] for column in now}


@pytest.mark.parametrize(
    ("peaks", "letters"),
    [
        ((0.70, 0.72), ""),
        ((0.68, 0.72), ""),
        ((0.66, 0.68), "bc"),
        ((0.60, 0.70), "bc"),
        ((0.64, 0.65), "abc"),
        ((0.0, 0.1), "abc"),
    ],
)
def test_the_loss_ablation_goes_on_by_the_result_of_all_fixes(tmp_path, peaks, letters):
    sweep = sweep_file.load(next(path for path in SWEEPS if path.stem == "loss_ablation"))
    trials, results = sweep.trials(POCKET), Results(tmp_path)
    for trial, peak in zip(trials, peaks, strict=True):
        ended(results, trial, best=peak, peak=1.0)
    further = sweep.further(trials, results)
    assert [trial.name for trial in further] == [f"3{letter}_ablation_s{t.seed}_32tok" for letter in letters for t in trials]
    names = {trial.name[1]: [loss.name for loss in trial.losses] for trial in [*trials, *further]}
    assert names["d"] == ["answer", "text_kl", "info_nce", "prompt_alignment", "decode_aware"]
    if letters == "abc":
        assert names["a"] == ["answer", "text_kl"]
        assert names["b"] == [*names["a"], "info_nce"]
        assert names["c"] == names["d"]
        assert not any(isinstance(trial.translator, Projected) for trial in further)
        assert [trial.stopping.patience for trial in further[::2]] == [None, 5, 5]


def test_distinct_keeps_order():
    trials = [replace(POCKET.trial, name=f"t{seed}", seed=seed) for seed in (3, 1, 2)]
    assert sweep_file.distinct(trials, "here") == trials
