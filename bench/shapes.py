"""The models and the base trial of a scale. At full scale they have the real shapes, and random weights made on the device.

A model of random weights is a directory as any other, but for its weights: the file has one number, and `load` makes the rest.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, MistralConfig, PreTrainedConfig

from raybridge.losses.next_token import AnswerNLL, Reconstruction
from raybridge.models import lm as lms
from raybridge.models import names, probe
from raybridge.models.frozen import FrozenLM
from raybridge.scales import SCALES
from raybridge.trial import Trial

TOKENIZERS = "RAYBRIDGE_TOKENIZERS"
LARGE: dict[str, Any] = dict(
    hidden_size=4096,
    intermediate_size=14336,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=8,
    head_dim=128,
    rms_norm_eps=1e-5,
    tie_word_embeddings=False,
)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A model of random weights: its config, and the name of its tokenizer's folder."""

    name: str
    config: PreTrainedConfig
    tokenizer: str


def mistral_7b() -> Shape:
    """Mistral-7B-v0.3's."""
    rope = {"rope_type": "default", "rope_theta": 1e6}
    config = MistralConfig(
        **LARGE, vocab_size=32768, max_position_embeddings=32768, sliding_window=None, rope_parameters=rope, eos_token_id=2
    )
    return Shape(name="mistral-7b-v0.3", config=config, tokenizer="mistral03")


def llama_8b() -> Shape:
    """Llama-3.1-8B's."""
    rope = {"rope_type": "default", "rope_theta": 5e5}
    config = LlamaConfig(
        **LARGE,
        vocab_size=128256,
        max_position_embeddings=131072,
        rope_parameters=rope,
        bos_token_id=128000,
        eos_token_id=128009,
    )
    return Shape(name="llama-3.1-8b", config=config, tokenizer="llama31")


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A scale's trial, whose losses are those that the plain implementation has too. read: a model by its name, on a device."""

    trial: Trial
    read: Callable[..., FrozenLM]
    device: torch.device

    def load(self, name: str) -> FrozenLM:
        """A model on the device."""
        return self.read(name, device=self.device)

    @property
    def told(self) -> dict[str, str]:
        """The models, for a report's head."""
        return {"source": Path(self.trial.source).name, "target": Path(self.trial.target).name}


def as_replicas_load(pair: Pair, name: str) -> FrozenLM:
    """A model as those have it who decode: on a GPU its norms and MLPs are compiled (`evaluation.models`)."""
    lm = pair.load(name)
    if pair.device.type == "cuda":
        lm.fuse()
    return lm


@contextmanager
def pair_of(scale: str, device: torch.device, *, source: Shape | None = None, target: Shape | None = None) -> Iterator[Pair]:
    """The models of a scale. source, target: others of random weights; at full scale those of the two real shapes."""
    base = next(one.trial for one in SCALES if one.name == scale)
    # Plain transformers know the benchmark's problems and their worked answers alone.
    trial = replace(base, losses=(AnswerNLL(), Reconstruction()), mixture=None, own_answers=None, exemplars=False)
    if scale == "full":
        source, target = source or mistral_7b(), target or llama_8b()
    if source is None or target is None:
        yield Pair(trial=trial, read=lms.load, device=device)
        return
    with tempfile.TemporaryDirectory() as folder:
        places = [str(_directory(shape, Path(folder))) for shape in (source, target)]
        trial = replace(trial, source=places[0], target=places[1])
        yield Pair(trial=trial, read=random_weights, device=device)


def _directory(shape: Shape, folder: Path) -> Path:
    """A model's directory, with a number in the place of its weights."""
    told = os.environ.get(TOKENIZERS)
    if not told or not (Path(told) / shape.tokenizer).is_dir():
        raise ValueError(f"{TOKENIZERS} must name a folder that holds {shape.tokenizer}/, the tokenizer of {shape.name}")
    place = folder / shape.name
    shutil.copytree(Path(told) / shape.tokenizer, place)
    shape.config.architectures = None
    shape.config.save_pretrained(place)
    save_file({"seed": torch.zeros(1)}, place / "model.safetensors")
    return place


def random_weights(name: str, *, device: torch.device) -> FrozenLM:
    """The model of a directory, its weights drawn on the device by seed 0."""
    torch.backends.cuda.enable_cudnn_sdp(False)  # as `models.lm.load` does
    tokenizer = AutoTokenizer.from_pretrained(name)
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(names.config_of(name), dtype=lms.precision(device))
    return probe.seen(FrozenLM(name, model, tokenizer))
