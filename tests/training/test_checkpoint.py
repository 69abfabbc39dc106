"""A checkpoint that is not what was written is named and refused; one of before checksums is read."""

from __future__ import annotations

import logging
import random
import subprocess
import threading

import pytest
import torch
from safetensors.torch import save

from raybridge.stopping import Decision
from raybridge.training import checkpoint
from raybridge.translators.weights import CHECKSUMS, FILE, copy_of, read_weights

FILES = (FILE, checkpoint.OPTIMIZER, checkpoint.STATE)


@pytest.fixture
def trained():
    """A linear layer and its optimizer after a step."""
    torch.manual_seed(0)
    module = torch.nn.Linear(40, 30)
    optimizer = torch.optim.AdamW(module.parameters())
    module(torch.randn(4, 40)).square().sum().backward()
    optimizer.step()
    return module, optimizer


@pytest.fixture
def folder(trained, tmp_path):
    module, optimizer = trained
    state = {"step": 4, "seconds": 1.5, "ended": None}
    for name, content in checkpoint.pack(copy_of(module), optimizer, state).items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def restored(folder):
    module = torch.nn.Linear(40, 30)
    optimizer = torch.optim.AdamW(module.parameters())
    return checkpoint.restore(folder, module, optimizer), module, optimizer


@pytest.mark.parametrize("checksums", [True, False], ids=["with checksums", "of before"])
def test_what_was_written_comes_back(folder, trained, checksums):
    if not checksums:
        (folder / CHECKSUMS).unlink()
    state, module, optimizer = restored(folder)
    assert state == {"step": 4, "seconds": 1.5, "ended": None}
    assert torch.equal(module.weight, trained[0].weight)
    was, now = (one.state_dict()["state"][0]["exp_avg"] for one in (trained[1], optimizer))
    assert torch.equal(was, now)


@pytest.mark.parametrize("name", FILES)
def test_flipped_bytes_are_named_and_refused(folder, name):
    content = bytearray((folder / name).read_bytes())
    for at in random.Random(0).sample(range(len(content)), min(64, len(content))):
        content[at] ^= 0xFF
    (folder / name).write_bytes(content)
    with pytest.raises(
        ValueError, match=rf"checkpoint {folder} is damaged: {name} is not what was written .* delete the folder"
    ):
        restored(folder)
    if name == FILE:
        with pytest.raises(ValueError, match=f"{name} is not what was written"):
            read_weights(folder)


def test_one_flipped_bit_of_the_weights_is_seen_though_the_file_can_be_read(folder):
    content = bytearray((folder / FILE).read_bytes())
    content[-3] ^= 1
    (folder / FILE).write_bytes(content)
    with pytest.raises(ValueError, match="is not what was written"):
        read_weights(folder)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("checksums", [True, False], ids=["with checksums", "of before"])
@pytest.mark.parametrize("how", ["cut", "missing", "of another type"])
def test_a_file_that_is_cut_gone_or_another_is_one_sentence(folder, name, checksums, how):
    if not checksums:
        (folder / CHECKSUMS).unlink()
    content = (folder / name).read_bytes()
    if how == "missing":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content[:-9] if how == "cut" else b"\x80\x04 not this")
    with pytest.raises(ValueError, match=f"is damaged: {name}") as caught:
        restored(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        (checkpoint.STATE, b"[1]", "must hold an object, not list"),
        (checkpoint.STATE, b'{"step": 4, "seconds": "long", "ended": null}', "has 'long' for seconds"),
        (checkpoint.STATE, b'{"step": 4, "seconds": 1.0, "ended": true}', "has True for ended"),
        (checkpoint.STATE, b'{"step": 4, "seconds": 1.0, "ended": {"stop": true}}', "has {'stop': True} for ended"),
        (checkpoint.OPTIMIZER, save({"7.exp_avg": torch.zeros(2)}), "remembers '7.exp_avg'"),
        (checkpoint.OPTIMIZER, save({"exp_avg": torch.zeros(2)}), "remembers 'exp_avg'"),
        (
            checkpoint.OPTIMIZER,
            save({"0.exp_avg": torch.zeros(2)}),
            r"remembers '0.exp_avg' of shape \(2,\), and the parameter has \(30, 40\)",
        ),
        (CHECKSUMS, b"", f"says nothing of {checkpoint.STATE}"),
        (CHECKSUMS, b"\x80\x04 0  9  \n", f"says nothing of {checkpoint.STATE}"),
    ],
)
def test_a_file_that_says_something_else_is_named(folder, name, content, why):
    if name != CHECKSUMS:
        (folder / CHECKSUMS).unlink()
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"is damaged: {name} {why}"):
        restored(folder)


