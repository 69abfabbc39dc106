"""How the pocket pair is made: killed and started again it is the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import typer
from safetensors.torch import load_file

from raybridge.models import lm as lms
from raybridge.pocket import __main__ as making

MEMBERS = ("source", "target")


class KilledError(Exception):
    pass


@pytest.fixture
def tiny(monkeypatch):
    """A few documents a step, a checkpoint every other step."""
    monkeypatch.setattr(making, "BATCH", 8)
    monkeypatch.setattr(making, "SAVE_EVERY", 2)
    monkeypatch.setattr(making, "WARMUP", 2)


def make(folder: Path, *, steps: int = 6, seed: int = 3) -> None:
    making.train("target", folder, steps=steps, device=torch.device("cpu"), seed=seed)


def kill_at(monkeypatch, name: str, call: int) -> None:
    """Let the `call`-th call of a function of the script end the process, as a kill would."""
    whole, calls = getattr(making, name), iter(range(1, call + 1))

    def killed(*args, **options):
        if next(calls) == call:
            raise KilledError
        return whole(*args, **options)

    monkeypatch.setattr(making, name, killed)


def test_killed_and_started_again_makes_the_same_model(tiny, tmp_path, monkeypatch):
    make(tmp_path / "undisturbed")
    with monkeypatch.context() as during:
        kill_at(during, "lm_loss", 6)  # after the checkpoint of step 4, in step 6
        with pytest.raises(KilledError):
            make(tmp_path / "killed")
    assert [path.name for path in making.checkpoints(tmp_path / "killed")] == ["step_000004"]
    done: list[int] = []
    whole = making.lm_loss
    monkeypatch.setattr(making, "lm_loss", lambda *given: done.append(1) or whole(*given))
    make(tmp_path / "killed")
    assert len(done) == 2  # steps 5 and 6: it went on, it did not begin again
    one, other = (load_file(tmp_path / name / making.WEIGHTS) for name in ("undisturbed", "killed"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_kill_while_saving_leaves_the_older_checkpoint(tiny, tmp_path, monkeypatch):
    with monkeypatch.context() as during:
        pack, calls = making.checkpoint.pack, iter((False, True))

        def killed(*args):
            content = pack(*args)
            if next(calls):
                (tmp_path / "model" / making.TRAINING / ".new" / "translator.safetensors").write_bytes(b"half")
                raise KilledError
            return content

        during.setattr(making.checkpoint, "pack", killed)
        with pytest.raises(KilledError):
            make(tmp_path / "model")
    assert [path.name for path in making.checkpoints(tmp_path / "model")] == ["step_000002"]
    make(tmp_path / "model")
    assert (tmp_path / "model" / making.WEIGHTS).exists()


def test_weights_are_there_only_once_all_else_is(tiny, tmp_path, monkeypatch):
    """A folder with weights is taken for finished, so they come last."""
    moved: list[str] = []
    replace = Path.replace
    monkeypatch.setattr(Path, "replace", lambda path, to: moved.append(path.name) or replace(path, to))
    make(tmp_path / "model", steps=1)
    assert moved[-1] == making.WEIGHTS
    assert {"config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"} <= set(moved[:-1])
    lms.load(str(tmp_path / "model"), device="cpu")


def test_what_was_begun_otherwise_is_not_gone_on_with(tmp_path):
    making.begin(tmp_path, {"steps": 6, "seed": 3})
    making.begin(tmp_path, {"steps": 6, "seed": 3})
    with pytest.raises(ValueError, match=r"was begun with .*'steps': 6.*, not .*'steps': 9"):
        making.begin(tmp_path, {"steps": 9, "seed": 3})


def test_the_command_makes_measures_and_tidies(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(making, "graded", lambda lm: [True, False, True, True])
    making.main(out=tmp_path, steps=1, seed=5)
    card = json.loads((tmp_path / "card.json").read_text(encoding="utf8"))
    assert [(card[member]["steps"], card[member]["seed"]) for member in MEMBERS] == [(1, 5)] * 2
    assert card["source"]["strict_accuracy_on_generated_test"] == 0.75
    assert not any((tmp_path / member / making.TRAINING).exists() for member in MEMBERS)

    making.main(out=tmp_path, steps=9, seed=6)  # nothing is trained: the card must not say 9 and 6
    assert json.loads((tmp_path / "card.json").read_text(encoding="utf8")) == card

    making.begin(tmp_path / "new" / "source", {"steps": 1, "seed": 1})
    with pytest.raises(typer.BadParameter, match="was begun with"):
        making.main(out=tmp_path / "new", steps=2, seed=1)
