"""Full scale without a card: the shapes of its models, and what a trial of it takes."""

from dataclasses import replace

from transformers import LlamaConfig, MistralConfig

from raybridge.losses.next_token import AnswerNLL, Reconstruction
from raybridge.scales import FULL
from raybridge.training.footprint import Footprint
from raybridge.training.lengths import Lengths
from raybridge.training.micro_batches import Cut

CARD = 79.0  # GiB of an 80 GB H100
SHAPE = {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32}
MISTRAL_7B = MistralConfig(vocab_size=32768, num_key_value_heads=8, sliding_window=None, **SHAPE)
LLAMA_8B = LlamaConfig(vocab_size=128256, num_key_value_heads=8, **SHAPE)
LLAMA_70B = LlamaConfig(
    vocab_size=128256,
    hidden_size=8192,
    intermediate_size=28672,
    num_hidden_layers=80,
    num_attention_heads=64,
    num_key_value_heads=8,
)
# GSM8K in the tokens of Llama 3.1 and within its chat template: what `lengths_of` finds (training/test_footprint.py)
GSM8K = Lengths(
    frames=(34, 36),
    answer=100.41015625,
    repetition=58.21875,
    spread=58.52218950474009,
    question=208,
    exemplars=1340,
    new=256,
    behind=5,
    begun=34,
)


def footprint(soft_tokens: int, share: int, **fields) -> Footprint:
    return Footprint(
        source=fields.pop("source", MISTRAL_7B),
        target=fields.pop("target", LLAMA_8B),
        translator=replace(FULL.trial.translator, soft_tokens=soft_tokens),
        lengths=GSM8K,
        share=share,
        reads=AnswerNLL.reads | Reconstruction.reads,
        states_on_disk=fields.pop("states_on_disk", True),
        **fields,
    )


def peak(soft_tokens: int, batch: int) -> float:
    """A worker's that holds both models and reads its batch in one pass, every beginning twice."""
    one = footprint(soft_tokens, batch, states_on_disk=False, packs=False)
    return sum(one.worker(Cut(problems=batch)).values())
