"""Soft tokens as bytes: round trips, error bounds, counted overhead; KV caches against transformers' own."""

import math

import numpy as np
import pytest
import torch
from full_scale import LLAMA_8B, MISTRAL_7B
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    DynamicCache,
    FalconConfig,
    Gemma2Config,
    GemmaConfig,
    GPT2Config,
    LlamaConfig,
    LlamaForCausalLM,
)

from raybridge.models.kv_cache import kv_bytes
from raybridge.translators.wire import FORMATS, WireFormat, pack, through_wire, unpack, wire_bytes

formats = st.builds(WireFormat, bits=st.sampled_from([4, 6, 8, 16]), group=st.integers(1, 70))
shapes = st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple) | st.tuples(st.integers(1, 3), st.integers(1, 100))


def soft_tokens(shape: tuple[int, ...], seed: int, size: float) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * size


def scale_of(soft: torch.Tensor, form: WireFormat) -> torch.Tensor:
    """The scale of each value's group, by a plain loop."""
    scales = torch.empty_like(soft)
    for row, out in zip(soft.reshape(-1, soft.shape[-1]), scales.view(-1, soft.shape[-1]), strict=True):
        for start in range(0, len(row), form.group):
            out[start : start + form.group] = row[start : start + form.group].abs().max() / form.levels
    return scales


@settings(max_examples=150)
@given(shape=shapes, form=formats, seed=st.integers(0, 2**31), exponent=st.integers(-4, 4))
def test_round_trip_stays_within_half_a_scale(shape, form, seed, exponent) -> None:
    soft = soft_tokens(shape, seed, 10.0**exponent)
    message = pack(soft, form)
    arrived = unpack(message)
    assert len(message) == wire_bytes(shape, form)
    assert arrived.shape == soft.shape
    assert arrived.dtype == torch.float32
    if form.bits == 16:
        torch.testing.assert_close(arrived, soft.half().float(), rtol=0, atol=0)
    else:  # the scale is rounded up to fp16: at most 2^-10 larger, or the smallest step of fp16
        bound = scale_of(soft, form) * (1 + 2**-10) / 2 + 2.0**-24
        assert ((arrived - soft).abs() <= bound * (1 + 1e-5)).all()
    assert unpack(pack(arrived, form)).sub(arrived).abs().max() <= soft.abs().max() / max(form.levels, 1)


@settings(max_examples=150)
@given(shape=shapes, form=formats, seed=st.integers(0, 2**31), exponent=st.integers(-9, 4), zeros=st.booleans())
def test_what_arrives_is_what_the_bytes_say_to_the_last_bit(shape, form, seed, exponent, zeros) -> None:
    soft = soft_tokens(shape, seed, 10.0**exponent)
    if zeros:
        soft.view(-1)[::2] = 0
    assert torch.equal(through_wire(soft, form), unpack(pack(soft, form)))
    half = soft.bfloat16()
    assert torch.equal(through_wire(half, form), unpack(pack(half, form)).bfloat16())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e5])
def test_what_cannot_be_sent_does_not_arrive(value) -> None:
    for form in FORMATS.values():
        with pytest.raises(ValueError, match="finite and at most 65504"):
            through_wire(torch.tensor([[1.0, value]]), form)


@settings(deadline=None)
@given(codes=st.lists(st.integers(0, 14), min_size=1, max_size=33), bits=st.sampled_from([4, 6, 8]))
def test_integers_under_an_exact_scale_arrive_unchanged(codes, bits) -> None:
    form = WireFormat(bits=bits, group=64)
    values = torch.tensor([*codes, 7 + form.levels], dtype=torch.float32) - 7
    torch.testing.assert_close(unpack(pack(values, form)), values, rtol=0, atol=0)


def test_values_are_bit_packed_not_byte_packed() -> None:
    shape = (32, 576)
    values = 32 * 576
    overhead = 4 + 2 * 4
    scales = 2 * 32 * 576 // 32
    assert wire_bytes(shape, FORMATS["fp16"]) == overhead + 2 * values
    assert wire_bytes(shape, FORMATS["int8"]) == overhead + scales + values
    assert wire_bytes(shape, FORMATS["int6"]) == overhead + scales + values * 6 // 8
    assert wire_bytes(shape, FORMATS["int4"]) == overhead + scales + values // 2
    for form in FORMATS.values():
        assert len(pack(torch.randn(shape), form)) == wire_bytes(shape, form)


def test_fewer_bits_lose_more() -> None:
    soft = soft_tokens((64, 576), 0, 0.02)
    errors = [(through_wire(soft, form) - soft).pow(2).mean().sqrt().item() for form in FORMATS.values()]
    assert errors == sorted(errors)
    relative = [error / 0.02 for error in errors]
    assert relative[0] < 1e-3
    assert relative[1] < 0.01
    assert relative[2] < 0.03
    assert relative[3] < 0.12


