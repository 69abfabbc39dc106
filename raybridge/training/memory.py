"""How a trial fits on a GPU that a worker and a replica share: in which cut, with how many rows; or what would make it fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from raybridge.models.memory import UnpredictableError
from raybridge.training.footprint import Footprint, footprint_of
from raybridge.training.micro_batches import Cut
from raybridge.trial import Trial

LEAST_ROWS, MOST_ROWS = 16, 1024  # that a replica decodes together: fewer take as long a token, and more are not asked for
ENOUGH_ROWS = 128  # beyond which a training's recordings are worth more: they take a quarter of a step
CARDS, BITS = (2, 4, 8), (8, 4)  # over which a model may be spread, and to which its weights may be packed


@dataclass(frozen=True, kw_only=True)
class CardUse:
    """How a trial fits on a card. rows: that a replica decodes at once beside a worker. recordings: GiB that these may keep."""

    cut: Cut
    rows: int
    worker: Mapping[str, float]
    replica: Mapping[str, float]
    recordings: float


def fit(footprint: Footprint, card: float) -> CardUse | None:
    """The first cut that fits on a card of so many GiB beside a replica with both models; None where none does."""
    replica = footprint.replica(LEAST_ROWS, source=True)
    cut: Cut | None = Cut(problems=footprint.share)
    while cut:
        worker = footprint.worker(cut)
        free = card - sum(worker.values())
        if sum(replica.values()) <= free:
            rows = LEAST_ROWS
            recordings = worker["activations"] if footprint.records(cut) else 0.0  # as much again as passes that are run
            while rows < MOST_ROWS:
                more = footprint.replica(2 * rows, source=True)
                if sum(more.values()) > free - (recordings if rows >= ENOUGH_ROWS else 0.0):
                    break
                rows, replica = 2 * rows, more
            return CardUse(cut=cut, rows=rows, worker=worker, replica=replica, recordings=recordings)
        cut = cut.smaller(footprint.share)
    return None


def fits(trial: Trial, *, workers: int, card: float, cards: int = 1, states_on_disk: bool = True) -> str:
    """How a trial fits on cards of so many GiB, in a line for its plan. ValueError where it does not, with what would help.

    cards: of a worker. states_on_disk: whether the source's states are read from there, so that a worker holds no source.
    """
    footprint = footprint_of(trial, workers=workers, cards=cards, states_on_disk=states_on_disk)
    try:
        found = fit(footprint, card)
    except UnpredictableError as error:
        return f"{trial.name}: whether it fits is not known: {error}"
    if found is None:
        raise ValueError(f"trial {trial.name} {refusal(footprint, card)}")
    there = "the card has" if cards == 1 else f"so on the fullest of {cards} cards, each of which has"
    return (
        f"{trial.name}: a worker takes {told(found.worker)} at {found.cut}; "
        f"its replica {told(found.replica)} at {found.rows} rows; {there} {card:.0f} GiB"
    )


def told(parts: Mapping[str, float]) -> str:
    """Parts and their sum as a person reads them."""
    return f"{sum(parts.values()):.1f} GiB ({', '.join(f'{name} {size:.1f}' for name, size in parts.items() if size >= 0.05)})"


def refusal(footprint: Footprint, card: float) -> str:
    """Why nothing of it fits on a card, and what would."""
    worker, replica = footprint.worker(Cut(problems=1, recomputed=True)), footprint.replica(LEAST_ROWS, source=True)
    several = f"{footprint.cards} cards" if footprint.cards > 1 else "a card"
    help_ = [*(what for what, other in remedies(footprint) if fit(other, card)), *smaller(footprint, card)]
    most = max((size, name) for parts in (worker, replica) for name, size in parts.items())[1]
    would = " or ".join(help_) or f"a larger card, or less of what takes most ({most})"
    return (
        f"does not fit on {several} of {card:.0f} GiB: at one problem a pass a worker takes {told(worker)}, and its replica "
        f"{told(replica)}. What would make it fit: {would}"
    )


def remedies(footprint: Footprint) -> Iterator[tuple[str, Footprint]]:
    """What may be changed of how a trial that does not fit is run, each alone, and at last cards and bits together."""
    if not footprint.states_on_disk and footprint.answered == 1:  # further texts are read anew
        yield "the source's states on disk (--states-budget)", replace(footprint, states_on_disk=True)
    spread = [(footprint.over(cards), cards) for cards in CARDS if cards > footprint.cards]
    for other, cards in spread:
        yield f"each model over {cards} cards ({_options(footprint, other)})", other
    for bits in BITS:
        yield f"weights in {bits} bits (:{bits}bit behind a model's name)", footprint.packed(bits)
    for bits in BITS:
        for other, cards in spread[:1]:
            yield f"weights in {bits} bits over {cards} cards ({_options(footprint, other)})", other.packed(bits)


def _options(footprint: Footprint, other: Footprint) -> str:
    """What is typed for the one instead of the other."""
    gpus = f"--gpus {other.gpus} " if other.gpus != footprint.gpus else ""
    return f"{gpus}--gpus-per-model {other.cards}"


def smaller(footprint: Footprint, card: float) -> Iterator[str]:
    """To how much less of the trial itself, its batch or its soft tokens, halves come that fit."""
    for half in _halves(footprint.share):
        if fit(replace(footprint, share=half), card):
            yield f"a batch of {half * footprint.workers} problems"
            break
    translator: Any = footprint.translator
    if not any(one.name == "soft_tokens" for one in fields(translator)):  # it writes as many as another field says
        return
    for half in _halves(translator.soft_tokens):
        if fit(replace(footprint, translator=replace(translator, soft_tokens=half)), card):
            yield f"{half} soft tokens"
            break


def _halves(number: int) -> Iterator[int]:
    while number > 1:
        number //= 2
        yield number
