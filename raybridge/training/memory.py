"""What a trial takes on a GPU, before anything is loaded: a worker that trains and a replica that evaluates share a card.

It is predicted from configs and the lengths of a benchmark's texts, in GiB; docs/PERFORMANCE.md has it beside what was
measured. The passes that losses share are counted; those that a loss makes of its own are not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from statistics import mean, pstdev
from typing import Any, cast

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from raybridge.data import Evaluator, data_folder, draw
from raybridge.data.texts import Mixture
from raybridge.evaluation.models import CACHED_STATES
from raybridge.evaluation.prompt import AT_ONCE
from raybridge.evaluation.setting import BLOCK
from raybridge.losses import Read
from raybridge.losses.bridge import SHARED_TOKENS, cut
from raybridge.models.capacity import CONTEXT, GIB
from raybridge.models.frozen import FrozenLM
from raybridge.models.identity import model_identity
from raybridge.models.memory import (
    HALF,
    SINGLE,
    UnpredictableError,
    activation_bytes,
    cache_bytes,
    logit_bytes,
    scoring_bytes,
    weight_bytes,
)
from raybridge.models.names import config_of
from raybridge.models.prompts import REPEAT_CUE, Frame, frame
from raybridge.training.micro_batches import Cut
from raybridge.translators import Translator
from raybridge.trial import Trial

SLACK = 0.05  # share of what comes and goes that the allocator holds in pieces too small to be used
COPIES = 5  # of the translator's size: weights, two moments, the gradient of the step before, and what losses add to it
SAMPLE = 512  # problems whose texts are measured
SPREAD = 3.0  # standard deviations by which a micro-batch is longer than the mean one: there are thousands of them
LEAST_ROWS, MOST_ROWS = 16, 1024  # that a replica decodes together: fewer take as long a token, and more are not asked for
CHARACTERS = 3  # of a token, at least as they are in English and numbers
CARDS, BITS = (2, 4, 8), (8, 4)  # over which a model may be spread, and to which its weights may be packed


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Tokens of a benchmark's texts before a target.

    frames: around the question's place, where it is to be answered and where it is to be repeated. answer, repetition: of a
    problem, as far as losses read them; spread: the standard deviation of both together. question: the longest. exemplars:
    that all text prompts share. new: the most that an answer is decoded to. behind: in the first frame behind the question's
    place. text: of a further text of the mixture as a repetition.
    """

    frames: tuple[int, int]
    answer: float
    repetition: float
    spread: float
    question: int
    exemplars: int
    new: int
    behind: int = 0
    text: float = 0.0


@cache
def lengths_of(evaluator: Evaluator, target: str, folder: str, mixture: Mixture | None = None) -> Lengths:
    """Of a benchmark before a target, measured on a sample of train and of further texts. folder: where data are."""
    lm = cast(FrozenLM, model_identity(target))  # a prompt is made of its tokenizer alone
    problems = evaluator.problems("train")
    problems = draw(problems, min(SAMPLE, len(problems)), seed=0)
    around, repeat = frame(lm, evaluator), frame(lm, evaluator, after=REPEAT_CUE)
    answers = [len(row) for row in cut(around.answers([problem.rationale for problem in problems]), SHARED_TOKENS)]
    questions = [problem.question for problem in problems]
    repetitions = [len(row) for row in cut(repeat.answers(questions), SHARED_TOKENS)]
    return Lengths(
        frames=(len(around.before) + len(around.after), len(repeat.before) + len(repeat.after)),
        answer=mean(answers),
        repetition=mean(repetitions),
        spread=pstdev([sum(pair) for pair in zip(answers, repetitions, strict=True)]),
        question=max(map(len, around.questions(questions))),
        exemplars=len(frame(lm, evaluator, exemplars=evaluator.exemplars()).before) - len(around.before),
        new=evaluator.max_new_tokens,
        behind=len(around.after),
        text=_text_length(evaluator, mixture, repeat) if mixture else 0.0,
    )


