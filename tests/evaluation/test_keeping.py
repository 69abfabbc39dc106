"""What is kept of an evaluation, what of it is used again, and what a kill leaves."""

from dataclasses import replace

import pandas as pd
import pytest
import torch

from raybridge.analysis.measures import FROZEN_ARMS
from raybridge.evaluation import keeping
from raybridge.evaluation.answering import LocalEvaluations, answer, in_order, summarise
from raybridge.evaluation.costs import measure
from raybridge.evaluation.keeping import Assessment, Trained
from raybridge.evaluation.setting import TRIAL_ARMS_TEST, baseline_requests, problems_of, setting_of
from raybridge.models.hardening import Hardening
from raybridge.results import Results
from raybridge.translators.weights import copy_of

ARMS = ("source", "target", "no_context", "cascade", "joint", "bridged", "shuffled", "mean")


@pytest.fixture
def results(tmp_path):
    return Results(tmp_path / "ray_results")


@pytest.fixture
def assessment(trial, models, results):
    """An evaluation of untrained weights at step 4 on six dev problems, without costs."""
    torch.manual_seed(0)
    source, target = models.load(trial.source), models.load(trial.target)
    module = trial.translator.build(source.width, target.width, target_rms=target.embedding_rms)
    run = results.open_trial(name=trial.name, fingerprint=trial.fingerprint, config=trial.resolved(), provenance={})
    setting = setting_of(trial, "dev")
    return Assessment(
        setting=replace(setting, problems=setting.problems[:6]),
        results=results,
        models=models,
        trained=Trained(run=run, step=4, weights=copy_of(module)),
        batch=3,
        alone=0,
    )


@pytest.fixture
def asked(monkeypatch):
    """The requests that are answered from now on."""
    seen = []

    def counted(request, models, weights=None):
        seen.append(request)
        return answer(request, models, weights)

    monkeypatch.setattr(keeping, "answer", counted)
    return seen


