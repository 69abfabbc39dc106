"""Muon moves the linear maps and AdamW the rest, each as it would alone."""

import math
from copy import deepcopy

import pytest
import torch
from torch import nn

from raybridge.config import rebuild, resolve
from raybridge.translators.optimizer import Muon, StackedMuon, Together, optimizer
from raybridge.translators.prompt_tuning import PromptTuning

RATE, MUON = 1e-2, 3e-2


class Small(nn.Module):
    """A linear map with its bias, queries and a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(12, 20)
        self.queries = nn.Parameter(torch.randn(5, 20))
        self.gate = nn.Parameter(torch.ones(1))


@pytest.fixture
def module():
    torch.manual_seed(0)
    found = Small()
    for p in found.parameters():
        p.grad = torch.randn_like(p)
    return found


def groups_of(module):
    """As a translator's, without decay."""
    return [{"params": list(module.parameters()), "lr": RATE, "weight_decay": 0.0}]


def moved_by(module, muon):
    return optimizer(muon, groups_of(module), [module.map.weight])


def test_a_map_is_moved_as_far_in_every_direction(module):
    before, gradient = module.map.weight.detach().clone(), module.map.weight.grad
    moved_by(module, Muon(learning_rate=MUON)).step()
    step = before - module.map.weight.detach()
    u, _, v = torch.linalg.svd(gradient, full_matrices=False)
    sizes = (u.T @ step @ v.T) / (MUON * 0.2 * math.sqrt(20))  # along each direction of the gradient
    assert (sizes.diagonal() - 1).abs().max() < 0.4  # Newton-Schulz ends between 0.7 and 1.2
    assert (sizes - torch.diag(sizes.diagonal())).abs().max() < 0.05
    assert step.square().mean().sqrt().item() == pytest.approx(0.2 * MUON, rel=0.2)  # the size of AdamW's


def test_maps_of_one_shape_together_move_as_torch_moves_each():
    torch.manual_seed(0)
    shapes = [(12, 20), (20, 12), (12, 20), (8, 8), (20, 12), (12, 20)]
    ours, theirs = ([nn.Parameter(torch.linspace(-1, 1, a * b).view(a, b)) for a, b in shapes] for _ in range(2))
    group = {"lr": MUON, "weight_decay": 0.1}
    one, other = (
        StackedMuon([{"params": ours, **group}], momentum=0.9),
        torch.optim.Muon([{"params": theirs, **group}], momentum=0.9, adjust_lr_fn="match_rms_adamw"),
    )
    for _ in range(4):
        for p, q in zip(ours, theirs, strict=True):
            p.grad = torch.randn_like(p)
            q.grad = p.grad.clone()
        one.step()
        other.step()
    for p, q in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=0.05 * MUON)  # products of bf16 that round otherwise; a step is 0.2 MUON
        assert one.state[p].keys() == other.state[q].keys()
        torch.testing.assert_close(one.state[p]["momentum_buffer"], other.state[q]["momentum_buffer"])


def test_what_is_no_map_is_moved_as_adamw_moves_it(module):
    other = deepcopy(module)
    for p, q in zip(other.parameters(), module.parameters(), strict=True):
        p.grad = q.grad.clone()
    moved_by(module, Muon(learning_rate=MUON)).step()
    torch.optim.AdamW(groups_of(other), fused=True).step()
    for name, p in module.named_parameters():
        assert torch.equal(p, dict(other.named_parameters())[name]) == (name != "map.weight")


def test_each_parameter_is_moved_once_and_by_its_peak(module):
    groups = moved_by(module, Muon(learning_rate=MUON)).param_groups
    assert sorted(id(p) for group in groups for p in group["params"]) == sorted(map(id, module.parameters()))
    assert [(len(group["params"]), group["peak"]) for group in groups] == [(1, MUON), (3, RATE)]
    assert [group["peak"] for group in moved_by(module, None).param_groups] == [RATE]


def test_rates_that_a_step_sets_are_those_that_move(module):
    found = moved_by(module, Muon(learning_rate=MUON))
    for group in found.param_groups:
        group["lr"] = 0.0
    before = [p.detach().clone() for p in module.parameters()]
    found.step()
    assert all(torch.equal(p, q) for p, q in zip(module.parameters(), before, strict=True))


def test_what_is_remembered_goes_to_whom_it_belongs(module):
    one, other = (moved_by(deepcopy(module), Muon(learning_rate=MUON)) for _ in range(2))
    for group in one.param_groups:
        for p in group["params"]:
            p.grad = torch.ones_like(p)
    one.step()
    state = one.state_dict()["state"]
    assert [sorted(state[number]) for number in range(4)] == [["momentum_buffer"], *[["exp_avg", "exp_avg_sq", "step"]] * 3]
    other.load_state_dict({"state": state, "param_groups": other.state_dict()["param_groups"]})
    again = other.state_dict()["state"]
    for number, values in state.items():
        assert all(torch.equal(again[number][name], value) for name, value in values.items())


def test_a_translator_without_maps_is_moved_by_adamw_alone():
    constant = PromptTuning(soft_tokens=4, layers=(0,)).build(8, 16, target_rms=0.02)
    found = optimizer(Muon(learning_rate=MUON), constant.parameter_groups(learning_rate=RATE, weight_decay=0.0), constant.maps)
    assert isinstance(found, Together)
    assert [type(member) for member in found.members] == [torch.optim.AdamW]


def test_it_checks_itself_and_comes_back_from_json():
    muon = Muon(learning_rate=MUON)
    assert rebuild(resolve(muon)) == muon
    with pytest.raises(ValueError, match=r"learning_rate must be above 0, and momentum .* not 0.0 and 1.0"):
        Muon(learning_rate=0.0, momentum=1.0)
