"""What is kept of an evaluation, what of it is used again, and what a kill leaves."""

from dataclasses import replace

import pandas as pd
import pytest

from raybridge.analysis.measures import summarised
from raybridge.arms import find
from raybridge.evaluation import answerer, costs
from raybridge.evaluation.answerer import Local
from raybridge.evaluation.answering import answer, in_order
from raybridge.evaluation.costs import measure, spread
from raybridge.evaluation.evaluations import Evaluations
from raybridge.evaluation.identity import sealed
from raybridge.evaluation.setting import frozen_arms, problems_of, setting_of, trial_arms
from raybridge.models.decode import greedy
from raybridge.models.hardening import Hardening

pytestmark = pytest.mark.usefixtures("short")
NAMES = ("source", "target", "no_context", "cascade", "joint", "bridged", "shuffled", "mean")

ARMS = [find(name) for name in NAMES]


@pytest.fixture
def asked(monkeypatch):
    """The requests that are answered from now on."""
    seen = []

    def counted(request, models, weights=None):
        seen.append(request)
        return answer(request, models, weights)

    monkeypatch.setattr(answerer, "answer", counted)
    return seen


def plain(rows: pd.DataFrame) -> pd.DataFrame:
    """What rows say, whatever it took; a file has NaN where nothing was found, and memory None."""
    told = rows.drop(columns=["seconds", "identity"], errors="ignore").reset_index(drop=True)
    return told.astype(object).where(told.notna(), None)


def test_every_arm_answers_every_problem_in_order_and_nothing_is_computed_twice(keeper, asked):
    rows = keeper.rows(ARMS)
    ids = [problem.id for problem in keeper.setting.problems]
    assert rows["arm"].tolist() == [arm.name for arm in ARMS for _ in ids]
    assert rows["problem"].tolist() == ids * len(ARMS)
    answered = [(arm.name, problem.id) for request in asked for arm in request.arms for problem in request.problems]
    assert len(answered) == len(set(answered)) == len(ARMS) * len(ids)
    asked.clear()
    again = keeper.rows(ARMS)
    assert not asked
    pd.testing.assert_frame_equal(plain(again), plain(rows))


def test_rows_are_where_a_sweep_puts_them(trial, models, results, keeper):
    """The evaluation that a sweep makes of the same weights and problems gives the same rows in the same places."""
    whole = replace(keeper, setting=setting_of(trial, "dev"), batch=128)
    whole.rows([*frozen_arms("dev"), *trial_arms(trial.translator, "test")])
    trained, evaluator = whole.trained, trial.evaluator
    problems = problems_of(trial, "dev")
    setting = setting_of(trial, "dev")
    for arm in frozen_arms("dev"):
        theirs = in_order([row for request in setting.requests([arm]) for row in answer(request, models)], problems)
        pd.testing.assert_frame_equal(plain(results.baseline(setting.key(arm))), plain(theirs), check_dtype=False)
        assert set(theirs["arm"]) == {arm.name}
    local = Evaluations(trial, Local(models))
    local.submit(step=4, split="dev", weights=trained.weights)
    theirs = local.collect(step=4, split="dev")
    ours = trained.run.samples(evaluator.name, "dev", 4)
    ours = ours[ours["arm"].isin(theirs["arm"])]
    by = ["arm", "problem"]
    pd.testing.assert_frame_equal(
        plain(ours.sort_values(by)), plain(theirs.sort_values(by))[plain(ours).columns.tolist()], check_dtype=False
    )
    evals = trained.run.evals().set_index(["arm", "reading"])["accuracy"]
    for row in summarised(theirs, step=4, split="dev", evaluator=evaluator.name, readings=evaluator.readings):
        assert evals[row["arm"], row["reading"]] == row["accuracy"]


def test_a_request_of_few_arms_has_more_problems_where_rows_are_told(keeper, asked):
    wide = replace(keeper, at_least=12)
    wide.rows([find("target")])
    wide.rows([find("bridged"), find("zero"), find("mean")])
    assert [len(request.problems) for request in asked] == [6, 4, 2]


def test_a_kill_between_two_batches_keeps_the_batches_that_are_done(keeper, monkeypatch, asked):
    calls = []

    def killed(request, models, weights=None):
        calls.append((request.arms, tuple(request.setting.ids)))
        if len(calls) == 6:
            raise KeyboardInterrupt
        return answer(request, models, weights)

    monkeypatch.setattr(answerer, "answer", killed)
    with pytest.raises(KeyboardInterrupt):
        keeper.rows(ARMS)
    done = set(calls[:-1])
    monkeypatch.setattr(answerer, "answer", lambda *args: asked.append(args[0]) or answer(*args))
    rows = keeper.rows(ARMS)
    assert done.isdisjoint((request.arms, tuple(request.setting.ids)) for request in asked)
    assert len(rows) == len(ARMS) * 6
    assert not list((keeper.results.root / "partial").glob("*"))