def test_every_file_has_its_checksum(folder):
    done = subprocess.run(["sha256sum", "-c", CHECKSUMS], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{name}: OK" for name in FILES]


def test_the_trap_a_checkpoint_that_goes_on_changing_while_it_is_written(trained):
    module, optimizer = trained
    moments = checkpoint.moments_of(optimizer)
    before = {name: moment.clone() for name, moment in moments.items()}
    module(torch.randn(4, 40)).square().sum().backward()
    optimizer.step()
    assert moments.keys() == before.keys()
    assert all(torch.equal(moment, before[name]) for name, moment in moments.items())


def test_what_a_finished_trial_keeps_is_whole_and_has_no_moments(folder, trained):
    checkpoint.forget_moments(folder)
    assert {path.name for path in folder.iterdir()} == {FILE, checkpoint.STATE, CHECKSUMS}
    done = subprocess.run(["sha256sum", "-c", CHECKSUMS], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{name}: OK" for name in (FILE, checkpoint.STATE)]
    assert torch.equal(read_weights(folder)["weight"], trained[0].weight)
    with pytest.raises(ValueError, match=f"{checkpoint.OPTIMIZER} is missing"):
        restored(folder)


@pytest.mark.parametrize(
    "state",
    [{"step": 4, "ended": None}, {"step": 2, "ended": vars(Decision(stop=True, kind="patience", reason="no new best"))}],
)
def test_behind_the_last_step_an_optimizer_remembers_nothing(trained, tmp_path, state):
    for name, content in checkpoint.files(copy_of(trained[0]), None, state).items():
        (tmp_path / name).write_bytes(content)
    assert not (tmp_path / checkpoint.OPTIMIZER).exists()
    module = torch.nn.Linear(40, 30)
    assert checkpoint.restore(tmp_path, module, torch.optim.AdamW(module.parameters()), steps=4) == state
    assert torch.equal(module.weight, trained[0].weight)


def test_checkpoints_are_written_beside_what_goes_on_and_in_order():
    going, written = threading.Event(), []
    with checkpoint.Writer() as writer:
        writer.begin(lambda: written.append(going.wait(60)))
        assert written == []  # it waits for what only this thread does
        going.set()
        writer.begin(lambda: written.append("second"))
        writer.wait()
        assert written == [True, "second"]


def fail() -> None:
    raise OSError(28, "No space left on device", "a.txt")


def test_a_write_that_fails_is_raised_once_where_it_is_waited_for():
    with checkpoint.Writer() as writer:
        writer.begin(fail)
        with pytest.raises(OSError, match="No space left"):
            writer.begin(lambda: None)
        writer.wait()
    with pytest.raises(OSError, match="No space left"), checkpoint.Writer() as writer:
        writer.begin(fail)


def end_in_the_middle() -> None:
    with checkpoint.Writer() as writer:
        writer.begin(fail)
        raise ValueError("the reason")


def test_a_write_that_fails_beside_another_error_is_logged(caplog):
    with caplog.at_level(logging.ERROR), pytest.raises(ValueError, match="the reason"):
        end_in_the_middle()
    assert "a checkpoint could not be written either" in caplog.text