def plain(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.drop(columns=["seconds", "identity"], errors="ignore").reset_index(drop=True)


def test_every_arm_answers_every_problem_in_order_and_nothing_is_computed_twice(assessment, asked):
    rows = assessment.rows(ARMS)
    ids = [problem.id for problem in assessment.setting.problems]
    assert rows["arm"].tolist() == [arm for arm in ARMS for _ in ids]
    assert rows["problem"].tolist() == ids * len(ARMS)
    answered = [(arm, problem.id) for request in asked for arm in request.arms for problem in request.problems]
    assert len(answered) == len(set(answered)) == len(ARMS) * len(ids)
    asked.clear()
    again = assessment.rows(ARMS)
    assert not asked
    pd.testing.assert_frame_equal(plain(again), plain(rows))


def test_rows_are_where_a_sweep_puts_them(trial, models, results, assessment):
    """The evaluation that a sweep makes of the same weights and problems gives the same rows in the same places."""
    whole = replace(assessment, setting=setting_of(trial, "dev"), batch=128)
    whole.rows([*FROZEN_ARMS, *TRIAL_ARMS_TEST])
    trained, evaluator = whole.trained, trial.evaluator
    problems = problems_of(trial, "dev")
    for arm, key, requests in baseline_requests(trial, "dev"):
        theirs = in_order([row for request in requests for row in answer(request, models)], problems)
        pd.testing.assert_frame_equal(plain(results.baseline(key)), plain(theirs), check_dtype=False)
        assert set(theirs["arm"]) == {arm}
    local = LocalEvaluations(trial, models)
    local.submit(step=4, split="dev", arms=TRIAL_ARMS_TEST, weights=trained.weights)
    theirs = local.collect(step=4, split="dev")
    ours = trained.run.samples(evaluator.name, "dev", 4)
    by = ["arm", "problem"]
    pd.testing.assert_frame_equal(
        plain(ours.sort_values(by)), plain(theirs.sort_values(by))[plain(ours).columns.tolist()], check_dtype=False
    )
    evals = trained.run.evals().set_index(["arm", "reading"])["accuracy"]
    for row in summarise(theirs, evaluator, step=4, split="dev"):
        assert evals[row["arm"], row["reading"]] == row["accuracy"]


def test_a_kill_between_two_batches_keeps_the_batches_that_are_done(assessment, monkeypatch, asked):
    calls = []

    def killed(request, models, weights=None):
        calls.append(request.key)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return answer(request, models, weights)

    monkeypatch.setattr(keeping, "answer", killed)
    with pytest.raises(KeyboardInterrupt):
        assessment.rows(ARMS)
    done = set(calls[:-1])
    monkeypatch.setattr(keeping, "answer", lambda *args: asked.append(args[0]) or answer(*args))
    rows = assessment.rows(ARMS)
    assert done.isdisjoint(request.key for request in asked)
    assert len(rows) == len(ARMS) * 6
    assert not list((assessment.results.root / "partial").glob("*"))


def test_more_problems_reuse_the_frozen_rows_and_keep_those_of_fewer(trial, assessment, asked):
    few = assessment.rows(ARMS)
    asked.clear()
    more = replace(assessment, setting=setting_of(trial, "dev"))
    rows = more.rows(ARMS)
    new = {problem.id for problem in more.setting.problems[6:]}
    for request in asked:
        if not {"shuffled", "mean"} & set(request.arms):  # these depend on the other problems
            assert {problem.id for problem in request.problems} == new
    for arm in ("source", "bridged", "joint"):
        old, now = (table[table["arm"] == arm].set_index("problem")["completion"] for table in (few, rows))
        assert now[old.index].tolist() == old.tolist()
    asked.clear()
    again = assessment.rows(ARMS)  # the first six once more
    assert not asked
    assert len(again) == len(few)
    evals = more.trained.run.evals()
    assert set(evals["n"]) == {8}  # asking for fewer has not replaced the larger evaluation
    samples = more.trained.run.samples(trial.evaluator.name, "dev", 4)
    assert (samples.groupby("arm").size() == 8).all()


def test_one_more_problem_is_no_batch_of_its_own(trial, assessment):
    assessment.rows(["source", "bridged"])
    seven = replace(assessment, setting=replace(assessment.setting, problems=setting_of(trial, "dev").problems[:7]))
    assert len(seven.rows(["source", "bridged"])) == 14


def test_a_sweeps_baselines_are_reused_for_other_problems(trial, models, results, assessment, asked):
    own = setting_of(trial, "dev")
    (_, key, requests), *_ = baseline_requests(trial, "dev")
    results.write_baseline(key, in_order([row for r in requests for row in answer(r, models)], list(own.problems)))
    told = replace(assessment, also={"source": own.key("source")})
    rows = told.rows(["source"])
    assert not asked
    assert rows["problem"].tolist() == [problem.id for problem in assessment.setting.problems]


def test_rows_of_another_model_or_decoding_are_not_taken_for_these(assessment, asked):
    assessment.rows(["source", "no_context", "bridged"])
    asked.clear()
    swapped = replace(assessment.setting, source=assessment.setting.target, target=assessment.setting.source)
    replace(assessment, setting=swapped).rows(["source", "no_context"])
    assert {arm for request in asked for arm in request.arms} == {"source", "no_context"}
    asked.clear()
    hard = replace(assessment, setting=replace(assessment.setting, hardening=Hardening(ban_end=30)))
    before = assessment.rows(["bridged"])
    rows = hard.rows(["source", "bridged"])
    assert {arm for request in asked for arm in request.arms} == {"source", "bridged"}
    assert set(rows["arm"]) == {"source+ban30", "bridged+ban30"}
    pd.testing.assert_frame_equal(assessment.rows(["bridged"]), before)


def test_costs_are_measured_on_a_few_problems_and_missing_elsewhere(assessment):
    arms = ["target", "bridged", "joint", "shuffled", "mean", "random", "zero", "no_context"]
    rows = replace(assessment, alone=2).rows(arms)
    counted = rows.groupby("arm")[["latency_1", "latency_batched"]].count()
    assert counted["latency_1"].to_dict() == dict.fromkeys(arms, 2)
    assert counted["latency_batched"].to_dict() == dict.fromkeys(arms, 6)
    assert (rows["latency_1"].dropna() > 0).all()
    evals = assessment.trained.run.evals().query("reading == 'strict'").set_index("arm")
    mine = rows[rows["arm"] == "bridged"]
    assert evals.loc["bridged", "latency_1"] == mine["latency_1"].mean()
    assert evals.loc["bridged", "peak_bytes"] == mine["peak_bytes"].max()
    assert evals.loc["shuffled", "latency_1"] > 0


@pytest.mark.parametrize("arm", ["bridged", "shuffled", "mean", "random", "zero", "no_context"])
def test_a_timed_control_does_the_work_that_it_needs(assessment, monkeypatch, arm):
    """A control with a translator's soft tokens reads one question a problem, another one's; the rest read none."""
    (request,) = assessment.setting.requests((arm,), prefix="")
    models, read = assessment.models, []
    soft_tokens = models.soft_tokens

    def watched(request, weights, *, fresh=False):
        assert fresh
        read.append([problem.id for problem in request.problems])
        return soft_tokens(request, weights, fresh=fresh)

    monkeypatch.setattr(models, "soft_tokens", watched)
    weights = assessment.trained.weights if request.translator is not None else None
    costs = measure(request, models, arm, weights, alone=2)
    ids = [problem.id for problem in request.problems]
    own, other = [ids[0], ids[0], ids[1]], [ids[1], ids[1], ids[0]]  # the first once more, to warm up
    alone = {"bridged": own, "shuffled": other, "mean": other}.get(arm)
    assert read == ([[one] for one in alone] + [ids] if alone else [])
    assert list(costs["latency_1"]) == ids[:2]


def test_batches_that_a_kill_left_count_as_kept(assessment, monkeypatch):
    done = []

    def second_fails(request, models, weights=None):
        if done:
            raise KeyboardInterrupt
        done.append(request)
        return answer(request, models, weights)

    monkeypatch.setattr(keeping, "answer", second_fails)
    with pytest.raises(KeyboardInterrupt):
        assessment.rows(("no_context",))
    monkeypatch.setattr(keeping, "answer", answer)
    told = []
    replace(assessment, tell=lambda arm, more: told.append(more)).rows(("no_context",))
    assert told == [3, 3]  # the first word is of what was kept: what is left was computed now


def test_progress_tells_every_problem_of_every_arm_once(assessment):
    told: dict[str, int] = {}
    assessment_ = replace(assessment, tell=lambda arm, done: told.__setitem__(arm, told.get(arm, 0) + done))
    assessment_.rows(ARMS)
    assert told == dict.fromkeys(ARMS, 6)
    told.clear()
    assessment_.rows(ARMS)
    assert told == dict.fromkeys(ARMS, 6)
