"""A bridge before an engine: source and translator run here, and of the target only what makes a prompt.

Shapes: T positions of a prompt, D target width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from raybridge.interface.beginnings import Beginnings
from raybridge.interface.bridge import TrainedBridge
from raybridge.interface.engine import Answered, Engine, Limits, values_bytes
from raybridge.interface.loading import bridge_of, kept_of


class Served:
    """A bridge that answers through an engine, in the frame and with the limits of its benchmark."""

    def __init__(self, bridge: TrainedBridge, engine: Engine) -> None:
        self.bridge, self.engine = bridge, engine

    def answer(self, questions: Sequence[str], *, shots: bool = True) -> list[Answered]:
        """The engine's answers in the order of the questions. shots: whether exemplars stand before them as text."""
        return self.engine.complete(self.bridge.embedded(questions, shots=shots), self.limits)

    @property
    def limits(self) -> Limits:
        """When an answer ends: as the benchmark says, and at the target's end tokens."""
        evaluator = self.bridge.evaluator
        return Limits(max_new_tokens=evaluator.max_new_tokens, stop=tuple(evaluator.stop), end_ids=tuple(self.bridge.end_ids))

    def payload(self, *, shots: bool = True) -> str:
        """What a question takes on the wire, in a sentence. ValueError where an engine cannot answer for the bridge."""
        (prompt,) = self.bridge.embedded(["How many?"], shots=shots)
        K, (T, D), size = self.bridge.size, prompt.shape, prompt.dtype.itemsize
        soft, whole = (values_bytes(count, D, value_bytes=size) / 1024 for count in (K, T))
        return (
            f"a question travels as {T} embeddings of width {D} ({whole:,.0f} KiB in base64), {K} of them soft tokens "
            f"({soft:,.0f} KiB), for a few hundred bytes of text: what is saved is the engine's prefill and KV cache, not bytes"
        )


def load(
    named: str | Path, engine: Engine, *, results: str | Path = "ray_results", device: str, on: str | None = None
) -> Served:
    """A trial, bundle or saved bridge before an engine."""
    kept = kept_of(named, results=results)
    models = Beginnings(device, target=kept.trial.target, source=kept.trial.source)
    return Served(bridge_of(kept, models, on=on), engine)
