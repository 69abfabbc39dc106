"""Diagnostics of soft tokens against naive formulas, and the figure's way back to them."""

from __future__ import annotations

import inspect
import pkgutil
from dataclasses import is_dataclass, replace
from importlib import import_module

import pandas as pd
import pytest
import synthetic
import torch
from built import CONFIGS as TRANSLATORS
from built import all_translators, awake, build, states

from raybridge import translators
from raybridge.analysis.runs import Runs
from raybridge.evaluation import conditioning
from raybridge.evaluation.conditioning import attention_of, binned, conditioning_of, look_inside, nearest, singular_values
from raybridge.evaluation.setting import setting_of
from raybridge.losses.next_token import AnswerNLL
from raybridge.losses.other_target import OtherTarget
from raybridge.models import names
from raybridge.results import Results
from raybridge.results.files import write_frame
from raybridge.results.schema import ATTENTION_BINS, CONDITIONING
from raybridge.translators.attention_pooling import AttentionPooling
from raybridge.translators.bottlenecked import Bottlenecked
from raybridge.translators.dit import DiT
from raybridge.translators.hybrid_dit import HybridDiT
from raybridge.translators.linear import Linear
from raybridge.translators.options import Option
from raybridge.translators.prompt_tuning import PromptTuning
from raybridge.translators.receiver_lora import ReceiverLoRA


def test_singular_values_are_those_of_the_whole_matrix(monkeypatch):
    rows_ND = torch.randn(230, 12, dtype=torch.float64) @ torch.randn(12, 12, dtype=torch.float64) + 5
    naive = torch.linalg.svdvals(rows_ND - rows_ND.mean(0)).tolist()
    assert singular_values(rows_ND) == pytest.approx(naive, rel=1e-5)
    monkeypatch.setattr(conditioning, "AT_ONCE", 70)  # three parts, one after the other
    assert singular_values(rows_ND) == pytest.approx(naive, rel=1e-5)


def test_soft_tokens_that_use_two_directions_have_two_singular_values():
    rows_ND = torch.randn(300, 2) @ torch.randn(2, 40)
    found = singular_values(rows_ND)
    assert found[1] > 1
    assert max(found[2:]) < 1e-3


def test_singular_values_of_few_wide_vectors():
    assert len(singular_values(torch.randn(3, 500))) == 3


def test_nearest_is_the_largest_cosine():
    soft_BKD, embedding_VD = torch.randn(5, 3, 8), torch.randn(11, 8)
    cosines = torch.nn.functional.cosine_similarity(soft_BKD[:, :, None], embedding_VD, dim=-1)
    torch.testing.assert_close(nearest(soft_BKD, embedding_VD), cosines.amax(-1))
    torch.testing.assert_close(nearest(3 * embedding_VD[None, :4], embedding_VD), torch.ones(1, 4))


def test_even_attention_is_even_in_the_bins_whatever_the_length():
    mask_BT = torch.arange(50) < torch.tensor([[3], [16], [37], [50]])
    attention_BKT = (mask_BT / mask_BT.sum(1, keepdim=True))[:, None].expand(-1, 2, -1)
    torch.testing.assert_close(
        binned(attention_BKT, mask_BT), torch.full((2, ATTENTION_BINS), 1 / ATTENTION_BINS, dtype=torch.float64)
    )


def test_attention_is_counted_where_it_lies():
    mask_BT = torch.tensor([[False] * 3 + [True] * 2 * ATTENTION_BINS])  # padding on the left is no part of the question
    attention_BKT = torch.zeros(1, 1, mask_BT.shape[1])
    attention_BKT[0, 0, 3 + 5] = 0.75
    attention_BKT[0, 0, -1] = 0.25
    found_KN = binned(attention_BKT, mask_BT)
    assert found_KN[0, 2] == pytest.approx(0.75)
    assert found_KN[0, -1] == pytest.approx(0.25)
    assert found_KN.sum() == pytest.approx(1)


@pytest.mark.parametrize("config", [Bottlenecked, AttentionPooling])
def test_attention_is_what_the_translator_used(config):
    torch.manual_seed(0)
    module = config(soft_tokens=3, layers=(0,), width=16, heads=2).build(8, 8, target_rms=1.0).eval()
    states_BTLS, mask_BT = torch.randn(4, 6, 1, 8), torch.arange(6) < torch.tensor([[6], [4], [2], [1]])
    attention_BKT = attention_of(module, states_BTLS, mask_BT)
    assert attention_BKT.shape == (4, 3, 6)
    torch.testing.assert_close(attention_BKT.sum(-1), torch.ones(4, 3))
    assert not attention_BKT[~mask_BT[:, None].expand(-1, 3, -1)].any()
    assert not any(part._forward_pre_hooks for part in module.modules())


def test_attention_weights_give_what_attention_gives():
    from raybridge.translators.parts import Attention

    attention = Attention(8, 1)  # one head: the mean over the heads is the head
    x_BKW, memory_BTW, mask_BT = torch.randn(2, 3, 8), torch.randn(2, 5, 8), torch.arange(5) < torch.tensor([[5], [3]])
    weights_BKT = conditioning._weights(attention, x_BKW, memory_BTW, mask_BT)
    values_BTW = attention.key_value(memory_BTW).chunk(2, dim=-1)[1]
    torch.testing.assert_close(attention.out(weights_BKT @ values_BTW), attention(x_BKW, memory_BTW, mask_BT))


