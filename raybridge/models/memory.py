"""What a causal LM takes on a GPU, in bytes, from its config alone: nothing is loaded. Models compute there in bf16."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import transformers
from torch import nn
from transformers import PreTrainedConfig

from raybridge.models.bits import SIZES, WHOLE
from raybridge.models.head import body_of
from raybridge.models.kv_cache import kv_bytes
from raybridge.models.layers import layers_of
from raybridge.models.placement import spread
from raybridge.models.shape import attends_only, head_sizes, without_weights
from raybridge.models.vocabulary import rows_at_once

HALF, SINGLE = 2, 4  # bytes of a number


class UnpredictableError(Exception):
    """What a model takes is not predicted here; whether it can be used is another matter."""


def weight_bytes(config: PreTrainedConfig, *, bits: int = WHOLE) -> int:
    """The weights, those that two parts share counted once. bits: that those of the layers' linear maps are packed into."""
    ends, layers = shape_bytes(config, bits=bits)
    return ends + sum(layers)


def shape_bytes(config: PreTrainedConfig, *, bits: int = WHOLE) -> tuple[int, tuple[int, ...]]:
    """The weights of a model's ends, embeddings and head above all, and of each of its layers."""
    key = config.to_json_string(use_diff=False), bits
    if key not in _counted:
        model = without_weights(config)
        layers = layers_of(body_of(model), config.get_text_config().num_hidden_layers)
        sizes = tuple(module_bytes(layer, bits=bits) for layer in layers)
        _counted[key] = module_bytes(model, bits=bits) - sum(sizes), sizes
    return _counted[key]


_counted: dict[tuple[str, int], tuple[int, tuple[int, ...]]] = {}  # a config has no hash


def module_bytes(module: Any, *, bits: int) -> int:
    """The weights of a part of a model. bits: that linear maps are packed into, all but those that give the model's output."""
    head = module.get_output_embeddings() if isinstance(module, transformers.PreTrainedModel) else None
    maps = [one for one in module.modules() if isinstance(one, nn.Linear) and one is not head]
    packed = {id(one.weight): one.weight.numel() for one in maps} if bits != WHOLE else {}
    whole = sum(p.numel() for p in module.parameters() if id(p) not in packed)
    return whole * HALF + round(sum(packed.values()) * SIZES[bits] / 8) if packed else whole * HALF


@dataclass(frozen=True, kw_only=True)
class Member:
    """A model over its cards. bits: of the weights of its linear maps."""

    config: Any
    bits: int
    cards: int

    @property
    def counts(self) -> list[int]:
        """How many layers lie on each card, as `placement` lays them."""
        return spread(*shape_bytes(self.config, bits=self.bits), self.cards)

    def weights(self, card: int) -> int:
        """Bytes on a card."""
        ends, layers = shape_bytes(self.config, bits=self.bits)
        before = sum(self.counts[:card])
        return sum(layers[before : before + self.counts[card]]) + (0 if card else ends)

    @property
    def unpacked(self) -> int:
        """Bytes of its widest map as it is unpacked for a product; none where weights are whole."""
        return 0 if self.bits == WHOLE else widest_bytes(self.config)


def widest_bytes(config: Any) -> int:
    """The widest linear map of a layer, as it is computed with."""
    text = config.get_text_config()
    return HALF * text.hidden_size * (getattr(text, "intermediate_size", None) or 4 * text.hidden_size)


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


def activation_bytes(config: Any, positions: float, *, recomputed: bool, layers: int | None = None) -> float:
    """What a pass over so many positions keeps for its backward pass, and the gradients of one layer on the way back.

    recomputed: a layer keeps its input alone, and is computed again when its turn comes. layers: so many of them; None for all.
    """
    text = config.get_text_config()
    layer, depth = layer_bytes(text), text.num_hidden_layers if layers is None else layers
    kept = depth * HALF * text.hidden_size + layer if recomputed else depth * layer
    return positions * (kept + layer + SINGLE * text.hidden_size)


def logit_bytes(config: Any, texts: Sequence[float]) -> float:
    """The most that exists of logits while the NLL of texts of so many tokens, or their KL to a teacher, is found.

    Of a chunk: its logits, the teacher's, log-probabilities of both in fp32, and a gradient. Compiled, less than half of it.
    """
    vocabulary = int(config.get_text_config().vocab_size)
    rows = min(max(texts, default=0), rows_at_once(vocabulary))
    return float(vocabulary * rows * (2 * SINGLE + 3 * HALF))


def cache_bytes(config: Any, tokens: int) -> int:
    """Keys and values of so many tokens."""
    try:
        return kv_bytes(config, tokens)
    except ValueError as error:
        raise UnpredictableError(str(error)) from error


def scoring_bytes(config: Any) -> int:
    """What likelihoods take at most without a backward pass: a chunk of logits and of log-probabilities."""
    vocabulary = int(config.get_text_config().vocab_size)
    return vocabulary * rows_at_once(vocabulary) * 2 * SINGLE
