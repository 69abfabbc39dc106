"""A source that reads UTF-8 bytes: no pretrained model, one state a byte, which tells the byte and nothing else.

What a translator carries from it, its own encoder has read: the control for everything that a pretrained source adds. It is a
causal LM in form (one layer that does nothing), so that it stands wherever a source does; what it answers is noise.
"""

from __future__ import annotations

from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

NAME = "bytes"
BOS, EOS = "<s>", "</s>"


def tokenizer() -> PreTrainedTokenizerFast:
    """A token a byte, and a token each for beginning and end."""
    names = [BOS, EOS, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tok = Tokenizer(BPE(vocab={name: number for number, name in enumerate(names)}, merges=[]))
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tok.decoder = decoders.ByteLevel()
    tok.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, 0)])
    return PreTrainedTokenizerFast(tokenizer_object=tok, bos_token=BOS, eos_token=EOS)


@torch.no_grad()
def model(dtype: torch.dtype = torch.float32) -> Any:
    """Embeddings that are the identity, exact in any precision, and a layer that adds nothing to them."""
    size = 2 + len(pre_tokenizers.ByteLevel.alphabet())
    config = transformers.LlamaConfig(
        vocab_size=size,
        hidden_size=size,
        intermediate_size=1,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        max_position_embeddings=1 << 20,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=1,
    )
    lm = transformers.AutoModelForCausalLM.from_config(config)
    for layer in lm.model.layers:
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
    lm.get_input_embeddings().weight.copy_(torch.eye(size))
    return lm.to(dtype)
