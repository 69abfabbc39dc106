"""The source reads the questions of train once, whoever asks and however often it is killed meanwhile."""

from dataclasses import replace
from unittest import mock

import pytest
import torch
from local_runs import worker_on

from raybridge.evaluation.answerer import Local
from raybridge.evaluation.kept_source import KeptSource
from raybridge.evaluation.models import Models
from raybridge.evaluation.setting import problems_of
from raybridge.models.frozen import FrozenLM
from raybridge.results import Results
from raybridge.results.states import States
from raybridge.training import reading, workload
from raybridge.training.batches import Batches
from raybridge.training.reading import asked_of_train, read_ahead, states_told
from raybridge.world import World


@pytest.fixture
def small(trial):
    """Few problems to train on."""
    return replace(trial, evaluator=replace(trial.evaluator, train=40), steps=4, warmup=2, eval_every=2)


@pytest.fixture
def kept(tmp_path):
    return States(root=tmp_path / "states", budget=10**9)


def source_of(trial, kept) -> KeptSource:
    return KeptSource(trial.source, device=torch.device("cpu"), kept=kept, load=mock.Mock(side_effect=AssertionError("loaded")))


class Counting(Local):
    """Counts what is asked of it; killed: raises at that reading."""

    def __init__(self, kept, killed: int | None = None) -> None:
        super().__init__(Models("cpu", kept=kept))
        self.read, self.killed = 0, killed

    def keep(self, readings):
        for one in readings:
            if self.read == self.killed:
                raise KeyboardInterrupt
            yield from super().keep([one])
            self.read += 1


