"""Attention that takes grouped heads as they are: the naive formula, and no tensor of as many keys as there are query heads."""

import pytest
import tiny_lms
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaConfig, MistralConfig

from raybridge.models import attention
from raybridge.models.attention import grouped, head_by_head
from raybridge.models.decode import greedy
from raybridge.models.frozen import FrozenLM
from raybridge.models.partial import attended, bias_of

B, H, G, E, T = 3, 8, 2, 16, 7
SCALE = 0.3
SHAPE = tiny_lms.PLAIN | dict(hidden_size=64, num_attention_heads=H, num_key_value_heads=G)


def naive(q, k, v, mask, *, causal):
    """Keys and values repeated, scores, softmax."""
    k, v = (one.repeat_interleave(H // G, dim=1) for one in (k, v))
    scores = q @ k.mT * SCALE
    if causal:
        scores = scores.masked_fill(~torch.ones(scores.shape[-2:], dtype=torch.bool).tril(), -torch.inf)
    return (scores if mask is None else scores.masked_fill(~mask, -torch.inf)).softmax(-1) @ v


def drawn(new: int):
    torch.manual_seed(new)
    q, k, v = (torch.randn(B, heads, length, E).requires_grad_() for heads, length in ((H, new), (G, T), (G, T)))
    seen = torch.rand(B, 1, new, T) < 0.6
    return q, k, v, seen | torch.eye(T, dtype=torch.bool)[-new:]


@pytest.mark.parametrize(
    ("new", "masked", "causal"), [(1, False, False), (1, True, False), (4, True, False), (T, True, False), (T, False, True)]
)
def test_grouped_heads_attend_as_repeated_ones_forward_and_backward(new, masked, causal):
    q, k, v, seen = drawn(new)
    mask = seen if masked else None
    wanted = naive(q, k, v, mask, causal=causal)
    ways = [grouped(q, k, v, mask, causal=causal, scale=SCALE)]
    if masked:
        ways.append(head_by_head(q, k, v, mask, scale=SCALE))
        ways.append(head_by_head(q, k, v, mask.expand(-1, H, -1, -1), scale=SCALE))
        ways.append(grouped(q, k, v, mask.expand(-1, H, -1, -1), causal=False, scale=SCALE))
    for found in ways:
        torch.testing.assert_close(found, wanted)
        for one, other in zip(
            *(torch.autograd.grad(out.sin().sum(), (q, k, v), retain_graph=True) for out in (found, wanted)), strict=True
        ):
            torch.testing.assert_close(one, other)


class Kernels(TorchDispatchMode):
    """How many heads the keys have that attention kernels are given."""

    def __init__(self):
        super().__init__()
        self.heads = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if "scaled_dot_product" in str(function):
            self.heads.append(args[2 if "backward" in str(function) else 1].shape[1])
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("config", [LlamaConfig(**SHAPE), MistralConfig(**SHAPE, sliding_window=6)], ids=["plain", "window"])
def test_no_kernel_is_given_a_key_for_each_query_head(config):
    lm = FrozenLM("grouped", tiny_lms.made(config), tiny_lms.tokenizer())
    rows = [[5, 6, 7, 8, 9, 10, 11, 12], [13, 14, 15]]
    with Kernels() as ours:
        lm.hidden_states([0, 3], rows, (1, lm.depth))
        lm.answer_nll([lm.soft_piece(torch.randn(2, 3, lm.width).requires_grad_())], rows).sum().backward()
        greedy(lm, [lm.text_piece(rows)], max_new_tokens=3, shared=[0, 3, 4])
    assert set(ours.heads) == {G}
    mask = torch.tensor([[0, 1, 1], [1, 1, 1]])
    with Kernels() as theirs:
        lm.model(input_ids=torch.tensor([[5, 6, 7], [8, 9, 10]]), attention_mask=mask)
    assert set(theirs.heads) == {H}, "transformers repeats where there is a mask"


@pytest.mark.parametrize(
    ("name", "known"), [("llama", True), ("deepseek_v3", True), ("gemma2", False), ("gpt_oss", False), ("stablelm", False)]
)
def test_bounded_scores_sinks_and_attention_of_older_models_stay_their_own(name, known):
    assert attention.takes_heads_grouped(tiny_lms.tiny(name).model) == known


@pytest.mark.parametrize(("new", "masked"), [(1, False), (1, True), (4, True), (T, False)])
def test_a_shared_prompt_attended_to_apart_is_one_in_front_of_every_row(new, masked):
    q, k, v, seen = drawn(new)
    shared = [torch.randn(1, G, 5, E) for _ in "kv"]
    whole = [torch.cat([before.expand(B, -1, -1, -1), own], dim=2) for before, own in zip(shared, (k, v), strict=True)]
    if not masked:
        seen = torch.ones(B, 1, new, T, dtype=torch.bool).tril(T - new)
    mask = F.pad(seen, (5, 0), value=True)
    with torch.no_grad():
        bias = bias_of(seen, q.dtype) if masked else None
        found = attended(q, k, v, shared, bias, causal=new == T, scale=SCALE)
        torch.testing.assert_close(found, naive(q, *whole, mask, causal=False))