def _text_length(evaluator: Evaluator, mixture: Mixture, repeat: Frame) -> float:
    """Tokens of a further text, about: of each kind a sample, by its share."""
    pools, shares = mixture.pools(evaluator), [part.share for part in mixture.parts]
    rows = [cut(repeat.answers(pool.texts[:: -(-len(pool.texts) // SAMPLE)]), SHARED_TOKENS) for pool in pools]
    means = [mean(map(len, some)) for some in rows]
    return sum(share * one for share, one in zip(shares, means, strict=True)) / sum(shares)


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """What decides how much memory a trial takes on a card.

    source, target, others: configs of the models, the others being further targets. share: problems a step of one worker.
    reads: what its losses read. states_on_disk: whether a worker trains from the source's states instead of from the source.
    answered: share of a batch that has an answer; the rest are texts. own_answers: whether answers are the target's own, whose
    length is not known before: as long as it may decode. shots: whether exemplars stand before an answer in training.
    cards: over which a model is spread. bits: of a weight.
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
    cards: int = 1
    bits: int = 16

    def worker(self, cut: Cut) -> dict[str, float]:
        """What a worker holds at its peak, GiB by part."""
        held = [self.target, *self.others, *([] if self.states_on_disk else [self.source])]
        weights, written = self._translator
        texts = self._texts(cut.problems)
        kept = activation_bytes(self.target, self._positions(cut.problems), recomputed=cut.recomputed) / self.cards
        lent = sum(cache_bytes(one, self.lengths.exemplars) for one in (self.target, *self.others)) if self.shots else 0
        shared = {"exemplars": lent / self.cards} if lent else {}
        return _with_slack(
            {"models": self._models(held), "translator": COPIES * SINGLE * weights, **shared},
            {"soft tokens": self.share * written, "activations": kept, "logits": logit_bytes(self.target, texts)},
        )

    def replica(self, rows: int, *, source: bool) -> dict[str, float]:
        """What a replica holds at its peak, GiB by part, that decodes so many rows. source: whether an arm needs it."""
        lengths = self.lengths
        longest = max(lengths.question, self.translator.soft_tokens) + lengths.frames[0] + lengths.new
        cache = (cache_bytes(self.target, lengths.exemplars) + rows * cache_bytes(self.target, longest)) / self.cards
        read = min(BLOCK * lengths.question, AT_ONCE // CHARACTERS)
        states = read * 2 * SINGLE * len(self.translator.layers) * self.source.get_text_config().hidden_size
        weights, _ = self._translator
        held = [self.target, *([self.source] if source else [])]
        return _with_slack(
            {"models": self._models(held), "translator": SINGLE * weights, "states": CACHED_STATES},
            {"decoding, scoring or writing": max(cache, scoring_bytes(self.target), states)},
        )

    def _models(self, configs: Sequence[Any]) -> float:
        """The weights of models; one that is source and target at once is loaded once."""
        distinct = {id(config): config for config in configs}
        return sum(weight_bytes(config, bits=self.bits) for config in distinct.values()) / self.cards

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
        around = sum(rows[read] * (frames[read] + self.translator.soft_tokens) for read in self.reads)
        longer = SPREAD * self.lengths.spread * problems**0.5 if self.reads else 0.0
        return problems * around + sum(self._texts(problems)) + longer

    @property
    def _translator(self) -> tuple[int, float]:
        widths = (config.get_text_config().hidden_size for config in (self.source, self.target))
        translator: Any = self.translator  # frozen, so hashable
        return translator_memory(translator, *widths, self.lengths.question)


@lru_cache(maxsize=256)
def translator_memory(translator: Translator, source_width: int, target_width: int, positions: int) -> tuple[int, float]:
    """A translator's weights, and bytes that it keeps of a question of so many positions for its backward pass, in bf16."""
    kept: list[Tensor] = []

    def seen(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with FakeTensorMode(), torch.random.fork_rng(devices=[]):
        module = translator.build(source_width, target_width, target_rms=1.0)
        states_BTLS = torch.zeros(1, positions, len(translator.layers), source_width)
        with torch.autograd.graph.saved_tensors_hooks(seen, lambda tensor: tensor):
            module(states_BTLS, torch.ones(1, positions, dtype=torch.bool))
    trained = list(module.parameters())
    sizes = {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in kept}
    for tensor in trained:
        sizes.pop(tensor.untyped_storage()._cdata, None)
    return sum(p.numel() for p in trained), sum(sizes.values()) * HALF / SINGLE


def _with_slack(stays: Mapping[str, float], passes: Mapping[str, float]) -> dict[str, float]:
    """Bytes as GiB, with what CUDA and the allocator take. passes: what is allocated and freed all the time."""
    parts = {name: size / GIB for name, size in {**stays, **passes}.items()}
    return parts | {"CUDA and slack": CONTEXT + SLACK * sum(passes.values()) / GIB}


@dataclass(frozen=True, kw_only=True)
class CardUse:
    """How a trial fits on a card. rows: that a replica decodes at once beside a worker."""

    cut: Cut
    rows: int
    worker: Mapping[str, float]
    replica: Mapping[str, float]


def fit(footprint: Footprint, card: float) -> CardUse | None:
    """The first cut that fits on a card of so many GiB beside a replica with both models; None where none does."""
    replica = footprint.replica(LEAST_ROWS, source=True)
    cut: Cut | None = Cut(problems=footprint.share)
    while cut:
        worker = footprint.worker(cut)
        free = card - sum(worker.values())
        if sum(replica.values()) <= free:
            rows = LEAST_ROWS
            while rows < MOST_ROWS and sum((more := footprint.replica(2 * rows, source=True)).values()) <= free:
                rows, replica = 2 * rows, more
            return CardUse(cut=cut, rows=rows, worker=worker, replica=replica)
        cut = cut.smaller(footprint.share)
    return None


def footprint_of(trial: Trial, *, workers: int, states_on_disk: bool) -> Footprint:
    """Of a trial on so many workers. ValueError or UnreachableError where a model or the benchmark is not here."""
    return Footprint(
        source=config_of(trial.source),
        target=config_of(trial.target),
        others=tuple(config_of(name) for name in trial.translator.other_targets),
        translator=trial.translator,
        lengths=lengths_of(trial.evaluator, trial.target, str(data_folder()), trial.mixture),
        share=-(-trial.batch // workers),
        reads=frozenset(read for loss in trial.losses for read in loss.reads),
        states_on_disk=states_on_disk and trial.mixture is None,  # texts are read anew
        answered=trial.problems_a_batch / trial.batch,
        own_answers=trial.own_answers is not None,
        shots=trial.exemplars,
    )


def fits(trial: Trial, *, workers: int, card: float, states_on_disk: bool = True) -> str:
    """How a trial fits on cards of so many GiB, in a line for its plan. ValueError where it does not, with what would help.

    states_on_disk: whether the source's states are read from there, so that a worker holds no source.
    """
    footprint = footprint_of(trial, workers=workers, states_on_disk=states_on_disk)
    try:
        found = fit(footprint, card)
    except UnpredictableError as error:
        return f"{trial.name}: whether it fits is not known: {error}"
    if found is None:
        raise ValueError(f"trial {trial.name} {refusal(footprint, card)}")
    return (
        f"{trial.name}: a worker takes {told(found.worker)} at {found.cut}; "
        f"its replica {told(found.replica)} at {found.rows} rows; the card has {card:.0f} GiB"
    )


def told(parts: Mapping[str, float]) -> str:
    """Parts and their sum as a person reads them."""
    return f"{sum(parts.values()):.1f} GiB ({', '.join(f'{name} {size:.1f}' for name, size in parts.items() if size >= 0.05)})"


def refusal(footprint: Footprint, card: float) -> str:
    """Why nothing of it fits on a card, and what would."""
    worker, replica = footprint.worker(Cut(problems=1, recomputed=True)), footprint.replica(LEAST_ROWS, source=True)
    help_ = [what for what, other in remedies(footprint) if fit(other, card)]
    return (
        f"does not fit on a card of {card:.0f} GiB: at one problem a pass a worker takes {told(worker)}, and its replica "
        f"{told(replica)}. What would make it fit: {' or '.join(help_) or 'smaller models'}"
    )


def remedies(footprint: Footprint) -> Iterator[tuple[str, Footprint]]:
    """What may be changed of a trial that does not fit, each alone, and at last cards and bits together."""
    if not footprint.states_on_disk:
        yield "the source's states on disk", replace(footprint, states_on_disk=True)
    for cards in CARDS:
        yield f"each model over {cards} cards", replace(footprint, cards=cards)
    for bits in BITS:
        yield f"weights in {bits} bits", replace(footprint, bits=bits)
    for bits in BITS:
        yield f"weights in {bits} bits over {CARDS[0]} cards", replace(footprint, bits=bits, cards=CARDS[0])
