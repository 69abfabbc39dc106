"""What a trial takes on a GPU, before anything is loaded: a worker that trains, and a replica that evaluates beside it.

It is predicted from configs and the lengths of a benchmark's texts, in GiB; docs/PERFORMANCE.md has it beside what was
measured. The passes that losses share are counted; those that a loss makes of its own are not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode

from raybridge.data import data_folder
from raybridge.evaluation.models import CACHED_STATES, TRANSLATORS
from raybridge.evaluation.prompt import AT_ONCE
from raybridge.evaluation.setting import BLOCK
from raybridge.losses import Read
from raybridge.losses.bridge import SHARED_TOKENS
from raybridge.models.bits import WHOLE, parted
from raybridge.models.free import CONTEXT, GIB
from raybridge.models.memory import (
    HALF,
    SINGLE,
    Member,
    UnpredictableError,
    activation_bytes,
    cache_bytes,
    logit_bytes,
    scoring_bytes,
)
from raybridge.models.names import config_of
from raybridge.models.packing import packable
from raybridge.training.lengths import Lengths, lengths_of
from raybridge.training.micro_batches import Cut
from raybridge.translators import Translator
from raybridge.trial import Trial

SLACK = 0.05  # share of what comes and goes that the allocator holds in pieces too small to be used
COPIES = 5  # of the translator's size: weights, two moments, the gradient of the step before, and what losses add to it
SPREAD = 3.0  # standard deviations by which a micro-batch is longer than the mean one: there are thousands of them
CHARACTERS = 3  # of a token, at least as they are in English and numbers


def _together(members: Sequence[Member], card: int) -> int:
    """Bytes of models on a card; one that is source and target at once is loaded once."""
    distinct = {(id(member.config), member.bits): member for member in members}
    return sum(member.weights(card) for member in distinct.values())


def fullest(cards: Iterable[dict[str, float]]) -> dict[str, float]:
    """What lies on the card on which most lies."""
    return max(cards, key=lambda parts: sum(parts.values()))


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """What decides how much memory a trial takes on a card.

    source, target, others: configs of the models, the others being further targets. share: problems a step of each worker.
    reads: what its losses read. states_on_disk: whether a worker trains from the source's states instead of from the source.
    answered: share of a batch that has an answer; the rest are texts. own_answers: whether answers are the target's own, whose
    length is not known before: as long as it may decode. shots: whether exemplars stand before an answer in training.
    packs: whether a target reads answer and repetition behind one beginning where nothing else stands before the answer.
    cards: over which each model lies. bits: of the weights of the source, the target and the others; none where all are whole.
    """

    source: Any
    target: Any
    others: tuple[Any, ...] = ()
    translator: Translator
    lengths: Lengths
    share: int
    reads: frozenset[Read]
    states_on_disk: bool
    answered: float = 1.0
    own_answers: bool = False
    shots: bool = False
    packs: bool = True
    workers: int = 1
    cards: int = 1
    bits: tuple[int, ...] = ()

    @property
    def gpus(self) -> int:
        """Of all workers."""
        return self.workers * self.cards

    def over(self, cards: int) -> Footprint:
        """The same batch with each model over so many cards: on as many GPUs if that can be, so by fewer workers."""
        batch, most = self.share * self.workers, max(self.gpus // cards, 1)
        workers = next(count for count in range(most, 0, -1) if batch % count == 0)
        return replace(self, cards=cards, workers=workers, share=batch // workers)

    def packed(self, bits: int) -> Footprint:
        """The same with all weights in so many bits."""
        return replace(self, bits=(bits,) * (2 + len(self.others)))

    @property
    def members(self) -> list[Member]:
        """The source, the target and the others."""
        configs = (self.source, self.target, *self.others)
        told = zip(configs, self.bits or (WHOLE,) * len(configs), strict=True)
        return [Member(config=config, bits=bits, cards=self.cards) for config, bits in told]

    def worker(self, cut: Cut) -> dict[str, float]:
        """What a worker holds at its peak, GiB by part; of several cards on the fullest."""
        return fullest(self._worker_on(card, cut) for card in range(self.cards))

    def _worker_on(self, card: int, cut: Cut) -> dict[str, float]:
        source, target, *others = self.members
        models = _together([target, *others, *([] if self.states_on_disk else [source])], card)
        positions = self._positions(cut.problems)
        kept = activation_bytes(self.target, positions, recomputed=cut.recomputed, layers=target.counts[card])
        passes = {"activations": kept, "a map unpacked": target.unpacked}
        lent = self._lent(card)
        if card:
            return _with_slack({"models": models, **lent}, passes)
        weights, written = self._translator
        logits = logit_bytes(self.target, self._texts(cut.problems))
        return _with_slack(
            {"models": models, "translator": COPIES * SINGLE * weights, **lent},
            {"soft tokens": self.share * written, **passes, "logits": logits},
        )

    def records(self, cut: Cut) -> bool:
        """Whether passes are recorded."""
        return self.packs and self.cards == 1 and not cut.recomputed

    def _lent(self, card: int) -> dict[str, float]:
        """Keys and values of exemplars that are lent to the layers on a card; nothing where none stand before answers."""
        if not self.shots:
            return {}
        _, *targets = self.members
        shares = [one.counts[card] / sum(one.counts) for one in targets]
        whole = [cache_bytes(one.config, self.lengths.exemplars) for one in targets]
        return {"exemplars": sum(share * size for share, size in zip(shares, whole, strict=True))}

    def replica(self, rows: int, *, source: bool) -> dict[str, float]:
        """What a replica holds at its peak, GiB by part, that decodes so many rows. source: whether an arm needs it."""
        return fullest(self._replica_on(card, rows, source=source) for card in range(self.cards))

    def _replica_on(self, card: int, rows: int, *, source: bool) -> dict[str, float]:
        read, target, *_ = self.members
        lengths = self.lengths
        longest = max(lengths.question, self.translator.soft_tokens) + lengths.frames[0] + lengths.new
        whole = cache_bytes(self.target, lengths.exemplars) + rows * cache_bytes(self.target, longest)
        cache = whole * target.counts[card] / sum(target.counts)
        models = _together([target, *([read] if source else [])], card)
        unpacked = {"a map unpacked": target.unpacked}
        if card:
            return _with_slack({"models": models}, {"decoding, scoring or writing": cache, **unpacked})
        positions = min(BLOCK * lengths.question, AT_ONCE // CHARACTERS)
        states = positions * 2 * SINGLE * len(self.translator.layers) * self.source.get_text_config().hidden_size
        weights, _ = self._translator
        return _with_slack(
            {"models": models, "translator": max(SINGLE * weights, TRANSLATORS), "states": CACHED_STATES},
            {"decoding, scoring or writing": max(cache, scoring_bytes(self.target), states), **unpacked},
        )

    def _texts(self, problems: int) -> list[float]:
        """Tokens of the answers and of the repetitions that a pass reads."""
        lengths, texts = self.lengths, 1 - self.answered
        answer = min(lengths.new, SHARED_TOKENS) if self.own_answers else lengths.answer
        each = {"answers": self.answered * answer, "repeats": self.answered * lengths.repetition + texts * lengths.text}
        return [problems * each[read] for read in each if read in self.reads]

    def _positions(self, problems: int) -> float:
        """Positions of the target's passes over the longest micro-batch. What stands before all answers alike is lent."""
        answer, repeat = self.lengths.frames
        frames = {"answers": self.lengths.behind if self.shots else answer, "repeats": repeat}
        rows = {"answers": self.answered, "repeats": 1.0}
        around = sum(rows[read] * (frames[read] + self.translator.most_soft_tokens) for read in self.reads)
        if self.packs and not self.shots and len(self.reads) == len(rows):  # one beginning, and texts without their last tokens
            around -= self.answered * (self.lengths.begun + self.translator.most_soft_tokens) + sum(rows.values())
        longer = SPREAD * self.lengths.spread * problems**0.5 if self.reads else 0.0
        return problems * around + sum(self._texts(problems)) + longer

    @property
    def _translator(self) -> tuple[int, float]:
        widths = (config.get_text_config().hidden_size for config in (self.source, self.target))
        translator: Any = self.translator  # frozen, so hashable
        return translator_memory(translator, *widths, self.lengths.question)