def test_a_group_of_zeros_and_one_of_tiny_values_survive() -> None:
    soft = torch.zeros(2, 64)
    soft[1, 40] = 1e-9  # below the smallest fp16 number: its scale is rounded up, never to zero or to NaN
    for form in FORMATS.values():
        arrived = through_wire(soft, form)
        assert torch.isfinite(arrived).all()
        assert (arrived[0] == 0).all()
        assert (arrived - soft).abs().max() <= 2.0**-24


def test_through_wire_keeps_device_and_type() -> None:
    soft = torch.randn(3, 4, 8, dtype=torch.bfloat16, requires_grad=True)
    arrived = through_wire(soft, FORMATS["int8"])
    assert (arrived.dtype, arrived.shape, arrived.requires_grad) == (torch.bfloat16, soft.shape, False)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 7e4])
def test_what_fp16_cannot_hold_is_refused(value: float) -> None:
    for form in FORMATS.values():
        with pytest.raises(ValueError, match="must be finite and at most 65504"):
            pack(torch.tensor([[1.0, value]]), form)


def test_broken_messages_are_refused() -> None:
    message = pack(torch.randn(2, 8), FORMATS["int6"])
    for broken in (message[:-1], message + b"\0"):
        with pytest.raises(ValueError, match=rf"has {len(message)} bytes, not {len(broken)}"):
            unpack(broken)
    with pytest.raises(ValueError, match="has no header"):
        unpack(b"\x08")
    with pytest.raises(ValueError, match="ends in its header"):
        unpack(message[:6])
    with pytest.raises(ValueError, match="unknown number of bits '5'"):
        unpack(b"\x05" + message[1:])
    with pytest.raises(ValueError, match="nothing to send"):
        pack(torch.empty(0, 4), FORMATS["int8"])


def test_kv_bytes_with_8_kv_heads_where_the_model_has_32_heads() -> None:
    for config in (MISTRAL_7B, LLAMA_8B):
        assert kv_bytes(config, 1) == 32 * 8 * 128 * 2 * 2 == 131_072
        assert kv_bytes(config, 1000) == 131_072_000
        assert kv_bytes(config, 1, value_bytes=4) == 262_144


def test_kv_bytes_with_a_head_size_of_its_own() -> None:
    gemma_7b = GemmaConfig(hidden_size=3072, num_hidden_layers=28, num_attention_heads=16, num_key_value_heads=16, head_dim=256)
    assert kv_bytes(gemma_7b, 1) == 28 * 16 * 256 * 2 * 2  # hidden_size / heads would say 192


def test_kv_bytes_of_configs_that_say_it_otherwise() -> None:
    assert kv_bytes(GPT2Config(), 1) == 12 * 12 * 64 * 2 * 2
    assert kv_bytes(FalconConfig(), 1) == 32 * 1 * 64 * 2 * 2  # multi-query


def test_kv_bytes_of_what_is_no_plain_kv_cache_are_refused() -> None:
    latent = LlamaConfig()
    latent.kv_lora_rank = 512
    with pytest.raises(ValueError, match="latent attention"):
        kv_bytes(latent, 1)
    mixed = LlamaConfig(num_hidden_layers=2)
    mixed.layer_types = ["full_attention", "linear_attention"]
    with pytest.raises(ValueError, match="'linear_attention'"):
        kv_bytes(mixed, 1)


def held(cache: DynamicCache) -> int:
    return sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_kv_bytes_are_those_of_a_real_cache(kv_heads: int) -> None:
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=kv_heads,
        head_dim=12,  # not hidden_size / heads
    )
    cache = DynamicCache(config=config)
    LlamaForCausalLM(config)(input_ids=torch.zeros(1, 11, dtype=torch.long), past_key_values=cache, use_cache=True)
    assert kv_bytes(config, 11, value_bytes=4) == held(cache)


@pytest.mark.parametrize("tokens", [3, 40])
def test_kv_bytes_under_sliding_windows(tokens: int) -> None:
    config = Gemma2Config(num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, head_dim=8, sliding_window=8)
    cache = DynamicCache(config=config)
    for layer in range(4):
        cache.update(torch.zeros(1, 2, tokens, 8), torch.zeros(1, 2, tokens, 8), layer)
    one = 2 * 2 * 8 * 4  # a token's bytes in one layer
    # transformers drops the window's oldest token at once, because the next one pushes it out
    slack = 2 * one if tokens > 8 else 0
    assert kv_bytes(config, tokens, value_bytes=4) == held(cache) + slack


def test_scales_are_rounded_up() -> None:
    soft = torch.tensor([[1.0] * 32])
    message = pack(soft, FORMATS["int8"])
    scale = np.frombuffer(message, "<f2", count=1, offset=12)[0]
    assert float(scale) >= 1 / 127
    torch.testing.assert_close(unpack(message), soft, rtol=2**-10, atol=0)
