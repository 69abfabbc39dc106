"""The target's own answers: computed once for all trials, kept by what they depend on, and trained on."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pandas as pd
import pytest
from local_runs import worker_on
from shown import Shown

from evaluators.pocket import Pocket
from raybridge.config import packages_of, rebuild
from raybridge.data.texts import Mixture, OtherNumbers, WorkedAnswers
from raybridge.evaluation.answerer import Local
from raybridge.evaluation.identity import sealed
from raybridge.evaluation.models import Models
from raybridge.results import Results
from raybridge.training import own_answers, reading, workload
from raybridge.training.batches import Batches
from raybridge.trial import OwnAnswers

FEW = Pocket(train=24, dev=8, test=8)


@pytest.fixture(autouse=True, scope="module")
def quick():
    """No: an answer that is cut off is none to learn from."""


@pytest.fixture
def own(trial):
    return sealed(replace(trial, evaluator=FEW, own_answers=OwnAnswers(right=False)), device="cpu")


@dataclass
class Counting(Local):
    """Counts the problems that it answers."""

    asked: list[int] = field(default_factory=list)

    def __init__(self, models) -> None:
        super().__init__(models)
        self.asked = []

    def answer(self, requests, weights):
        self.asked += [len(request.problems) for request in requests]
        return super().answer(requests, weights)


def test_they_are_computed_once_for_two_trials_and_kept(own, models, tmp_path):
    results, answerer = Results(tmp_path), Counting(models)
    assert own_answers.kept(own, results).there == 0
    assert "none yet: 24 questions" in str(own_answers.kept(own, results))
    one = own_answers.answered(own, results, answerer)
    assert answerer.asked == [24]
    wider = replace(own, translator=replace(own.translator, width=32), seed=7, name="wider")
    assert own_answers.answered(sealed(wider, device="cpu"), results, answerer).problems == one.problems
    right = own_answers.answered(replace(own, own_answers=OwnAnswers(right=True)), results, answerer)
    fewer = own_answers.answered(replace(own, own_answers=OwnAnswers(right=False, problems=6)), results, answerer)
    assert answerer.asked == [24]
    assert own_answers.kept(own, results).problems == one.problems
    assert right.right == len(right.problems) == one.right
    assert len(one.problems) == 24 - one.cut_off
    assert fewer.asked == fewer.there == 6
    assert {one.id for one in fewer.problems} <= {problem.id for problem in one.problems}
    rows = results.baseline(results.baselines()[0]).set_index("problem")
    for problem in one.problems:
        assert problem.rationale == rows.loc[problem.id, "completion"].strip()
        assert rows.loc[problem.id, "arm"] == "target"
    for problem in right.problems:
        assert FEW.grade(problem, problem.rationale)["strict"]
    shown = sealed(replace(own, evaluator=Shown(train=24, dev=8, test=8)), device="cpu")
    assert own_answers.kept(shown, results).there == 0  # another frame


def test_wrong_ones_are_left_out_where_the_trial_says_so_and_cut_off_ones_always(own, models):
    setting = own_answers.asked_of_target(own)
    ids, said = setting.ids, [f" It is {number}. " for number in range(24)]
    rows = pd.DataFrame(
        {"problem": ids, "completion": said, "score_strict": [1.0, 0.0] * 12, "truncated": [False] * 20 + [True] * 4}
    )
    rows.loc[2, "completion"] = "\n"
    both = {
        right: own_answers.own_in(replace(own, own_answers=OwnAnswers(right=right)), setting, rows) for right in (True, False)
    }
    assert [one.id for one in both[False].problems] == [ids[i] for i in range(20) if i != 2]
    assert [one.id for one in both[True].problems] == [ids[i] for i in range(0, 20, 2) if i != 2]
    assert both[True].problems[0].rationale == "It is 0."
    assert (both[True].right, both[True].cut_off) == (12, 4)


def test_questions_with_other_numbers_are_answered_too_and_nobody_calls_them_right(own, models, tmp_path):
    results, answerer = Results(tmp_path), Counting(models)
    plain = own_answers.answered(own, results, answerer)
    more = replace(own, own_answers=OwnAnswers(right=False, varied=2))
    again = own_answers.questions(more)[24:]
    found = own_answers.answered(more, results, answerer)
    assert answerer.asked == [24, len(again)], "what was answered before is not asked again"
    assert (found.asked, found.right) == (24 + len(again), plain.right)
    assert found.problems[: len(plain.problems)] == plain.problems
    further = found.problems[len(plain.problems) :]
    assert {one.id for one in further} <= {one.id for one in again}
    assert further
    asked = {one.id: one.question for one in again}
    assert all(one.question == asked[one.id] for one in further)
    assert [one.id for one in reading.asked_of_train(more)] == [one.id for one in own_answers.questions(more)]
    assert "2 times with other numbers" in more.planned()["learns from"]
    with pytest.raises(ValueError, match=r"needs right=False, for nobody knows .*; not varied=2 and right=True"):
        OwnAnswers(varied=2)


def test_the_plan_tells_their_number(own, models, tmp_path):
    results = Results(tmp_path)
    told = dict(workers=1, card=None, cards=0, kept=results.kept_states(), results=results)
    assert any("none yet: 24 questions are answered before training" in line for line in workload.needs([own, own], **told))
    made = own_answers.answered(own, results, Local(models))
    lines = [line for line in workload.needs([own, own], **told) if "own answers of pocket:target on pocket" in line]
    assert len(lines) == 1
    assert f"24 of 24 questions: {made.right} known to be right" in lines[0]
    assert own.planned()["learns from"] == "all own answers of the target"


def test_they_stand_in_the_worked_answers_place(own, models, tmp_path, source, target):
    made = own_answers.answered(own, Results(tmp_path), Local(models))
    batches = Batches(own, source, target, problems=made.problems)
    assert len(batches.problems) == len(made.problems)
    batch = batches.tokens(batches.problems[:2])
    assert list(batch.answers) == [batches.target.answer(one.rationale) for one in batches.problems[:2]]
    with pytest.raises(ValueError, match=r"batch 8 has 8 problems, more than the 3 problems of train that have an answer of"):
        Batches(own, source, target, problems=made.problems[:3])


def test_older_trials_keep_their_identity(trial):
    told = trial.resolved()
    assert not {"mixture", "own_answers", "exemplars"} & set(told)
    assert "learns from" not in trial.planned()


def test_the_engine_trains_on_them_behind_exemplars_beside_further_texts(own, tmp_path):
    mixture = Mixture(parts=(OtherNumbers(share=0.25, count=9), WorkedAnswers(share=0.125)))
    short = dict(steps=3, warmup=1, eval_every=3, dev_problems=2, test_problems=2, mixture=mixture, exemplars=True)
    trial = sealed(replace(own, evaluator=Shown(train=24, dev=8, test=8), contents=None, **short), device="cpu")
    results = Results(tmp_path)
    answerer = Counting(Models("cpu", kept=results.kept_states()))
    workload.check(trial, workers=1)
    workload.prepare([trial], answerer, device="cpu", kept=results.kept_states(), results=results)
    opened = results.open_trial(name=trial.name, fingerprint=trial.fingerprint, config=trial.resolved(), provenance={})
    worker = worker_on(opened, lambda: answerer, states_budget=0)
    asked = len(answerer.asked)
    assert workload.run(trial, worker) == "trained"
    workload.conclude(trial, opened, answerer)
    assert answerer.asked[:asked] == [24]
    assert rebuild(opened.config | {"contents": opened.contents}, packages_of(trial)) == trial
    assert opened.result()["steps"] == 3
