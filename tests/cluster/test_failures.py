"""How a worker ends where something fails: what is written down, and what Ray Train is left to repeat."""

from __future__ import annotations

import errno
import pickle
import threading
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from ray.exceptions import ActorDiedError, NodeDiedError, OwnerDiedError, RayTaskError
from ray.train import ControllerError

from raybridge.cluster import session, trainer, tuner
from raybridge.cluster.failures import AGAIN, GivenUpError, refused, repeats, told_to_others, why_lost, why_refused
from raybridge.results import Results
from raybridge.scales import POCKET, SMALL, Machine
from raybridge.sweep import fail_if_failed, why_without
from raybridge.world import _outcome, as_agreed

FULL_GPU = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB of which 1.20 GiB is free. "
    "Including non-PyTorch memory, this process has 77.90 GiB memory in use. See documentation for Memory Management"
)


def of_task(cause: Exception) -> RayTaskError:
    """A failure in another process, as Ray hands it on."""
    return RayTaskError("answer", f"Traceback\n{type(cause).__name__}: {cause}", cause).as_instanceof_cause()


@pytest.fixture
def ends(run, monkeypatch):
    """A worker of a group of so many, whose part fails with an error; and the sentence that it leaves."""

    def end(error: Exception, *, workers: int, agreed: bool = False) -> str | None:
        def fails(*args):
            raise error

        if agreed:
            as_agreed(error)
        context = SimpleNamespace(get_world_rank=lambda: 0, get_world_size=lambda: workers)
        monkeypatch.setattr(trainer.ray.train, "get_context", lambda: context)
        monkeypatch.setattr(trainer, "unpack", lambda job: (None, None, run))
        monkeypatch.setattr(trainer, "_run", fails)
        trainer.train_worker({})
        return run.failure()

    return end


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_takes_nothing_ends_the_trial(ends, code):
    assert ends(OSError(code, "No", "a.txt"), workers=2, agreed=True)


def test_a_refusal_is_said_and_not_repeated(ends, run):
    assert ends(ValueError("loss term 'answer' is nan at step 7"), workers=1) == "loss term 'answer' is nan at step 7"
    assert ends(ValueError("this is not reached: the group was started again"), workers=1) == run.failure()
    assert "nan" in run.failure()


def test_a_refusal_that_one_of_several_workers_alone_knows_of_ends_the_others_too(ends, run):
    with pytest.raises(ValueError, match="only here"):
        ends(ValueError("only here"), workers=2)
    assert run.failure() == "only here"
    assert ends(ValueError("not reached"), workers=2) == "only here"


class ReadTimeoutError(Exception):
    """What a client of a network raises, which is no OSError."""


@pytest.mark.parametrize("workers", [1, 2])
def test_what_another_try_may_mend_is_left_to_it(ends, run, workers):
    of_peer = [RuntimeError("the actor died")] if workers > 1 else []
    of_device = torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered\nCompile with `TORCH_USE_CUDA_DSA`.")
    for error in (OSError(errno.EIO, "Input/output error"), ReadTimeoutError(), EOFError(), of_device, *of_peer):
        with pytest.raises(type(error)):
            ends(error, workers=workers)
        assert run.failure() is None
        assert "another try may mend it" in run.launch.log.read_text()


def test_what_is_a_bug_or_what_all_agree_upon_ends_the_trial(ends, run):
    with pytest.raises(KeyError):
        ends(KeyError("losses"), workers=2)
    assert run.failure() == "a defect of raybridge, KeyError: 'losses' (train.log has where)"
    assert "another try" not in run.launch.log.read_text()


@pytest.mark.parametrize(("workers", "agreed"), [(1, False), (2, True)])
def test_an_error_of_no_lost_peer_ends_the_trial(ends, workers, agreed):
    assert ends(RuntimeError("mat1 and mat2 shapes"), workers=workers, agreed=agreed) == "mat1 and mat2 shapes"


@pytest.mark.parametrize(
    "cause", [ValueError("no checkpoint"), OSError(errno.ENOSPC, "full"), torch.OutOfMemoryError(FULL_GPU), ActorDiedError()]
)
def test_what_a_replica_met_is_told_to_other_workers_as_what_it_is(cause):
    met = of_task(cause)
    told_to_others(met)

    def asked():
        raise met

    _, error = _outcome(asked)
    heard = as_agreed(pickle.loads(pickle.dumps(error)))
    assert isinstance(heard, RayTaskError)
    assert isinstance(heard, type(cause))
    assert str(heard) == str(met)
    assert (repeats(heard), why_refused(heard)) == (repeats(met), why_refused(met))
    assert refused(heard, workers=2) == (not isinstance(cause, ActorDiedError))


@pytest.mark.parametrize("error", [torch.OutOfMemoryError(FULL_GPU), of_task(torch.OutOfMemoryError(FULL_GPU))])
def test_a_gpu_without_memory_ends_the_trial_with_one_sentence(ends, error):
    said = ends(error, workers=1)
    assert said is not None
    assert said.endswith(
        "needs more memory than its GPU has: CUDA out of memory. Tried to allocate 2.00 GiB. "
        "GPU 0 has a total capacity of 79.11 GiB of which 1.20 GiB is free"
    )


def test_who_needs_more_memory_is_said():
    assert why_refused(torch.OutOfMemoryError(FULL_GPU)).startswith("a training step needs")
    assert why_refused(of_task(torch.OutOfMemoryError(FULL_GPU))).startswith("an evaluation needs")


