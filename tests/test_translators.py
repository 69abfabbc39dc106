from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raybridge import checkpoint
from raybridge.translators.anchor import picks, ridge
from raybridge.translators.bottlenecked import Bottlenecked

B, T, S, D, RMS = 4, 11, 24, 40, 0.37
CONFIGS = [
    Bottlenecked(soft_tokens=6, layers=(0, 2), width=32, depth=2, heads=4),
    Bottlenecked(soft_tokens=1, layers=(1,), width=32, depth=1, heads=4, anchored=False),
    Bottlenecked(soft_tokens=17, layers=(0, 1, 3), width=32, depth=1, heads=2),
]


def build(config, seed: int = 0):
    torch.manual_seed(seed)
    module = config.build(S, D, target_rms=RMS)
    if module.anchor is not None:
        module.anchor.fit(torch.randn(200, len(config.layers) * S), torch.randn(200, D))
    return module


def states(config, seed: int = 1):
    torch.manual_seed(seed)
    lengths = torch.tensor([11, 3, 7, 1])
    return torch.randn(B, T, len(config.layers), S), torch.arange(T) < lengths[:, None]


def open_gates(module):
    for name, p in module.named_parameters():
        if name.endswith("gate"):
            torch.nn.init.constant_(p, 0.5)
    return module


@pytest.mark.parametrize("config", CONFIGS)
def test_shape_and_the_rms_really_match(config):
    for module in (build(config), open_gates(build(config))):
        soft = module(*states(config))
        assert soft.shape == (B, config.soft_tokens, D)
        torch.testing.assert_close(soft.pow(2).mean(-1).sqrt(), torch.full((B, config.soft_tokens), RMS), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config", CONFIGS)
def test_gradient_reaches_every_parameter_once_the_gates_are_open(config):
    module = open_gates(build(config))
    soft = module(*states(config))
    (soft * torch.randn_like(soft)).sum().backward()
    without = [name for name, p in module.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    single = config.soft_tokens == 1  # attention over one key is constant in its query and key
    assert [name for name in without if not (single and "self_attention" in name)] == []


@pytest.mark.parametrize("config", CONFIGS)
def test_closed_gates_get_gradient_from_the_first_step(config):
    module = build(config)
    soft = module(*states(config))
    (soft * torch.randn_like(soft)).sum().backward()
    gates = {name: p for name, p in module.named_parameters() if name.endswith("gate")}
    assert gates
    assert all(p.item() == 0 and p.grad.abs() > 0 for p in gates.values())


@pytest.mark.parametrize("config", CONFIGS)
def test_padding_invariance(config):
    module = open_gates(build(config)).eval()
    x, mask = states(config)
    together = module(x, mask)
    filled = module(torch.where(mask[..., None, None], x, 1e3), mask)
    torch.testing.assert_close(together, filled, rtol=1e-5, atol=1e-5)
    for i, length in enumerate(mask.sum(1).tolist()):
        alone = module(x[i : i + 1, :length], mask[i : i + 1, :length])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("config", CONFIGS)
def test_determinism_and_checkpoint_round_trip(config, tmp_path):
    module = open_gates(build(config))
    optimizer = torch.optim.AdamW(module.parameter_groups(learning_rate=1e-2, weight_decay=0.1))
    module(*states(config)).sum().backward()
    optimizer.step()
    for name, content in checkpoint.pack(checkpoint.copy_of(module), optimizer, {"step": 1}).items():
        (tmp_path / name).write_bytes(content)
    other = build(config, seed=9)
    fresh = torch.optim.AdamW(other.parameter_groups(learning_rate=1e-2, weight_decay=0.1))
    assert checkpoint.restore(tmp_path, other, fresh) == {"step": 1}
    assert torch.equal(module(*states(config)), other(*states(config)))
    for m, o in ((module, optimizer), (other, fresh)):
        o.zero_grad()
        m(*states(config)).pow(3).sum().backward()
        o.step()
    assert torch.equal(module(*states(config)), other(*states(config)))


def test_the_trap_best_is_last_because_state_dict_keeps_references():
    module = build(CONFIGS[0])
    kept = checkpoint.copy_of(module)
    before = kept["out.weight"].clone()
    with torch.no_grad():
        module.out.weight.add_(1)
    assert torch.equal(kept["out.weight"], before)


def test_a_checkpoint_of_another_shape_is_refused_by_name(tmp_path):
    module = build(CONFIGS[0])
    optimizer = torch.optim.AdamW(module.parameters())
    for name, content in checkpoint.pack(checkpoint.copy_of(module), optimizer, {}).items():
        (tmp_path / name).write_bytes(content)
    other = build(replace(CONFIGS[0], soft_tokens=7))
    with pytest.raises(ValueError, match=r"queries_KW is \(6, 32\) in the checkpoint and \(7, 32\) in the translator"):
        checkpoint.restore(tmp_path, other, torch.optim.AdamW(other.parameters()))


def test_the_trap_orthogonal_initialisation_of_all_queries():
    queries = build(CONFIGS[0]).queries_KW.detach()
    torch.testing.assert_close(queries @ queries.T, torch.eye(6), rtol=0, atol=1e-5)


def test_gates_learn_three_times_as_fast_and_do_not_decay():
    module = build(CONFIGS[0])
    groups = module.parameter_groups(learning_rate=1e-3, weight_decay=0.1)
    gates = [group for group in groups if any(p.ndim == 0 for p in group["params"])]
    assert [(group["lr"], group["weight_decay"]) for group in gates] == [(3e-3, 0.0)]
    counted = sum(p.numel() for group in groups for p in group["params"])
    assert counted == sum(p.numel() for p in module.parameters())
    assert all(p.ndim >= 2 for group in groups if group["weight_decay"] for p in group["params"])


@given(length=st.integers(1, 80), K=st.integers(1, 40))
def test_picks_are_in_order_and_cover_the_question(length, K):
    chosen, real = picks(torch.tensor([length]), K)
    positions = chosen[0][real[0]].tolist()
    assert positions == sorted(set(positions))
    assert len(positions) == min(length, K)
    assert positions[0] == 0
    if K > 1:
        assert positions[-1] == length - 1


def test_ridge_is_numpy_least_squares_when_the_penalty_vanishes():
    torch.manual_seed(0)
    x, y = torch.randn(300, 12).double(), torch.randn(300, 5).double()
    weight, bias = ridge(x, y, penalty=1e-12)
    design = torch.cat([x, torch.ones(300, 1)], dim=1)
    solution = torch.linalg.lstsq(design, y).solution
    torch.testing.assert_close(weight, solution[:-1].T)
    torch.testing.assert_close(bias, solution[-1])
