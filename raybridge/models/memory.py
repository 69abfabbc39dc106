"""What a causal LM takes on a GPU, in bytes, from its config alone: nothing is loaded. Models compute there in bf16."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedConfig

from raybridge.models.frozen import CHUNK
from raybridge.models.kv_cache import kv_bytes
from raybridge.models.shape import attends_only, head_sizes, without_weights

HALF, SINGLE = 2, 4  # bytes of a number


class UnpredictableError(Exception):
    """What a model takes is not predicted here; whether it can be used is another matter."""


def weight_bytes(config: PreTrainedConfig, *, bits: int = 16) -> int:
    """The weights, those that two parts share counted once. bits: of a packed weight; embeddings and head are never packed."""
    shape = config.to_json_string(use_diff=False)
    if shape not in _counted:
        _counted[shape] = _parameters(config)
    ends, layers = _counted[shape]
    return ends * HALF + layers * bits // 8


_counted: dict[str, tuple[int, int]] = {}  # a config has no hash


def _parameters(config: PreTrainedConfig) -> tuple[int, int]:
    """Weights of embeddings and head, and of all layers."""
    model = without_weights(config)
    both = {id(p): p for end in (model.get_input_embeddings(), model.get_output_embeddings()) for p in end.parameters()}
    ends = sum(p.numel() for p in both.values())
    return ends, sum(p.numel() for p in model.parameters()) - ends


def layer_bytes(config: Any) -> int:
    """What one frozen layer keeps of a position for its backward pass.

    A frozen linear layer keeps nothing of its input. What is left: the input of both norms in fp32, queries, keys, values and
    what was attended, and in the gated feed-forward the gate, its activation and what it is multiplied with.
    """
    text = config.get_text_config()
    sizes = head_sizes(text)
    if not sizes or not attends_only(config):
        raise UnpredictableError(f"what layers of {text.model_type} keep that are no attention is not predicted")
    heads = text.num_attention_heads
    grouped = getattr(text, "num_key_value_heads", None) or heads
    inner = getattr(text, "intermediate_size", None) or 4 * text.hidden_size
    experts = getattr(text, "num_experts_per_tok", None) or 1
    return 2 * SINGLE * text.hidden_size + HALF * (2 * (heads + grouped) * max(sizes) + 3 * experts * inner)


def activation_bytes(config: Any, positions: float, *, recomputed: bool) -> float:
    """What a pass over so many positions keeps for its backward pass, and the gradients of one layer on the way back.

    recomputed: a layer keeps its input alone, and is computed again when its turn comes.
    """
    text = config.get_text_config()
    layer, depth = layer_bytes(text), text.num_hidden_layers
    kept = depth * HALF * text.hidden_size + layer if recomputed else depth * layer
    return positions * (kept + layer + SINGLE * text.hidden_size)


def logit_bytes(config: Any, texts: Sequence[float]) -> float:
    """What the likelihoods of texts of so many tokens keep, and the most that exists beside it on the way back.

    Up to a chunk of tokens log-probabilities are kept in fp32; of a longer text each chunk is computed again in its turn.
    """
    kept = sum(tokens for tokens in texts if tokens <= CHUNK) * SINGLE
    longest = max(texts, default=0)
    beside = min(longest, CHUNK) * (SINGLE + HALF) + (CHUNK * SINGLE if longest > CHUNK else 0)
    return float(config.get_text_config().vocab_size * (kept + beside))


def cache_bytes(config: Any, tokens: int) -> int:
    """Keys and values of so many tokens."""
    try:
        return kv_bytes(config, tokens)
    except ValueError as error:
        raise UnpredictableError(str(error)) from error


def scoring_bytes(config: Any) -> int:
    """What likelihoods take at most without a backward pass: a chunk of logits and of log-probabilities."""
    return int(config.get_text_config().vocab_size) * CHUNK * 2 * SINGLE
