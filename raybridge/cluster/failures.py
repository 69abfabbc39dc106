"""What fails under Ray: whether another try may mend it, and how a person is told."""

from __future__ import annotations

import copyreg
import errno
import re
from textwrap import shorten
from typing import Any

import torch
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    ActorUnschedulableError,
    LocalRayletDiedError,
    NodeDiedError,
    ObjectLostError,
    OwnerDiedError,
    RayActorError,
    RayTaskError,
    WorkerCrashedError,
)

from raybridge.console import sentence
from raybridge.world import agreed

UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)  # trying again would not help
LOST = (
    *(RayActorError, ActorDiedError, ActorUnavailableError, ActorUnschedulableError, WorkerCrashedError),
    *(NodeDiedError, LocalRayletDiedError, ObjectLostError, OwnerDiedError),
)
# Ray tells it by its kind, or in words of its own.
OF_LOSS = re.compile(rf"\b({'|'.join(kind.__name__ for kind in LOST)})\b|The actor (is dead because|\w+ is unavailable)")
AGAIN = "launch again: it goes on from its checkpoint"
WIDTH = 200  # characters of what Ray says, whose sentences have the ids of everything in them


class GivenUpError(RuntimeError):
    """What was asked of the replicas often enough: whoever repeats it waits for the same end."""


REFUSALS = (ValueError, RayTaskError, OSError, GivenUpError, torch.OutOfMemoryError)
DEFECTS = (
    *(ArithmeticError, AssertionError, AttributeError, ImportError, LookupError),
    *(NameError, NotImplementedError, RecursionError, TypeError),
)


def refused(error: Exception, *, workers: int) -> bool:
    """Whether a worker's error is its own, so that another try would end as this one. workers: of the trial.

    A worker whose peer was lost has a RuntimeError of the process group. One that all workers agree upon is not of that kind.
    What no kind is known of, such as errors of a network's clients or of a device, is not refused.
    """
    own = type(error) is RuntimeError and (workers == 1 or agreed(error))
    return not repeats(error) and (own or isinstance(error, (*REFUSALS, *DEFECTS)))


def told_to_others(error: RayTaskError) -> None:
    """Make an error one that other workers can be told of: Ray raises it as of a class made for its cause, in no module."""
    if type(error) is not RayTaskError:
        copyreg.pickle(type(error), _parts_of)


def _parts_of(error: RayTaskError) -> tuple[Any, ...]:
    return _of_parts, (str(error), error.cause)


def _of_parts(told: str, cause: Exception) -> RayTaskError:
    error: RayTaskError = RayTaskError("", told, cause).as_instanceof_cause()
    return error


def repeats(error: Exception) -> bool:
    """Whether trying again may help: where a process or a machine was lost, or a disk or a network stumbled."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    stumbled = isinstance(cause, OSError) and not isinstance(cause, ValueError) and cause.errno not in UNWRITABLE
    return stumbled or isinstance(cause, LOST)


def why_refused(error: Exception) -> str:
    """A refusal, which nothing repeats, in a sentence."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    if isinstance(cause, OSError):
        return sentence(cause)
    if isinstance(cause, torch.OutOfMemoryError):
        what = "an evaluation" if error is not cause else "a training step"
        return f"{what} needs more memory than its GPU has: {'. '.join(str(cause).split('. ')[:3])}"
    if isinstance(error, DEFECTS):
        return f"a defect of raybridge, {type(error).__name__}: {last_line(str(error))} (train.log has where)"
    return last_line(str(error))


def why_lost(told: str) -> str | None:
    """What to do where Ray tells that a process or a machine was lost; None where it tells of another failure."""
    if not OF_LOSS.search(told):
        return None
    return f"a process that it needs, or the machine of one, was lost; {AGAIN} (Ray: {shorten(last_line(told), WIDTH)})"


def last_line(text: str) -> str:
    """The last line of a traceback or a message: what happened."""
    return text.strip().splitlines()[-1] if text.strip() else ""
