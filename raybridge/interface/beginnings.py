"""Models of which the target is its beginning alone, where an engine has the rest of it."""

from __future__ import annotations

import torch

from raybridge.evaluation.models import Models
from raybridge.models import lm as lms
from raybridge.models.frozen import FrozenLM


class Beginnings(Models):
    """Models of which the target is its tokenizer and its embeddings. A target that is the source as well stays whole."""

    def __init__(self, device: torch.device | str, *, target: str, source: str) -> None:
        super().__init__(device, cached_states=0)
        self._short = {target} - {source}

    def load(self, name: str) -> FrozenLM:
        """The model of that name, loaded once."""
        if name in self._short and name not in self._models:
            whole = lms.load(name, device="cpu", dtype=lms.precision(self.device))
            self._models[name] = beginning(whole, self.device)
        return super().load(name)


def beginning(lm: FrozenLM, device: torch.device) -> FrozenLM:
    """A model without its layers, on a device: prompts are put together with it, and nothing is read or written."""
    _ = lm.embedding_rms  # how it scales its embeddings is seen on a pass, while there are layers
    del lm.layers[:]
    lm.model.to(device)
    return lm
