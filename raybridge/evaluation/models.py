"""The frozen models of one process, and what is computed from them alone."""

from __future__ import annotations

import gc
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from raybridge.config import fingerprint
from raybridge.evaluation.kept_source import KeptSource, Reading
from raybridge.evaluation.setting import Request, Setting
from raybridge.models import lm as lms
from raybridge.models import names
from raybridge.models.bits import WHOLE, parted
from raybridge.models.free import allotted_bytes, free_bytes
from raybridge.models.lm import FrozenLM
from raybridge.models.prompts import frame
from raybridge.results.states import States
from raybridge.translators import TranslatorModule
from raybridge.translators.soft_tokens import SoftTokens
from raybridge.translators.weights import Unfilled

T = TypeVar("T")
CACHED_STATES = 2 * 2**30  # bytes of frozen source states that a replica keeps in memory
TRANSLATORS = 2**29  # bytes of translators that are kept built: of several trials that take turns, or one of any size
REMEMBERED = 2**12  # things that a process keeps in memory of what it computed of questions
SPARE = 0.3  # of a device's memory, below which models that are not wanted now are let go


class Models:
    """The frozen models on one device, each loaded once, and the source's states of what they were asked last.

    beside: further devices, over which their layers lie as well. kept: where states are kept on disk; None reads every
    question with the source itself.
    """

    def __init__(
        self,
        device: torch.device | str,
        *,
        beside: Sequence[torch.device | str] = (),
        cached_states: int = CACHED_STATES,
        kept: States | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.devices = (self.device, *map(torch.device, beside))
        self.cached_states, self.kept = cached_states, kept
        self._models: dict[str, FrozenLM] = {}
        self._sources: dict[str, KeptSource] = {}
        self._states: OrderedDict[tuple[Any, ...], tuple[Tensor, Tensor]] = OrderedDict()
        self._remembered: OrderedDict[Any, Any] = OrderedDict()
        self._built: OrderedDict[tuple[str, ...], Built] = OrderedDict()

    def load(self, name: str) -> FrozenLM:
        """The model of that name, loaded once."""
        if name not in self._models:
            self._models[name] = lms.load(name, device=self.device, beside=self.devices[1:])
            if self.device.type == "cuda" and parted(name)[1] == WHOLE:
                self._models[name].fuse()
        return self._models[name]

    def hold(self, wanted: Iterable[str]) -> None:
        """Let go of models that are not wanted now, where the device is nearly full."""
        if any(map(nearly_full, self.devices)):
            self._models = {name: model for name, model in self._models.items() if name in set(wanted)}
            gc.collect()  # a model's parts know each other
            torch.cuda.empty_cache()

    def keep(self, reading: Reading) -> None:
        """Read questions with a source and put its states of them on disk, as far as they are not there."""
        self._source(reading.source).keep(reading.before, reading.rows, reading.layers)

    def _source(self, name: str) -> KeptSource:
        if name not in self._sources:
            assert self.kept is not None, "nobody said where states are kept"
            self._sources[name] = KeptSource(name, device=self.device, kept=self.kept, load=lambda: self.load(name))
        return self._sources[name]

    def states(self, setting: Setting, layers: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Source states of a setting's questions; kept, for they are the same at every step of every trial."""
        key = (setting.source, fingerprint(setting.evaluator), tuple(setting.ids), layers)
        if key not in self._states:
            found = self._found(setting, layers)
            make_room(self._states, lambda one: one[0].nbytes, found[0].nbytes, most=self.cached_states)
            self._states[key] = found
        self._states.move_to_end(key)
        return self._states[key]

    def _found(self, setting: Setting, layers: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """From disk where they are kept, and put there where they are not yet."""
        if self.kept is None:
            return self._read(setting, layers)
        source = self._source(setting.source)
        around = frame(source.as_lm, setting.evaluator)
        rows = around.questions([one.question for one in setting.problems])
        source.keep(around.before, rows, layers)
        return source.hidden_states(around.before, rows, layers)

    def _read(self, setting: Setting, layers: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        source = self.load(setting.source)
        around = frame(source, setting.evaluator)
        return source.hidden_states(around.before, around.questions([one.question for one in setting.problems]), layers)

    def remembered(self, keys: Sequence[Any], make: Callable[[list[int]], Sequence[Any]]) -> list[Any]:
        """What was made for these keys, one a question; make: for the places of those that it was not made for yet."""
        lacking = [place for place, key in enumerate(keys) if key not in self._remembered]
        made = make(lacking) if lacking else ()
        self._remembered |= {keys[place]: one for place, one in zip(lacking, made, strict=True)}
        found = [self._remembered[key] for key in keys]
        while len(self._remembered) > REMEMBERED:
            self._remembered.popitem(last=False)
        return found

    def forget(self) -> None:
        """Let go of all that is remembered, as who measures time must."""
        self._remembered.clear()

    def module(self, setting: Setting, weights: Mapping[str, Tensor]) -> TranslatorModule:
        """The translator with these weights: built once for all checkpoints of a trial, filled anew for other weights.

        Those of trials that are asked about in turns are kept, as far as they are small.
        """
        assert setting.translator is not None, "a setting without a translator has no module"
        key = (fingerprint(setting.translator), setting.source, setting.target)
        if key not in self._built:
            target, width = self.load(setting.target), names.width_of(setting.source)
            with Unfilled():
                module: TranslatorModule = setting.translator.build(width, target.width, target_rms=target.embedding_rms)
            one = Built(module=module)
            make_room(self._built, lambda other: other.bytes, one.bytes, most=TRANSLATORS)
            one.module = module.to(self.device).eval()
            self._built[key] = one
        self._built.move_to_end(key)
        return self._built[key].filled(weights)

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


@dataclass(kw_only=True)
class Built:
    """A translator, and the weights that it was filled with."""

    module: TranslatorModule
    weights: Mapping[str, Tensor] | None = None

    @property
    def bytes(self) -> int:
        """What it takes."""
        return sum(p.nbytes for p in self.module.parameters())

    def filled(self, weights: Mapping[str, Tensor]) -> TranslatorModule:
        """The translator with these weights."""
        if self.weights is not weights:
            self.weights = None  # a module that was filled in part is filled again
            self.module.load_state_dict(dict(weights))
            self.weights = weights
        return self.module


def make_room(held: OrderedDict[Any, T], bytes_of: Callable[[T], int], coming: int, *, most: int) -> None:
    """Let go of what was asked for longest ago, until what is coming takes no more than `most` bytes with the rest, if any."""
    while held and coming + sum(map(bytes_of, held.values())) > most:
        held.popitem(last=False)


def nearly_full(device: torch.device) -> bool:
    """Whether less than a share of SPARE of an accelerator's memory is free; a CPU's is the system's to share out."""
    if device.type != "cuda":
        return False
    return free_bytes(device) < SPARE * allotted_bytes(device)


def autocast(device: torch.device) -> torch.autocast:
    """bf16 where the hardware has it; a no-op on CPU, where fp32 is faster and exact."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")