def test_a_full_disk_of_a_replica_is_told_as_one():
    full = OSError(errno.ENOSPC, "No space left on device", "a.txt")
    assert (
        why_refused(of_task(full))
        == why_refused(full)
        == ("the disk is full; what was complete is kept, and the same command goes on from there: a.txt")
    )


def test_what_the_replicas_gave_up_is_not_begun_again(ends):
    assert ends(GivenUpError("a batch was asked for 8 times"), workers=1) == "a batch was asked for 8 times"


def test_only_what_was_lost_elsewhere_is_repeated():
    lost = [ActorDiedError(), NodeDiedError("n"), OwnerDiedError("00", None, "")]
    assert all(repeats(of_task(error)) for error in (*lost, OSError(errno.EIO, "Input/output error")))
    assert not any(
        repeats(of_task(error)) for error in (ValueError("nan"), RuntimeError("shape"), OSError(errno.ENOSPC, "full"))
    )


def test_what_to_do_after_a_loss_is_said_and_nothing_of_other_failures():
    told = "Traceback\nray.exceptions.ActorDiedError: The actor died unexpectedly.\nThe actor is dead: its node has crashed."
    assert why_lost(told) == (
        "a process that it needs, or the machine of one, was lost; launch again: it goes on from its checkpoint "
        "(Ray: The actor is dead: its node has crashed.)"
    )
    assert len(why_lost(told + " word" * 1000)) < 400
    assert why_lost("Traceback\nValueError: no ActorDiedErrors here") is None


@pytest.mark.parametrize(
    "told",
    [
        "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR",
        "The actor is dead because its owner has died. Owner Id: 01000000ffff Owner worker exit type: SYSTEM_ERROR",
        "The actor 691ced2083f9d234be3d5e9701000000 is unavailable: The actor is temporarily unavailable: RpcError",
    ],
)
def test_a_loss_that_ray_tells_without_its_kind_says_what_to_do_as_well(told):
    assert AGAIN in (why_lost(f"Training failed due to controller error:\n{told}") or "")


DIED = ActorDiedError()


@pytest.mark.parametrize(("errors", "tries"), [([], 1), ([DIED] * 2, 3), ([DIED] * 9, 3), ([ValueError()], 1)])
def test_workers_that_die_as_they_are_handed_their_work_are_started_again(monkeypatch, errors, tries):
    """Train takes such a loss for a fault of its controller, which it does not repeat."""
    left, begun = list(errors), []

    def fit() -> None:
        begun.append(1)
        if left:
            raise ControllerError(left.pop())

    monkeypatch.setattr(trainer, "_trainer", lambda *job, again: SimpleNamespace(fit=fit))
    ends = len(errors) < tries
    with nullcontext() if ends else pytest.raises(ControllerError):
        trainer.fit(None, None, None)
    assert len(begun) == tries


def test_a_session_that_loses_an_actor_says_what_to_do(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(session.ray, "init", lambda *address, **options: None)
    with pytest.raises(RuntimeError, match=AGAIN), session.connected():
        raise ActorDiedError


def test_a_ray_that_does_not_start_is_a_sentence(monkeypatch):
    """Seen where its raylet was killed meanwhile: an Exception of no kind."""

    def init(*address, **options):
        raise Exception("The current node timed out during startup. This could happen because\nof much")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(session.ray, "init", init)
    with (
        pytest.raises(RuntimeError, match=rf"Ray did not start; {AGAIN} \(Ray: The current node timed out"),
        session.connected(),
    ):
        pass


@pytest.fixture
def looks(monkeypatch):
    """What is said of a cluster that was so at looks a second apart, and away long enough after three."""
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(session, "time", clock)

    def said(*seen: str | None) -> str | None:
        left = iter(seen)

        class Over(threading.Event):
            def wait(self, timeout=None):
                clock.now += 1
                return left.__length_hint__() == 0

        return session.loss(lambda: next(left), Over(), patience=3.0)

    return said


def test_a_cluster_is_lost_when_it_is_away_for_long(looks):
    assert looks(None, "gone", "gone", "gone", "gone") == "gone"
    assert looks(None, "gone", "gone", None, "gone", "gone", "gone") is None
    assert looks(None, None) is None


def test_what_a_full_disk_has_cut_off_of_tunes_own_is_no_end_without_a_word(trial, tmp_path, monkeypatch):
    """An EOFError would end the command as Ctrl-D does: "Aborted."."""

    class CutOff:
        def __init__(self, *args, **told) -> None:
            pass

        def fit(self):
            raise EOFError("Ran out of input")

    monkeypatch.setattr(tuner.ray.tune, "Tuner", CutOff)
    results = Results(tmp_path)
    there = dict(results=results, folder=results.sweep("s"), resources=POCKET.resources)
    assert tuner._tune([trial], [], **there) == {}
    with pytest.raises(RuntimeError, match="trial tiny has no result: it ended without saying why"):
        fail_if_failed(why_without([trial], results, {}))


def test_what_a_cluster_lacks_is_asked_only_while_it_is_there(monkeypatch):
    asked = SMALL.resources
    monkeypatch.setattr(session, "of_cluster", lambda: Machine(gpus=0, cpus=64, cluster=True))
    monkeypatch.setattr(session, "lost_now", lambda head, node: None)
    assert "the cluster has 0 GPU(s)" in session.short_now("head", "node", asked)
    monkeypatch.setattr(session, "lost_now", lambda head, node: "gone")
    monkeypatch.setattr(session, "of_cluster", lambda: pytest.fail("Ray has nobody to ask"))
    assert session.short_now("head", "node", asked) is None
