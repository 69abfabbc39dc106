"""How many GPUs a machine has: who is asked, in which order, and how nvidia-smi's answer is read."""

from __future__ import annotations

import re
import subprocess

import pytest
import torch

from raybridge.cluster import machine

LISTED = """\
GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-6f0e3bd1-9a0e-6a3b-5f7b-0f4f6f9b1d11)
  MIG 1g.10gb Device 0: (UUID: MIG-2c0d4a57-5d1c-5a1e-9e5c-0d1f3f3b2a10)
GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-7a1f4ce2-0b1f-7b4c-608c-1f5a70ac2e22)
GPU 2: NVIDIA H100 80GB HBM3 (UUID: GPU-8b205df3-1c20-8c5d-719d-206b81bd3f33)
"""


@pytest.mark.parametrize(
    ("visible", "count"),
    [(None, 3), ("", 0), ("0,2", 2), ("1", 1), ("-1", 0), ("0,-1,1", 1), ("0,7,1", 1), ("GPU-6f0e3bd1,GPU-7a1f4ce2", 2)],
)
def test_gpus_are_counted_as_cuda_will_see_them(visible, count):
    assert machine.gpus_in(LISTED, visible=visible) == count


def test_no_device_is_none():
    assert machine.gpus_in("No devices found.\n", visible=None) == 0


def answers(monkeypatch, done) -> None:
    def run(*args, **options):
        if isinstance(done, Exception):
            raise done
        return done

    monkeypatch.setattr(machine.subprocess, "run", run)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 5)


def test_nvidia_smi_is_asked_before_torch(monkeypatch):
    answers(monkeypatch, subprocess.CompletedProcess((), 0, stdout=LISTED))
    assert machine.gpus_here() == 3


@pytest.mark.parametrize(
    "done",
    [
        FileNotFoundError("nvidia-smi"),
        subprocess.TimeoutExpired("nvidia-smi", 20),
        subprocess.CompletedProcess((), 9, stdout="NVIDIA-SMI has failed because it couldn't communicate with the driver"),
    ],
    ids=["absent", "late", "failed"],
)
def test_torch_is_asked_where_nvidia_smi_does_not_answer(monkeypatch, done):
    answers(monkeypatch, done)
    assert machine.gpus_here() == 5


def test_num_gpus_goes_before_what_is_found(monkeypatch):
    answers(monkeypatch, AssertionError("nobody else is asked"))
    monkeypatch.setenv("NUM_GPUS", "2")
    found = machine.here()
    assert (found.gpus, found.told, found.cluster) == (2, True, False)
    monkeypatch.delenv("NUM_GPUS")
    answers(monkeypatch, subprocess.CompletedProcess((), 0, stdout=LISTED))
    assert (machine.here().gpus, machine.here().told) == (3, False)


def test_an_empty_num_gpus_says_nothing(monkeypatch):
    answers(monkeypatch, subprocess.CompletedProcess((), 0, stdout=LISTED))
    monkeypatch.setenv("NUM_GPUS", "")
    assert machine.gpus_told() is None
    assert (machine.here().gpus, machine.here().told) == (3, False)


@pytest.mark.parametrize("told", ["two", "²", "-1", "1.5", " ", "1 2"])
def test_num_gpus_that_is_no_number_is_told_in_a_sentence(monkeypatch, told):
    monkeypatch.setenv("NUM_GPUS", told)
    with pytest.raises(ValueError, match=re.escape(f"NUM_GPUS={told!r} is not a number of GPUs (0, 1, 2, ...)")):
        machine.here()


@pytest.mark.parametrize(
    ("asked", "there", "built", "why"),
    [
        (1, 1, True, None),
        (2, 4, True, None),
        (4, 2, True, "torch 2.9 finds 2"),
        (1, 0, True, "torch 2.9 finds none"),
        (1, 0, False, "torch 2.9 is built without CUDA"),
    ],
)
def test_gpus_are_of_use_where_torch_finds_as_many(monkeypatch, asked, there, built, why):
    monkeypatch.setattr(torch, "__version__", "2.9")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: built)
    assert machine.unusable(asked) == why


@pytest.mark.parametrize(
    ("done", "gib"),
    [
        (subprocess.CompletedProcess((), 0, stdout="81559, 480\n143771, 500\n"), (81559 - 480) / 1024),
        (subprocess.CompletedProcess((), 0, stdout="81559, [N/A]\n"), 81559 / 1024),
        (FileNotFoundError("nvidia-smi"), machine.CARD),
    ],
    ids=["the smallest", "a driver that does not tell what it takes", "elsewhere"],
)
def test_a_plan_is_for_the_smallest_card_there_or_for_one_of_80_gb(monkeypatch, done, gib):
    answers(monkeypatch, done)
    assert machine.card() == gib
