"""Nothing drawn is cut: every text of every figure with many long names is whole, inside the page, and over no other."""

from __future__ import annotations

from itertools import combinations

import pytest
import synthetic
from drawing import conditioned
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import rc_context
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator

from raybridge.plots import Figure, Runs
from raybridge.plots.captions import LINES, WIDTH, counted, few, without_control
from raybridge.plots.figures import load, make, plot_files
from raybridge.plots.names import MARK, broken, elided, fitted, shortened
from raybridge.plots.style import RC, laid_out
from raybridge.results import Results

LONG = "gsm8k_mistral_to_llama_ablation_{}_stable_8shot_learning_rate_decayed_with_warmup_and_everything_else"
MODELS = {
    "source": "someone/Mistral-7B-Instruct-v0.3-finetuned-on-a-good-many-problems",
    "target": "elsewhere/Meta-Llama-3.1-8B-Instruct-Turbo-quantised-by-somebody",
}
BACK = {"source": MODELS["target"], "target": MODELS["source"]}


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Runs:
    """Nine configurations with long names, seven of them one way and two back, which all three sweeps asked for."""
    root = tmp_path_factory.mktemp("many")
    made = []
    for number, k in enumerate((4, 8, 16, 32, 64, 128, 256)):
        losses = [{"class": "raybridge.losses.next_token:AnswerNLL", "weight": 1.0 + number}]
        for seed in (1, 2) if number < 2 else (1,):
            name = LONG.format(f"{number}_{k}tok") + f"_s{seed}"
            made.append(synthetic.trial(root, name, soft_tokens=k, seed=seed, points=2, n=20, losses=losses, **MODELS))
        if number < 2:
            name = LONG.format(f"back_{k}tok") + "_s1"
            made.append(synthetic.trial(root, name, soft_tokens=k, seed=1, points=2, n=20, losses=losses, **BACK))
    for run in made:
        conditioned(run, 2)
    for sweep in ("compression", "loss_ablation", "stability", "swap"):
        synthetic.sweep(root, sweep, made)
    return Runs(Results(root))


FIGURES = [path for path in plot_files() if load(path).draw]


def placed(page: Figure) -> list[tuple[str, object]]:
    """The titles and the labels of all panels, with where they stand."""
    found = [one for ax in page.axes for one in (*ax.get_children(), ax.xaxis.label, ax.yaxis.label) if isinstance(one, Text)]
    return [(one.get_text(), one.get_window_extent()) for one in found if one.get_text().strip() and one.get_visible()]


@pytest.mark.parametrize("path", FIGURES, ids=[path.stem for path in FIGURES])
def test_nothing_of_a_figure_is_cut_or_stands_on_another(path, many):
    plot = load(path)
    table = plot.table(many)
    assert not table.empty
    with rc_context(RC):
        page = laid_out(lambda page: plot.draw(page, table), plot.height(table))
        box, (width, height) = page.get_tightbbox(), page.get_size_inches()
        assert min(box.x0, box.y0) >= -0.01
        assert box.x1 <= width + 0.01
        assert box.y1 <= height + 0.01
        for (first, here), (second, there) in combinations(placed(page), 2):
            assert not here.padded(-1).overlaps(there.padded(-1)), f"{first} stands on {second}"
        for ax in (one for one in page.axes if isinstance(one.xaxis.get_major_locator(), FixedLocator)):
            told = [one for one in ax.get_xticklabels() if one.get_visible() and one.get_text()]
            assert not any(a.get_window_extent().overlaps(b.get_window_extent()) for a, b in combinations(told, 2))
        for ax in (one for one in page.axes if one.get_label() != "<colorbar>"):
            assert min(ax.bbox.height, ax.bbox.width) > 20, "a panel lost its room"


@pytest.mark.parametrize("path", plot_files(), ids=[path.stem for path in plot_files()])
def test_a_caption_has_five_lines_at_most_and_no_lists_of_names(path, many):
    done = make(load(path), many, ["png"])
    assert done is not None
    assert len(done.caption) <= LINES * WIDTH, done.caption
    assert sum(done.caption.count(label) for label in many.trials["label"].unique()) <= 1
    if "txt" in done.files:
        lines = done.files["txt"].decode().splitlines()
        assert len(lines) <= LINES
        assert " ".join(lines) == done.caption


def test_a_figure_that_shows_some_says_how_the_others_are_seen(many):
    done = make(load(next(path for path in FIGURES if path.stem == "training_curves")), many, ["png"])
    assert "Shown: 6 of 9 configurations, best on dev; --trials NAME draws others, the CSV has all." in done.caption


@given(st.lists(st.text("ab_-", min_size=1, max_size=40), min_size=1, max_size=6, unique=True), st.integers(12, 30))
def test_names_in_little_room_stay_apart(names, limit):
    told = shortened(names, limit)
    assert len(set(told)) == len(names)
    assert all(len(one) <= limit for one in told)
    assert all(one == name for one, name in zip(told, names, strict=True) if len(name) <= limit)


def test_names_alike_at_both_ends_keep_what_tells_them_apart():
    names = ["run_with_a_long_beginning_" + part + "_and_a_long_end_of_it" for part in ("1a", "1b", "22")]
    assert ["1a" in short for short in shortened(names, 24)] == [True, False, False]
    assert [part in short for part, short in zip(("1a", "1b", "22"), shortened(names, 24), strict=True)] == [True] * 3
    assert elided("beginning" + "x" * 99 + "end", 20) == "beginning" + MARK + "xxxxxend"


def test_a_name_breaks_behind_a_word_and_is_shortened_only_where_it_must():
    def short(line):
        return len(line) <= 10

    assert broken("peak minus final", short, 2) == "peak minus\nfinal"
    assert broken("indivisiblyone", short, 2) is None
    assert broken("one_two_three_four_five", short, 2) is None
    assert fitted(["peak minus final", "k"], [short, short], 2) == ["peak minus\nfinal", "k"]
    (told,) = fitted(["one_two_three_four_five"], [short], 2)
    assert MARK in told
    assert all(short(line) for line in told.split("\n"))


def test_names_of_a_caption_are_counted():
    assert counted(["a", "a"], of=3) == "a"
    assert counted(["a"], of=1) == "it"
    assert counted(["a", "b"], of=3) == "2 of 3 configurations"
    assert counted(["a", "b"], of=2, what="trials") == "all 2 trials"
    assert few(["a", "b"], "arms") == "a, b"
    assert without_control([], of=3) == []
    assert without_control(["a"], of=1) == without_control(["a", "b"], of=2) == ["No control was run."]
    assert without_control(["a", "b"], of=3) == ["No control was run for 2 of 3 configurations."]
    assert few(list("abcd"), "arms") == "4 arms"