def test_more_problems_reuse_the_frozen_rows_and_keep_those_of_fewer(trial, keeper, asked):
    few = keeper.rows(ARMS)
    asked.clear()
    more = replace(keeper, setting=setting_of(trial, "dev"))
    rows = more.rows(ARMS)
    new = {problem.id for problem in more.setting.problems[6:]}
    for request in asked:
        if not any(arm.of_block for arm in request.arms):  # these depend on the other problems
            assert {problem.id for problem in request.problems} == new
    for arm in ("source", "bridged", "joint"):
        old, now = (table[table["arm"] == arm].set_index("problem")["completion"] for table in (few, rows))
        assert now[old.index].tolist() == old.tolist()
    asked.clear()
    again = keeper.rows(ARMS)  # the first six once more
    assert not asked
    assert len(again) == len(few)
    evals = more.trained.run.evals()
    assert set(evals["n"]) == {8}  # asking for fewer has not replaced the larger evaluation
    samples = more.trained.run.samples(trial.evaluator.name, "dev", 4)
    assert (samples.groupby("arm").size() == 8).all()


def test_one_more_problem_is_no_batch_of_its_own(trial, keeper):
    keeper.rows([find("source"), find("bridged")])
    seven = replace(keeper, setting=replace(keeper.setting, problems=setting_of(trial, "dev").problems[:7]))
    assert len(seven.rows([find("source"), find("bridged")])) == 14


def test_a_sweeps_baselines_are_reused_for_other_problems(trial, models, results, keeper, asked):
    """Also those of old, which carry no identity: their key tells it."""
    own, source = setting_of(trial, "dev"), find("source")
    rows = in_order([row for r in own.requests([source]) for row in answer(r, models)], list(own.problems))
    results.write_baseline(own.key(source), rows)
    rows = keeper.rows([source])
    assert not asked
    assert rows["problem"].tolist() == [problem.id for problem in keeper.setting.problems]


def test_rows_of_another_model_or_decoding_are_not_taken_for_these(keeper, asked):
    keeper.rows([find("source"), find("no_context"), find("bridged")])
    asked.clear()
    swapped = replace(keeper.setting, source=keeper.setting.target, target=keeper.setting.source)
    replace(keeper, setting=swapped).rows([find("source"), find("no_context")])
    assert {arm.name for request in asked for arm in request.arms} == {"source", "no_context"}
    asked.clear()
    hard = replace(keeper, setting=replace(keeper.setting, hardening=Hardening(ban_end=30)))
    before = keeper.rows([find("bridged")])
    rows = hard.rows([find("source"), find("bridged")])
    assert {arm.name for request in asked for arm in request.arms} == {"source", "bridged"}
    assert set(rows["arm"]) == {"source+ban30", "bridged+ban30"}
    pd.testing.assert_frame_equal(keeper.rows([find("bridged")]), before)


@pytest.fixture
def few_tokens(monkeypatch):
    """That are written while an arm is timed."""
    monkeypatch.setattr(costs, "TOKENS", 2)


@pytest.mark.usefixtures("few_tokens")
def test_costs_are_measured_on_a_few_problems_and_missing_elsewhere(keeper):
    arms = ["target", "bridged", "joint", "shuffled", "no_context"]
    rows = replace(keeper, timed=2).rows([find(arm) for arm in arms])
    counted = rows.groupby("arm")[["latency_1", "latency_batched"]].count()
    assert counted["latency_1"].to_dict() == dict.fromkeys(arms, 2)
    assert counted["latency_batched"].to_dict() == dict.fromkeys(arms, 6)
    assert (rows["latency_1"].dropna() > 0).all()
    stages = rows.groupby("arm")[["prefill_target", "seconds_a_token", "prefill_source", "prefill_translator"]].count()
    read = {"bridged": 2, "shuffled": 2}
    assert stages["prefill_source"].to_dict() == stages["prefill_translator"].to_dict() == dict.fromkeys(arms, 0) | read
    assert stages["prefill_target"].to_dict() == dict.fromkeys(arms, 2) | {"joint": 0}
    evals = keeper.trained.run.evals().query("reading == 'strict'").set_index("arm")
    mine = rows[rows["arm"] == "bridged"]
    assert evals.loc["bridged", "latency_1"] == mine["latency_1"].mean()
    assert evals.loc["bridged", "peak_bytes"] == mine["peak_bytes"].max()
    assert evals.loc["shuffled", "latency_1"] > 0


