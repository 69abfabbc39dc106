"""The frozen models of one process, and what is computed from them alone."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from raybridge.config import fingerprint
from raybridge.evaluation.setting import Request
from raybridge.models import lm as lms
from raybridge.models.lm import FrozenLM
from raybridge.models.prompts import frame
from raybridge.translators import TranslatorModule

CACHED_STATES = 2 * 2**30  # bytes of frozen source states that a replica keeps


class Models:
    """The frozen models on one device, each loaded once, and the source's states of what they were asked last."""

    def __init__(self, device: torch.device | str, *, cached_states: int = CACHED_STATES) -> None:
        self.device = torch.device(device)
        self.cached_states = cached_states
        self._models: dict[str, FrozenLM] = {}
        self._states: OrderedDict[tuple[Any, ...], tuple[Tensor, Tensor]] = OrderedDict()
        self._built: tuple[Mapping[str, Tensor], TranslatorModule] | None = None

    def load(self, name: str) -> FrozenLM:
        """The model of that name, loaded once."""
        if name not in self._models:
            self._models[name] = lms.load(name, device=self.device)
        return self._models[name]

    def states(self, request: Request, layers: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Source states of a request's questions; kept, for they are the same at every step of every trial."""
        key = (
            request.source,
            fingerprint(request.evaluator),
            tuple(problem.id for problem in request.problems),
            layers,
        )
        if key not in self._states:
            self._states[key] = self._read(request, layers)
            while len(self._states) > 1 and sum(states.nbytes for states, _ in self._states.values()) > self.cached_states:
                self._states.popitem(last=False)
        self._states.move_to_end(key)
        return self._states[key]

    def _read(self, request: Request, layers: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        source = self.load(request.source)
        around = frame(source, request.evaluator)
        return source.hidden_states(around.before, [around.question(one.question) for one in request.problems], layers)

    def module(self, request: Request, weights: Mapping[str, Tensor]) -> TranslatorModule:
        """The translator with these weights; built again only for other weights."""
        assert request.translator is not None
        if self._built is None or self._built[0] is not weights:
            source, target = self.load(request.source), self.load(request.target)
            module: TranslatorModule = request.translator.build(source.width, target.width, target_rms=target.embedding_rms)
            module.load_state_dict(dict(weights))
            self._built = weights, module.to(self.device).eval()
        return self._built[1]

    def soft_tokens(self, request: Request, weights: Mapping[str, Tensor], *, fresh: bool = False) -> Tensor:
        """Soft tokens (B, K, D) of a request's questions; `fresh` reads the questions again, as who measures time must."""
        assert request.translator is not None
        module, layers = self.module(request, weights), request.translator.layers
        with torch.no_grad(), autocast(self.device):
            return module(*(self._read(request, layers) if fresh else self.states(request, layers)))


def autocast(device: torch.device) -> torch.autocast:
    """bf16 where the hardware has it; a no-op on CPU, where fp32 is faster and exact."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")
