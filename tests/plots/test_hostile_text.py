"""Text that came from a file is text wherever it is drawn: on a page, in LaTeX, in a picture, in a terminal."""

from __future__ import annotations

import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import synthetic
import typer
from drawing import command
from opened import plain
from rich.console import Console

from raybridge.analysis import progress, samples
from raybridge.console import guarded, one_line, printable
from raybridge.data import Problem
from raybridge.plots import page
from raybridge.plots.latex import escaped
from raybridge.results import Results, TrialRun
from raybridge.results.headline import Headline

MARKUP = "[bold red]x[/][/nothing]"
HOSTILE = (
    f"<script>alert('1')</script>\"&amp;\n\\input{{/etc/passwd}} $1 a_b^c~d #2 100% }}\x1b[2J{MARKUP}\u202e\x00"
    "<img src=x onerror=y>"
)
WRITTEN = {
    *(
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "h1",
        "h2",
        "h3",
        "p",
        "nav",
        "a",
        "div",
        "b",
        "ul",
        "li",
        "span",
        "pre",
        "main",
        "script",
    ),
    *("table", "thead", "tbody", "tr", "th", "td", "figure", "img", "figcaption", "details", "summary"),
}
NAMED = {"class", "href", "id", "src", "alt", "lang", "charset", "name", "content", "http-equiv"}


class Elements(HTMLParser):
    """What a page consists of."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}


def rewritten(run: TrialRun, text: str) -> None:
    """The text in every field of a trial that holds any."""
    told = plain(run.path / "trial.json")
    told["name"] = told["config"]["name"] = text
    told["config"] |= {"source": f"hub/{text}", "target": f"hub/b{text}", text: text}
    told["config"]["losses"][0]["weight"] = text
    (run.path / "trial.json").write_text(json.dumps(told))
    commit, hardware = {"id": text, "dirty": True}, {"machine": text, "cores": text, "gpus": [text]}
    versions = dict.fromkeys(("python", "torch", "transformers", "ray"), text)
    (run.path / "provenance.json").write_text(json.dumps({"commit": commit, "hardware": hardware, "versions": versions}))
    run.finish(run.result() | {"stopped": text, "reason": text, "notes": [text]})
    for evaluator, split, step in run.sampled():
        rows = run.samples(evaluator, split, step)
        where = {"problem": rows["problem"] + text, "completion": text, "answer_strict": text}
        run.write_samples(evaluator, split, step, rows.assign(**where))


def drawn(root: Path, text: str, monkeypatch) -> Path:
    """Results with the text in every field, everything drawn from them."""
    runs = [
        synthetic.trial(root, f"t_s{seed}_{k}tok", soft_tokens=k, seed=seed, points=2, n=40, wire=True)
        for k in (8, 16)
        for seed in (1, 2)
    ]
    for run in runs:
        rewritten(run, text)
    synthetic.sweep(root, "compression", [run.__class__(run.path, text, run.fingerprint) for run in runs])
    Results(root).sweep("compression").write_text("EXPERIMENTS_SUMMARY.md", f"# compression\n\n{text}\n\n")
    (Path(runs[-1].path) / "result.json").unlink()
    (Path(runs[-1].path) / "failure.json").write_text(json.dumps({"sentence": text, "traceback": text}))
    asked = [f"pocket/test/{number}{text}" for number in range(40)]
    problems = {one: Problem(id=one, question=f"Why {text}?", gold=text, rationale="r", also=(text,)) for one in asked}
    monkeypatch.setattr(page, "problems_of", lambda *which: problems)
    done = command("--results", root, "--report", "--format", "png")
    assert done.exit_code == 0, done.output
    assert not re.search("[\x00\x1b\u202e]", done.output)
    return root


@pytest.fixture
def pages(tmp_path, monkeypatch) -> dict[str, Path]:
    texts = {"hostile": HOSTILE, "plain": "plain"}
    return {name: drawn(tmp_path / name, text, monkeypatch) for name, text in texts.items()}


@pytest.mark.filterwarnings("error")
def test_no_text_of_a_file_steers_what_is_drawn(pages):
    hostile = Elements()
    hostile.feed((pages["hostile"] / "report.html").read_text())
    assert set(hostile.tags) <= WRITTEN
    assert hostile.attributes <= NAMED
    text = (pages["hostile"] / "report.html").read_text()
    assert text.count("&lt;script&gt;alert(") > 20
    assert "gold: &lt;script&gt;" in text
    for path in sorted((pages["hostile"] / "tables").glob("*.tex")):
        told, plain = path.read_text(), (pages["plain"] / "tables" / path.name).read_text()
        assert len(told.splitlines()) == len(plain.splitlines())  # no comment was left, no row cut
        assert not re.search("[\x00-\x09\x0b-\x1f\u202e]", told)
        body = "\n".join(line for line in told.splitlines() if not line.startswith("% "))
        assert "\\input" not in body.replace("\\textbackslash{}input", "")
        assert not re.search(r"(?<!\\)[%#]", body.replace("{%\n", "{\n"))
    assert {path.name for path in (pages["hostile"] / "figures").iterdir()} == {
        path.name for path in (pages["plain"] / "figures").iterdir()
    }


def test_latex_takes_nothing_of_a_text_as_a_command():
    assert escaped("a\n%b\x1b") == r"a \%b"
    assert escaped("[x]*") == "{[}x{]}{*}"  # behind a line's end a bracket or a star would be an option
    assert escaped("\u4f60") == "{[}U+4F60{]}"


def test_a_terminal_sees_markup_as_text_and_nothing_that_steers():
    console = Console(file=io.StringIO(), width=400, color_system="truecolor", force_terminal=True)
    row = progress.Row(name=HOSTILE, step=1, steps=2, state="training", headline=Headline(name="h", column="h"))
    console.print(progress.table([row], width=400))
    counts = dict.fromkeys(("n", "valid", "invalid", "truncated", "correct", "accuracy", "low", "high"), 1.0)
    console.print(samples.table_of([{"of": HOSTILE, "arm": HOSTILE, "reading": HOSTILE, **counts}], HOSTILE))
    console.print(samples.shorten(HOSTILE), markup=False)
    with pytest.raises(typer.Exit) as ended, guarded(console, debug=False):
        raise ValueError(HOSTILE)
    assert ended.value.exit_code == 2
    told = console.file.getvalue()
    assert told.count(MARKUP) >= 6
    assert not re.search("\x1b\\[2J|\x00|\u202e", told)


def test_what_can_be_seen_stays():
    assert printable("a b\nc\td\x07") == "a b\nc d "
    assert one_line(" a\n\u00e9\ud800 ") == "a \u00e9"
