"""Every translator: shapes, RMS, gradients, padding, determinism, checkpoints; then what is particular to each."""

from dataclasses import replace

import pytest
import torch
from built import BOTTLENECKED, CONFIGS, RMS, B, D, S, all_translators, awake, build, states
from hypothesis import given
from hypothesis import strategies as st

from raybridge.config import rebuild, resolve
from raybridge.models.pieces import Piece
from raybridge.training import checkpoint
from raybridge.translators.anchor import picks, windows
from raybridge.translators.dit import DiTModule
from raybridge.translators.linear import Linear, LinearModule
from raybridge.translators.optimizer import Muon, optimizer
from raybridge.translators.prompt_tuning import PromptTuning
from raybridge.translators.ridge import Moments
from raybridge.translators.weights import Unfilled, copy_of


@all_translators
def test_shape_and_the_trap_a_clamp_that_never_lets_the_rms_match(config):
    for module in (config.build(S, D, target_rms=RMS), build(config), awake(build(config))):
        soft = module(*states(config))
        assert soft.shape == (B, config.soft_tokens, D)
        assert soft.dtype == torch.float32
        torch.testing.assert_close(soft.pow(2).mean(-1).sqrt(), torch.full((B, config.soft_tokens), RMS), rtol=1e-4, atol=1e-5)