def test_a_translator_without_cross_attention_has_none():
    module = Linear(soft_tokens=3, layers=(0,)).build(8, 8, target_rms=1.0)
    assert attention_of(module, torch.randn(2, 6, 1, 8), torch.ones(2, 6, dtype=torch.bool)) is None


def test_rows_come_back_from_disk_with_their_trial(tmp_path):
    run = synthetic.trial(tmp_path, "t_3tok", soft_tokens=3, points=2, n=20)
    mask_BT = torch.ones(4, 7, dtype=torch.bool)
    rows = conditioning_of(torch.randn(4, 3, 8), torch.randn(9, 8), torch.rand(4, 3, 7), mask_BT)
    assert set(rows[0]) == set(CONDITIONING)
    by_kind = pd.DataFrame(rows).query("index == 1").set_index("kind")["value"]
    assert by_kind["nearest_p10"] < by_kind["nearest"] < by_kind["nearest_p90"]
    write_frame(run.path / "samples/pocket/conditioning.parquet", pd.DataFrame(rows))
    found = Runs(Results(tmp_path)).conditioning
    assert found.groupby("kind").size().to_dict() == {
        **{"attention": 3 * ATTENTION_BINS, "nearest": 3, "nearest_p10": 3, "nearest_p90": 3, "nearest_random": 3},
        "singular_value": 8,
    }
    assert set(found["label"]) == {"t_3tok"}
    assert set(found["evaluator"]) == {"pocket"}
    assert set(found["n"]) == {4}
    assert run.sampled()  # the file is not taken for an evaluation
    assert len(rows) == len(found)


def test_a_file_without_its_columns_is_refused(tmp_path):
    run = synthetic.trial(tmp_path, "t", points=2, n=20)
    write_frame(run.path / "samples/pocket/conditioning.parquet", pd.DataFrame({"kind": ["nearest"]}))
    with pytest.raises(ValueError, match="has no column 'index'"):
        _ = Runs(Results(tmp_path)).conditioning


def test_one_question_has_no_spread():
    with pytest.raises(ValueError, match="at least 2"):
        conditioning_of(torch.randn(1, 3, 8), torch.randn(9, 8))


def core_of(config):
    while isinstance(config, Option):
        config = config.translator
    return config


def queries_of(config) -> int:
    """How many queries of a translator read the question."""
    core = core_of(config)
    if isinstance(core, DiT) and not isinstance(core, HybridDiT):
        return 1 if core.pooling == "attention" else 0
    return 0 if isinstance(core, Linear | PromptTuning) else config.soft_tokens


@all_translators
def test_every_translator_can_be_looked_into(config, trial, models):
    setting = setting_of(replace(trial, translator=config, losses=losses_of(config)), "dev")
    target, width = models.load(trial.target), names.width_of(trial.source)
    module = awake(config.build(width, target.width, target_rms=target.embedding_rms))
    rows = pd.DataFrame(look_inside(setting, models, module.state_dict()))
    assert rows["value"].notna().all()
    assert (rows["kind"] == "nearest").sum() == config.soft_tokens
    attention = rows[rows["kind"] == "attention"]["value"].to_numpy().reshape(queries_of(config), ATTENTION_BINS)
    assert attention.sum(1) == pytest.approx(1)


def losses_of(config):
    return (AnswerNLL(), *(OtherTarget(target=name) for name in config.other_targets))


def test_every_translator_there_is_was_looked_into():
    modules = [import_module(f"{translators.__name__}.{found.name}") for found in pkgutil.iter_modules(translators.__path__)]
    classes = {thing for module in modules for thing in vars(module).values() if inspect.isclass(thing)}
    there = {one for one in classes if is_dataclass(one) and hasattr(one, "build") and hasattr(one, "arm")}
    there -= {ReceiverLoRA}  # of the shape of a target that is really there, and a constant prompt like FormatOnly's
    assert there == {type(config) for config in TRANSLATORS} | {type(core_of(config)) for config in TRANSLATORS}


def test_attention_of_a_hybrid_is_that_of_its_soft_tokens_and_not_of_its_pool():
    config = HybridDiT(soft_tokens=1, layers=(0, 2), width=32, depth=2, heads=4, eval_steps=3)
    module, seen = awake(build(config)).eval(), []
    for block in module.blocks:
        block.cross_attention.register_forward_pre_hook(lambda part, given: seen.append(conditioning._weights(part, *given)))
    told = attention_of(module, *states(config))
    assert len(seen) == 2 * 3
    torch.testing.assert_close(told, torch.stack(seen).mean(0))


def test_attention_of_a_guided_flow_leaves_out_the_pass_without_its_question():
    config = HybridDiT(soft_tokens=3, layers=(0, 2), width=32, depth=2, heads=4, eval_steps=1)
    plain, guided = (awake(build(one)).eval() for one in (config, replace(config, guidance=3.0)))
    torch.testing.assert_close(attention_of(guided, *states(config)), attention_of(plain, *states(config)))
