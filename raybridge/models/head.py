"""The end of a causal LM: logits from its last hidden states, exactly as the model makes them.

Models scale their logits (Granite, Cohere, Falcon-H1), bound them (Gemma) or add a bias (GPT-J). So what is run is the model's
own forward pass with its body left out.

Shapes: N rows or (B, T) positions, D width, V vocabulary.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from transformers.utils import ModelOutput


def body_of(model: Any) -> Any:
    """The part of a causal LM that makes its hidden states."""
    bodies = (model.base_model, model.get_decoder(), getattr(model, "model", model))
    found = next((body for body in bodies if body is not model), None)
    if found is None:
        raise ValueError(f"{type(model).__name__} has no part that makes hidden states apart from its head")
    return found


@dataclass
class _States(ModelOutput):
    """What a body that was left out hands on: the states, and nothing else that a model may ask for."""

    last_hidden_state: Tensor | None = None

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


class _Given(nn.Module):
    """Stands in the body's place, and in that of a decoder within it, and returns the embeddings that it is given."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self._own = (body,)  # in a tuple it is no child: what is run is not the body

    def __getattr__(self, name: str) -> Any:
        return self if name == "decoder" else getattr(self._own[0], name)

    def forward(self, *_: object, inputs_embeds: Tensor, **__: object) -> _States:
        return _States(last_hidden_state=inputs_embeds)


class Head:
    """Logits (..., V) from last hidden states (N, D) or (B, T, D)."""

    def __init__(self, model: Any, body: Any) -> None:
        self._model = copy.copy(model)  # the same modules and weights
        self._model._modules = {name: _Given(body) if child is body else child for name, child in model._modules.items()}

    def __call__(self, hidden: Tensor) -> Tensor:
        """As the model makes them."""
        states_BTD = hidden if hidden.dim() == 3 else hidden.unsqueeze(0)
        logits_BTV: Tensor = self._model(inputs_embeds=states_BTD, use_cache=False).logits
        return logits_BTV if hidden.dim() == 3 else logits_BTV.squeeze(0)
