"""The two tokenizers and the two architectures of the pocket pair: different in family, vocabulary and width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers, processors, trainers
from tokenizers.models import BPE
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, PreTrainedTokenizerFast

Member = Literal["source", "target"]
BOS, EOS, UNKNOWN = "<s>", "</s>", "<unk>"
VOCABULARY = 1024
POSITIONS = 1024


def tokenizer(member: Member, texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """Train a BPE tokenizer: the source splits digits and marks spaces as Mistral's does, the target is byte-level and
    groups up to three digits as Llama 3's does.
    """
    if member == "source":
        tok = Tokenizer(BPE(unk_token=UNKNOWN))
        tok.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split("\n", "isolated"),
                pre_tokenizers.Metaspace(prepend_scheme="first"),
                pre_tokenizers.Digits(individual_digits=True),
            ]
        )
        tok.decoder = decoders.Metaspace(prepend_scheme="first")
        alphabet = [chr(i) for i in range(32, 127)] + ["\n", "▁"]
    else:
        tok = Tokenizer(BPE())
        words = Regex(r"\n|\d{1,3}| ?\p{L}+| ?[^\s\p{L}\d]+|\s+")
        tok.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Split(words, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
        tok.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[UNKNOWN, BOS, EOS], initial_alphabet=alphabet, show_progress=False
    )
    tok.train_from_iterator(texts, trainer)
    bos = tok.token_to_id(BOS)
    tok.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, bos)])
    return PreTrainedTokenizerFast(tokenizer_object=tok, bos_token=BOS, eos_token=EOS, unk_token=UNKNOWN)


def model(member: Member, tok: PreTrainedTokenizerFast) -> MistralForCausalLM | LlamaForCausalLM:
    """An untrained model, initialised from torch's current random state."""
    shared = {
        "vocab_size": len(tok),
        "num_hidden_layers": 4,
        "max_position_embeddings": POSITIONS,
        "tie_word_embeddings": True,
        "bos_token_id": tok.bos_token_id,
        "eos_token_id": tok.eos_token_id,
    }
    if member == "source":
        return MistralForCausalLM(
            MistralConfig(
                hidden_size=192,
                intermediate_size=512,
                num_attention_heads=6,
                num_key_value_heads=2,
                sliding_window=None,
                **shared,
            )
        )
    return LlamaForCausalLM(
        LlamaConfig(hidden_size=160, intermediate_size=448, num_attention_heads=5, num_key_value_heads=5, **shared)
    )