@pytest.mark.usefixtures("few_tokens")
@pytest.mark.parametrize("name", ["bridged", "shuffled", "mean", "random", "zero", "no_context"])
def test_a_timed_control_does_the_work_that_it_needs(keeper, models, monkeypatch, name):
    """A control with a translator's soft tokens reads one question a problem, another one's; the rest read none."""
    (request,) = keeper.setting.requests([find(name)])
    read, written = [], models.written

    def watched(request, weights, *, fresh=False):
        if request.trained and fresh:
            read.append(request.setting.ids)
        return written(request, weights, fresh=fresh)

    monkeypatch.setattr(models, "written", watched)
    told = measure(request, models, find(name), keeper.trained.weights, alone=2)
    ids = [problem.id for problem in request.problems]
    own, other = [ids[0], ids[-1]], [ids[1], ids[0]]  # the shortest and the longest
    alone = {"bridged": own, "shuffled": other, "mean": other}.get(name)
    runs = costs.REPEATS + 1
    assert read == ([[one] for one in alone for _ in range(runs)] + [ids] * runs if alone else [])
    assert list(told["latency_1"]) == [ids[0], ids[-1]]


def test_times_are_drawn_evenly_over_the_lengths_of_the_questions(keeper):
    problems = [replace(keeper.setting.problems[0], id=f"p/{n}", question="x" * (n * 7 % 101 + 1)) for n in range(101)]
    assert [len(one.question) for one in spread(problems, 5)] == [1, 26, 51, 76, 101]
    assert [len(one.question) for one in spread(problems, 1)] == [51]
    assert spread(problems[:3], 20) == sorted(problems[:3], key=lambda one: len(one.question))


def test_every_arm_writes_as_many_tokens_while_it_is_timed(keeper, models, monkeypatch):
    lengths = []

    def counted(*args, **told):
        done = greedy(*args, **told)
        lengths.append([one.tokens for one in done])
        return done

    monkeypatch.setattr(costs, "greedy", counted)
    monkeypatch.setattr(costs, "REPEATS", 1)
    for name in ("target", "no_context"):
        (request,) = keeper.setting.requests([find(name)])
        measure(request, models, find(name), None, alone=1)
    assert {length for row in lengths for length in row} == {1, costs.TOKENS}


def test_batches_that_a_kill_left_count_as_kept(keeper, monkeypatch):
    done = []

    def second_fails(request, models, weights=None):
        if done:
            raise KeyboardInterrupt
        done.append(request)
        return answer(request, models, weights)

    monkeypatch.setattr(answerer, "answer", second_fails)
    with pytest.raises(KeyboardInterrupt):
        keeper.rows([find("no_context")])
    monkeypatch.setattr(answerer, "answer", answer)
    told = []
    replace(keeper, tell=lambda arm, more: told.append(more)).rows([find("no_context")])
    assert told == [3, 3]  # the first word is of what was kept: what is left was computed now


def test_progress_tells_every_problem_of_every_arm_once(keeper):
    told: dict[str, int] = {}
    keeper_ = replace(keeper, tell=lambda arm, done: told.__setitem__(arm.name, told.get(arm.name, 0) + done))
    keeper_.rows(ARMS)
    assert told == dict.fromkeys(NAMES, 6)
    told.clear()
    keeper_.rows(ARMS)
    assert told == dict.fromkeys(NAMES, 6)


def test_rows_of_a_translator_on_a_benchmark_that_has_changed_are_computed_again(trial, keeper, asked):
    """Another benchmark than the trial's own is in no fingerprint of it: its rows say what they depend on."""
    sealed_ = sealed(trial, device="cpu")
    setting = replace(keeper.setting, contents=sealed_.contents)
    known = replace(keeper, setting=setting)
    arms = [find("bridged"), find("shuffled")]
    before = known.rows(arms)
    asked.clear()
    pd.testing.assert_frame_equal(plain(known.rows(arms)), plain(before))
    assert not asked
    changed = replace(sealed_.contents, benchmark=replace(sealed_.contents.benchmark, dev="0" * 16))
    again = replace(keeper, setting=replace(setting, contents=changed))
    assert again.lacks(find("bridged"))
    again.rows(arms)
    assert {arm.name for request in asked for arm in request.arms} == {"bridged", "shuffled"}
    samples = keeper.trained.run.samples(trial.evaluator.name, "dev", keeper.trained.step)
    assert samples.groupby("arm").size().to_dict() == {"bridged": 6, "shuffled": 6}
