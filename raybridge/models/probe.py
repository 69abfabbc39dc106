"""What a model does on a few tokens, seen once when it is loaded."""

from __future__ import annotations

from raybridge.models.frozen import FrozenLM


def seen(lm: FrozenLM) -> FrozenLM:
    """The model."""
    return lm
