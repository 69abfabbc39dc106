"""How a worker ends where something fails: what is written down, and what Ray Train is left to repeat."""

from __future__ import annotations

import errno
from types import SimpleNamespace

import pytest

from raybridge.world import AGREED


@pytest.fixture
def ends(run, monkeypatch):
    """A worker of a group of so many, whose part fails with an error; and the sentence that it leaves."""
    from raybridge.cluster import trainer

    def end(error: Exception, *, workers: int, agreed: bool = False) -> str | None:
        def fails(*args):
            raise error

        if agreed:
            error.add_note(AGREED)
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


def test_what_another_try_may_mend_is_left_to_it(ends, run):
    for error in (OSError(errno.EIO, "Input/output error"), RuntimeError("the actor died")):
        with pytest.raises(type(error)):
            ends(error, workers=2)
        assert run.failure() is None