def parts(trial, size: int) -> int:
    """Of the questions of train, dev and test, each once."""
    problems = [*trial.evaluator.problems("train"), *problems_of(trial, "dev"), *problems_of(trial, "test")]
    return -(-len({problem.question for problem in problems}) // size)


def test_a_second_trial_of_other_layers_reads_only_those(small, kept, monkeypatch):
    monkeypatch.setattr(reading, "PART", 16)
    first, second, third = (Counting(kept) for _ in range(3))
    read_ahead(small, source_of(small, kept), first)
    assert first.read == parts(small, 16)
    read_ahead(replace(small, seed=7), source_of(small, kept), second)
    assert second.read == 0
    more = replace(small, translator=replace(small.translator, layers=(0, 3)))
    with mock.patch.object(FrozenLM, "states", autospec=True, side_effect=FrozenLM.states) as passes:
        read_ahead(more, source_of(more, kept), third)
    assert {tuple(call.args[3]) for call in passes.call_args_list} == {(3,)}


def test_killed_in_the_middle_it_goes_on_from_what_is_there(small, kept, monkeypatch):
    monkeypatch.setattr(reading, "PART", 8)
    with pytest.raises(KeyboardInterrupt):
        read_ahead(small, source_of(small, kept), Counting(kept, killed=2))
    again = Counting(kept)
    read_ahead(small, source_of(small, kept), again)
    assert again.read == parts(small, 8) - 2


def test_what_is_beyond_the_budget_is_said_and_read_as_before(small, tmp_path, caplog):
    tight = States(root=tmp_path / "states", budget=1000)
    answerer = Counting(tight)
    read_ahead(small, source_of(small, tight), answerer)
    assert answerer.read == 0
    assert "questions would take" in caplog.text
    assert "of 0.0 MB for states 0.0 MB is used: pocket:source reads them anew" in caplog.text
    assert "--states-budget" in caplog.text


def test_what_finds_no_room_any_more_is_said_and_read_as_before(small, kept, monkeypatch, caplog):
    """Others write to the same disk while it is read."""
    monkeypatch.setattr(reading, "PART", 16)
    source, answerer = source_of(small, kept), Counting(kept)
    with mock.patch.object(States, "take", side_effect=[True, True, *[False] * 100]):
        assert not read_ahead(small, source, answerer)
    assert "in every worker (--states-budget)" in caplog.text
    assert read_ahead(small, source, Counting(kept)), "what is left is read by the next that finds room"


def test_the_plan_counts_what_is_there_once_and_what_others_have(small, kept):
    whole = source_of(small, kept)
    read_ahead(small, whole, Counting(kept))
    full = replace(kept, budget=kept.used)
    (_, room), fit = states_told([small], full, device="cpu")
    assert fit, "nothing is to come, however little is left"
    assert "and 0.0 MB are to come" in room
    longer = replace(small, translator=replace(small.translator, layers=(0, 3)))
    before = reading.frame(whole.as_lm, small.evaluator).before
    more = whole.more(before, reading.rows_read(longer, whole), (0, 3))
    assert 0 < more < whole.bytes(sum(map(len, reading.rows_read(longer, whole))), (0, 3)), "one of both layers is there"
    assert not states_told([longer], replace(kept, budget=kept.used + more - 1), device="cpu")[1]
    assert states_told([longer], replace(kept, budget=kept.used + more), device="cpu")[1]


def test_only_what_the_steps_see_is_read(small, kept, monkeypatch, source, target):
    monkeypatch.setattr(reading, "FITTED_FROM", 3)
    few = replace(small, evaluator=replace(small.evaluator, train=400))
    answerer = Counting(kept)
    read_ahead(few, source_of(few, kept), answerer)
    batches = Batches(few, source, target)
    wanted = {batches.problems[i].question for i in range(3)}
    for step in range(few.steps):
        rows = batches.at(step, World()).source_questions
        assert not source_of(few, kept).lacking(batches.source.before, rows, few.translator.layers)
    seen_too = [problem for problem in asked_of_train(few) if problem.question in wanted]
    assert len(seen_too) == 3
    assert len(asked_of_train(few)) <= 3 + few.steps * few.batch < 400


def test_the_plan_tells_what_is_kept_and_what_a_layer_costs(small, kept):
    other = replace(small, name="other", translator=replace(small.translator, layers=(0, 3)))
    (line, room), fit = states_told([small, other], kept, device="cpu")
    assert fit
    layers = sorted({*small.translator.layers, 0, 3})
    assert f"(layers {', '.join(map(str, layers))})" in line
    assert "a layer" in line
    assert "0.0 MB are there" in room
    read_ahead(small, source_of(small, kept), Counting(kept))
    assert "0.0 MB are there" not in states_told([small], kept, device="cpu")[0][1]
    tight = replace(kept, budget=10)
    (_, room), fit = states_told([small], tight, device="cpu")
    assert not fit
    assert "read anew for every batch" in room


def test_the_plan_says_what_its_problems_can_show_before_they_are_asked(small, kept):
    whole = replace(small, test_problems=200)
    first, *_ = workload.needs([whole], workers=1, card=None, cards=0, kept=kept)
    assert first.startswith("200 test problems")
    assert "8.9 points" in first


def test_the_plan_says_how_many_answers_are_written(small):
    one = replace(small, steps=9, warmup=0, eval_every=4, dev_problems=10, test_problems=20)
    assert len(one.points) == 3
    of_trial, frozen = 3 * 2 * 10 + 4 * 20, 5 * 10 + 5 * 20
    assert f"write: {of_trial} by arms of trials, {frozen} by arms without" in workload.answers_told([one])
    seeded = workload.answers_told([one, replace(one, seed=7)])
    assert f"write: {2 * of_trial} by arms of trials, {frozen} by arms without" in seeded
    longer = replace(one, translator=replace(one.translator, soft_tokens=1 + one.translator.soft_tokens))
    told = workload.answers_told([one, longer])  # the first K tokens, and zeros in K places
    assert f"{frozen + 2 * 10 + 2 * 20} by arms without a translator where they are not kept; each of at most " in told
    assert told.endswith(f"{one.evaluator.max_new_tokens} tokens (pocket)")


def run_in(folder, trial, budget: int | None):
    """The trial's run, and how often its source was loaded by the worker and read anything at all."""
    results = Results(folder)
    models = Models("cpu", kept=results.kept_states(budget))
    run = results.open_trial(name=trial.name, fingerprint=trial.fingerprint, config=trial.resolved(), provenance={})
    worker = worker_on(run, lambda: Local(models), states_budget=budget)
    with mock.patch.object(FrozenLM, "states", autospec=True, side_effect=FrozenLM.states) as passes:
        assert workload.run(trial, worker) == "trained"
        workload.conclude(trial, run, Local(models))
    return run, passes.call_count


def test_training_from_kept_states_never_loads_the_source(small, tmp_path):
    """Not even to look, before the first step, whether training and evaluation agree: it took 13.5 GiB at full scale."""
    with mock.patch.object(workload, "_loaded", side_effect=AssertionError("loaded")):
        run, _ = run_in(tmp_path / "kept", small, None)
    assert run.complete


def test_a_trial_from_kept_states_ends_with_the_numbers_of_one_that_reads_as_it_goes(small, tmp_path):
    from_disk, _ = run_in(tmp_path / "kept", small, None)
    as_it_goes, passes = run_in(tmp_path / "read", small, 0)
    assert passes > small.steps
    one, two = (run.metrics().set_index("step")["loss"] for run in (from_disk, as_it_goes))
    assert one.to_dict() == pytest.approx(two.to_dict(), rel=1e-4)
    again, passes = run_in(tmp_path / "kept", replace(small, seed=99), None)
    assert passes == 0, "a second trial makes no source pass"
    assert again.complete
