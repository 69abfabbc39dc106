"""Peak memory of an arm on an accelerator is that of its own models, whatever else lies there."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from asking import requests_of, with_arms
from torch import nn

from raybridge.arms import find
from raybridge.evaluation.costs import _of_others, members

SIZES = {"pocket:source": 1000, "pocket:target": 100, "translator": 10}  # numbers of four bytes
RESTING = 4 * 1110 + 7  # all of them, and what is nobody's


def fake(name: str) -> nn.Module:
    module = nn.Module()
    module.register_buffer("numbers", torch.zeros(SIZES[name]))
    return module


@pytest.fixture
def on_a_card():
    """Both models and a translator, as if they lay on an accelerator."""
    return SimpleNamespace(
        device=torch.device("cuda"),
        load=lambda name: SimpleNamespace(model=fake(name)),
        module=lambda setting, weights: fake("translator"),
    )


@pytest.mark.parametrize(
    ("arm", "own"),
    [
        ("target", {"pocket:target"}),
        ("source", {"pocket:source"}),
        ("bridged", {"pocket:source", "pocket:target"}),
        ("joint", {"pocket:source", "pocket:target"}),
        ("cascade", {"pocket:source", "pocket:target"}),
        ("text_relay", {"pocket:source", "pocket:target"}),
        ("self_repair", {"pocket:target"}),
    ],
)
def test_models_that_an_arm_does_not_need_are_left_out(trial, on_a_card, arm, own):
    (request,) = requests_of(trial, "dev", "bridged")
    request = with_arms(request, arm)
    assert members(request, find(arm)) == own
    needed = sum(SIZES[name] for name in own) + (SIZES["translator"] if find(arm).trained else 0)
    assert _of_others(request, on_a_card, find(arm), {}, RESTING) == RESTING - 4 * needed