@lru_cache(maxsize=256)
def translator_memory(translator: Translator, source_width: int, target_width: int, positions: int) -> tuple[int, float]:
    """A translator's weights, and bytes that it keeps of a question of so many positions for its backward pass, in bf16.

    UnpredictableError where that depends on what it reads.
    """
    kept: list[Tensor] = []

    def seen(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with FakeTensorMode(), torch.random.fork_rng(devices=[]):
        module = translator.build(source_width, target_width, target_rms=1.0)
        module.trained_for(0.0)
        states_BTLS = torch.zeros(1, positions, len(translator.layers), source_width)
        with torch.autograd.graph.saved_tensors_hooks(seen, lambda tensor: tensor):
            try:
                module(states_BTLS, torch.ones(1, positions, dtype=torch.bool))
            except (DataDependentOutputException, DynamicOutputShapeException) as error:
                asked = f"what {type(translator).__name__} keeps depends on what it reads ({error})"
                raise UnpredictableError(asked) from None
    trained = list(module.parameters())
    sizes = {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in kept}
    for tensor in trained:
        sizes.pop(tensor.untyped_storage()._cdata, None)
    return sum(p.numel() for p in trained), sum(sizes.values()) * HALF / SINGLE


def _with_slack(stays: Mapping[str, float], passes: Mapping[str, float]) -> dict[str, float]:
    """Bytes as GiB, with what CUDA and the allocator take. passes: what is allocated and freed all the time."""
    parts = {name: size / GIB for name, size in {**stays, **passes}.items()}
    return parts | {"CUDA and slack": CONTEXT + SLACK * sum(passes.values()) / GIB}


def footprint_of(trial: Trial, *, workers: int, cards: int, states_on_disk: bool) -> Footprint:
    """Of a trial on so many workers with so many cards each.

    ValueError or UnreachableError where a model or the benchmark is not here.
    """
    return Footprint(
        source=config_of(trial.source),
        target=config_of(trial.target),
        others=tuple(config_of(name) for name in trial.translator.other_targets),
        translator=trial.translator,
        lengths=lengths_of(trial.evaluator, trial.target, str(data_folder()), trial.mixture),
        share=-(-trial.batch // workers),
        workers=workers,
        reads=frozenset(read for loss in trial.losses for read in loss.reads),
        states_on_disk=states_on_disk and trial.mixture is None,  # texts are read anew
        answered=trial.problems_a_batch / trial.batch,
        own_answers=trial.own_answers is not None,
        shots=trial.exemplars,
        packs=packable(config_of(trial.target).get_text_config()),
        cards=cards,
        bits=tuple(parted(name)[1] for name in (trial.source, trial.target, *trial.translator.other_targets)),
    )
