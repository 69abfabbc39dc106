"""The frozen models of one process, and what is computed from them alone."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from raybridge.config import fingerprint
from raybridge.evaluation.setting import Request, Setting
from raybridge.models import lm as lms
from raybridge.models.lm import FrozenLM
from raybridge.models.prompts import frame
from raybridge.translators import TranslatorModule
from raybridge.translators.soft_tokens import SoftTokens

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

    def states(self, setting: Setting, layers: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Source states of a setting's questions; kept, for they are the same at every step of every trial."""
        key = (setting.source, fingerprint(setting.evaluator), tuple(setting.ids), layers)
        if key not in self._states:
            self._states[key] = self._read(setting, layers)
            while len(self._states) > 1 and sum(states.nbytes for states, _ in self._states.values()) > self.cached_states:
                self._states.popitem(last=False)
        self._states.move_to_end(key)
        return self._states[key]

    def _read(self, setting: Setting, layers: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        source = self.load(setting.source)
        around = frame(source, setting.evaluator)
        return source.hidden_states(around.before, [around.question(one.question) for one in setting.problems], layers)

    def module(self, setting: Setting, weights: Mapping[str, Tensor]) -> TranslatorModule:
        """The translator with these weights; built again only for other weights."""
        assert setting.translator is not None, "a setting without a translator has no module"
        if self._built is None or self._built[0] is not weights:
            source, target = self.load(setting.source), self.load(setting.target)
            module: TranslatorModule = setting.translator.build(source.width, target.width, target_rms=target.embedding_rms)
            module.load_state_dict(dict(weights))
            self._built = weights, module.to(self.device).eval()
        return self._built[1]

    def written(self, request: Request, weights: Mapping[str, Tensor] | None, *, fresh: bool = False) -> SoftTokens | None:
        """What the translator writes for a request; None where its arms need none.

        `fresh` reads the questions again, as who measures time must.
        """
        if not request.trained:
            return None
        setting = request.setting
        assert weights is not None, "an arm of a translator needs its weights"
        assert setting.translator is not None, "an arm of a translator needs a setting that has one"
        module, layers = self.module(setting, weights), setting.translator.layers
        with torch.no_grad(), autocast(self.device):
            soft_BKD = module(*(self._read(setting, layers) if fresh else self.states(setting, layers)))
        target = self.load(setting.target)
        target.check_target()
        return SoftTokens(target=target, names=tuple(setting.ids), size=soft_BKD.shape[1], written_BKD=soft_BKD)


def autocast(device: torch.device) -> torch.autocast:
    """bf16 where the hardware has it; a no-op on CPU, where fp32 is faster and exact."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")
