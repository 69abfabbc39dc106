"""What a worker and a replica may each take of the card that they share, so that neither takes what the other counts on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from raybridge.models.memory import UnpredictableError
from raybridge.training.footprint import footprint_of
from raybridge.training.memory import fit
from raybridge.training.micro_batches import Cut
from raybridge.trial import Trial


@dataclass(frozen=True, kw_only=True)
class Allotment:
    """GiB of a card, or of each of several, for a worker and for its replica, together the whole card.

    cut: in which the worker is predicted to fit.
    """

    worker: float
    replica: float
    cut: Cut


def allotted(trial: Trial, *, workers: int, card: float, cards: int, states_on_disk: bool) -> Allotment | None:
    """What each may take of a card of so many GiB: what it is predicted to, and half of what recorded passes leave of the rest.

    None where it is not known, or does not fit: each then takes what it finds.
    """
    try:
        found = fit(footprint_of(trial, workers=workers, cards=cards, states_on_disk=states_on_disk), card)
    except UnpredictableError:
        return None
    if found is None:
        return None
    worker, replica = sum(found.worker.values()), sum(found.replica.values())
    recordings = min(card - worker - replica, found.recordings)
    spare = (card - worker - replica - recordings) / 2
    return Allotment(worker=worker + recordings + spare, replica=replica + spare, cut=found.cut)


def replica_share(trials: Sequence[Trial], *, workers: int, card: float, cards: int, states_on_disk: bool) -> float | None:
    """GiB of a card that a replica may take beside a worker of any of these trials; None where one of them is not known."""
    each = [allotted(trial, workers=workers, card=card, cards=cards, states_on_disk=states_on_disk) for trial in trials]
    shares = [one.replica for one in each if one is not None]
    return min(shares) if shares and len(shares) == len(each) else None
