"""Tiny random models of the architectures that people use, made from configs: a few thousand weights each, fp32, on CPU."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from tiny_configs import CONFIGS, PLAIN
from tokenizers import Tokenizer, processors
from tokenizers.models import BPE
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
)

from raybridge.models.lm import FrozenLM

TOKENS = 258
BOS, EOS = "<s>", "</s>"
FIRST = 0x4E00  # the character of token 0
SOURCE_ALONE = {
    "gemma4, per-layer inputs": "it takes no embeddings but those of its tokens",
    "minimax": "it does not decode from a cache as without one",
    "rwkv": "it does not decode from a cache as without one",
    "openai-gpt": "it does not decode from a cache as without one",
}
REFUSED = {
    "gemma3n": "a state of shape (4, 1, 16, 32)",
    "opt, narrow embeddings": "a state of shape (1, 16, 32) where 3 layers give 4 states of shape (1, 16, 20)",
    "bert": "its states depend on the tokens that follow",
}
TARGETS = [name for name in CONFIGS if name not in SOURCE_ALONE.keys() | REFUSED.keys()]


class Characters(PreTrainedTokenizerFast):
    """A token a character, special ones included, so that a completion's text tells its tokens."""

    def decode(self, ids: Sequence[int], **_: object) -> str:
        """A character a token."""
        return "".join(chr(FIRST + number) for number in ids)


def tokenizer() -> Characters:
    """As many tokens as a tiny model has embeddings, but six."""
    return Characters(tokenizer_object=_characters(), bos_token=BOS, eos_token=EOS)


def plain_tokenizer() -> PreTrainedTokenizerFast:
    """The same tokens as a tokenizer that can be saved and loaded."""
    return PreTrainedTokenizerFast(tokenizer_object=_characters(), bos_token=BOS, eos_token=EOS)


def _characters() -> Tokenizer:
    names = [BOS, EOS, *(chr(FIRST + number) for number in range(2, TOKENS))]
    tok = Tokenizer(BPE(vocab={name: number for number, name in enumerate(names)}, merges=[]))
    tok.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, 0)])
    return tok


def tokens(text: str) -> list[int]:
    """The tokens of a text that such a tokenizer has written."""
    return [ord(character) - FIRST for character in text]


def config(name: str) -> PreTrainedConfig:
    """The config of a tiny model."""
    kind, told = CONFIGS[name]
    return AutoConfig.for_model(kind, **told)


@torch.no_grad()
def made(config: PreTrainedConfig, seed: int = 0) -> Any:
    """A model of a config, its weights random and large enough that every layer matters."""
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # notes on kernels that are not installed
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    for weight in model.parameters():
        if id(weight) in embeddings:
            weight.normal_(std=0.15)
        elif weight.dim() > 1:
            weight.normal_(std=weight.shape[-1] ** -0.5)
        else:
            weight.add_(torch.randn_like(weight) * 0.1)
    return model.eval()


@cache
def tiny(name: str) -> FrozenLM:
    """A tiny model of an architecture, as it is before it is seen what it does. Made once a process."""
    return FrozenLM(name, made(config(name)), tokenizer())


def spoken(folder: str, *, seed: int = 0) -> FrozenLM:
    """A tiny model with the tokenizer of a real one, out of a directory: 16 wide, an embedding for every token."""
    real = AutoTokenizer.from_pretrained(folder)
    rows = max(real.get_vocab().values()) + 1
    told = dict(vocab_size=rows, hidden_size=16, num_hidden_layers=1, max_position_embeddings=8192)
    ends = dict(bos_token_id=real.bos_token_id, eos_token_id=real.eos_token_id)
    return FrozenLM(folder, made(LlamaConfig(**PLAIN | told | ends), seed), real)


def sequence_by_sequence(q_NHE: Tensor, k_NGE: Tensor, v_NGE: Tensor, bounds: Tensor, longest: int, scale: float) -> Tensor:
    """What flash attention computes of packed rows, a sequence at a time."""
    assert bounds.diff().max() <= longest
    out = []
    for start, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        q, k, v = (x[start:end].transpose(0, 1) for x in (q_NHE, k_NGE, v_NGE))
        out.append(F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=True).transpose(0, 1))
    return torch.cat(out)