@all_translators
def test_gradient_reaches_every_parameter(config):
    module = awake(build(config))
    soft = module(*states(config))
    (soft * torch.randn_like(soft)).sum().backward()
    if isinstance(module.core, DiTModule):  # what a withheld condition trains
        x, mask = states(config)
        condition = module.core.condition(module.core_states(x), mask)
        condition = module.core.dropped(condition, torch.tensor([True, False, True, False]))
        module.core.velocity(torch.randn_like(soft), torch.rand(B), condition).pow(2).sum().backward()
    for name in config.other_targets:
        module.for_target(name, *states(config), rms=1.0).pow(3).sum().backward()
    if module.adds_onto_text:
        question = Piece(embeds_BTD=torch.randn(B, 7, D), mask_BT=torch.ones(B, 7).bool())
        for addend in module.onto(question, module(*states(config))).injected.values():
            addend.pow(3).sum().backward(retain_graph=True)
    without = [name for name, p in module.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    single = config.soft_tokens == 1  # attention over one key is constant in its query and key
    assert [name for name in without if not (single and "self_attention" in name)] == []


@all_translators
def test_padding_invariance(config):
    module = awake(build(config)).eval()
    x, mask = states(config)
    together = module(x, mask)
    filled = module(torch.where(mask[..., None, None], x, 1e3), mask)
    torch.testing.assert_close(together, filled, rtol=1e-5, atol=1e-5)
    for i, length in enumerate(mask.sum(1).tolist()):
        alone = module(x[i : i + 1, :length], mask[i : i + 1, :length])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("config", [c for c in CONFIGS if not isinstance(c, PromptTuning)], ids=lambda c: type(c).__name__)
def test_every_position_and_layer_is_read(config):
    module = awake(build(config)).eval()
    x, mask = states(config)
    x.requires_grad_()
    soft = module(x, mask)
    (soft * torch.randn_like(soft)).sum().backward()
    read = x.grad.abs().sum(-1) > 0
    core = module.core
    picked_only = isinstance(core, LinearModule) and core.config.pooling == "picked"
    assert (read.any(1) if picked_only else read[mask]).all()
    assert not read[~mask].any()


@all_translators
def test_determinism_in_training_and_evaluation(config):
    module = awake(build(config))
    again = awake(build(config))
    assert torch.equal(module(*states(config)), again(*states(config)))
    module.eval()
    torch.manual_seed(5)
    one = module(*states(config))
    torch.manual_seed(6)
    assert torch.equal(one, module(*states(config)))


def optimizer_of(module, muon):
    return optimizer(muon, module.parameter_groups(learning_rate=1e-2, weight_decay=0.1), module.maps)


@pytest.mark.parametrize("muon", [None, Muon(learning_rate=1e-2)], ids=["AdamW", "Muon"])
@all_translators
def test_checkpoint_round_trip(config, muon, tmp_path):
    module = awake(build(config))
    moved_by = optimizer_of(module, muon)
    module(*states(config)).sum().backward()
    moved_by.step()
    for name, content in checkpoint.pack(copy_of(module), moved_by, {"step": 1}).items():
        (tmp_path / name).write_bytes(content)
    other = build(config, seed=9)
    fresh = optimizer_of(other, muon)
    assert checkpoint.restore(tmp_path, other, fresh) == {"step": 1}
    assert torch.equal(module(*states(config)), other(*states(config)))
    for m, o in ((module, moved_by), (other, fresh)):
        o.zero_grad()
        m(*states(config)).pow(3).sum().backward()
        o.step()
    assert torch.equal(module(*states(config)), other(*states(config)))


@all_translators
def test_a_module_that_draws_nothing_is_any_other_once_it_has_its_weights(config):
    drawn = build(config)
    with Unfilled():
        filled = build(config)
    filled.load_state_dict(drawn.state_dict())
    for kind in ("named_parameters", "named_buffers"):
        theirs = dict(getattr(drawn, kind)())
        for name, value in getattr(filled, kind)():
            assert torch.equal(value, theirs.pop(name)), name
        assert not theirs


def test_a_module_that_draws_nothing_takes_no_random_number():
    before = torch.get_rng_state()
    with Unfilled():
        config = CONFIGS[0]
        module = config.build(S, D, target_rms=RMS)
    drawn = sum(one.numel() for name, one in module.named_parameters() if name.endswith("weight"))
    assert drawn > 1000
    assert torch.equal(torch.get_rng_state(), before)


@all_translators
def test_every_parameter_is_trained_once_and_only_matrices_decay(config):
    module = build(config)
    groups = module.parameter_groups(learning_rate=1e-3, weight_decay=0.1)
    trained = [p for group in groups for p in group["params"]]
    assert sorted(map(id, trained)) == sorted(id(p) for p in module.parameters())
    assert all(p.ndim >= 2 for group in groups if group["weight_decay"] for p in group["params"])


@all_translators
def test_a_translator_checks_itself_and_comes_back_from_json(config):
    assert rebuild(resolve(config)) == config
    with pytest.raises(ValueError, match="soft_tokens must be at least 1, not 0"):
        replace(config, soft_tokens=0)


@pytest.mark.parametrize("config", BOTTLENECKED)
def test_closed_gates_get_gradient_from_the_first_step(config):
    module = build(config)
    soft = module(*states(config))
    (soft * torch.randn_like(soft)).sum().backward()
    gates = {name: p for name, p in module.named_parameters() if name.endswith("gate")}
    assert gates
    assert all(p.item() == 0 and p.grad.abs() > 0 for p in gates.values())


def test_the_trap_best_is_last_because_state_dict_keeps_references():
    module = build(CONFIGS[0])
    kept = copy_of(module)
    before = kept["out.weight"].clone()
    with torch.no_grad():
        module.out.weight.add_(1)
    assert torch.equal(kept["out.weight"], before)


def test_a_checkpoint_of_another_shape_is_refused_by_name(tmp_path):
    module = build(CONFIGS[0])
    optimizer = torch.optim.AdamW(module.parameters())
    for name, content in checkpoint.pack(copy_of(module), optimizer, {}).items():
        (tmp_path / name).write_bytes(content)
    other = build(replace(CONFIGS[0], soft_tokens=7))
    with pytest.raises(ValueError, match=r"queries_KW is \(6, 32\) in the checkpoint and \(7, 32\) in the translator"):
        checkpoint.restore(tmp_path, other, torch.optim.AdamW(other.parameters()))


@pytest.mark.parametrize("config", [CONFIGS[0], CONFIGS[-1]], ids=lambda config: type(config).__name__)
def test_the_trap_orthogonal_initialisation_of_all_queries(config):
    queries = torch.nn.functional.normalize(build(config).queries_KW.detach(), dim=1)
    torch.testing.assert_close(queries @ queries.T, torch.eye(6), rtol=0, atol=1e-5)


def test_gates_learn_three_times_as_fast_and_do_not_decay():
    module = build(CONFIGS[0])
    groups = module.parameter_groups(learning_rate=1e-3, weight_decay=0.1)
    gates = [group for group in groups if any(p.ndim == 0 for p in group["params"])]
    assert [(group["lr"], group["weight_decay"]) for group in gates] == [(3e-3, 0.0)]


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
    weight, bias = Moments.of(x, y=y).ridge("y", penalty=1e-12)
    design = torch.cat([x, torch.ones(300, 1)], dim=1)
    solution = torch.linalg.lstsq(design, y).solution
    torch.testing.assert_close(weight, solution[:-1].T)
    torch.testing.assert_close(bias, solution[-1])


@given(length=st.integers(1, 80), K=st.integers(1, 40))
def test_windows_cover_every_position_and_average(length, K):
    mask = torch.arange(81)[None] < length
    weights = windows(mask, K)[0]
    used = weights[: min(length, K)]
    torch.testing.assert_close(used.sum(1), torch.ones(len(used)))
    assert not weights[len(used) :].any()
    assert not weights[:, length:].any()
    assert (weights[:, :length] > 0).any(0).all()
    widths = (used > 0).sum(1)
    assert widths.max() - widths.min() <= 2


@given(length=st.integers(1, 80), K=st.integers(1, 40))
def test_the_kth_window_holds_the_kth_pick(length, K):
    mask = torch.arange(81)[None] < length
    chosen, real = picks(mask.sum(1), K)
    held = windows(mask, K)[0].gather(1, chosen[0].unsqueeze(1)).squeeze(1) > 0
    assert torch.equal(held, real[0])


def test_linear_as_long_as_the_question_is_the_ridge_map_of_every_position():
    config = Linear(soft_tokens=13, layers=(0,))
    module, (x, mask) = build(config), states(config)
    mapped = module.anchor.map(x[0, :, 0])
    torch.testing.assert_close(
        module(x, mask)[0, :11], mapped / mapped.pow(2).mean(-1, keepdim=True).sqrt() * RMS, rtol=1e-4, atol=1e-5
    )


def test_mean_pooling_is_the_map_of_the_mean_of_each_window():
    config = Linear(soft_tokens=4, layers=(2,), pooling="mean")
    module, (x, mask) = build(config), states(config)
    mapped = torch.stack([module.anchor.map(x[0, a:b, 0].mean(0)) for a, b in ((0, 3), (2, 6), (5, 9), (8, 11))])
    torch.testing.assert_close(
        module(x, mask)[0], mapped / mapped.pow(2).mean(-1, keepdim=True).sqrt() * RMS, rtol=1e-4, atol=1e-5
    )


def test_prompt_tuning_ignores_the_source():
    config = PromptTuning(soft_tokens=5)
    module, (x, mask) = build(config), states(config)
    soft = module(x, mask)
    assert torch.equal(soft[0], soft[1])
    assert torch.equal(soft, module(torch.randn_like(x), mask))


def test_an_unknown_pooling_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"pooling must be one of 'picked', 'mean' \(did you mean 'mean'\?\), not 'men'"):
        Linear(soft_tokens=4, layers=(0,), pooling="men")
