"""A translator names the arm that it is trained for: what is added onto the text is judged beside the text."""

from dataclasses import replace

import pandas as pd
import pytest
from local_runs import run_trial

from raybridge.arms import find
from raybridge.losses.next_token import ResidualAnswer
from raybridge.results import Results
from raybridge.training.judge import score_of
from raybridge.translators.bottlenecked import evenly
from raybridge.translators.injection import Injection
from raybridge.translators.options import Projected
from raybridge.translators.residual import Residual

ARMS = {"bridged": 0.0, "shuffled": 1.0, "bridged_with_text": 1.0, "shuffled_with_text": 0.0}


@pytest.fixture(autouse=True, scope="module")
def quick():
    """No: a trial is selected by what it learns and answers."""


@pytest.fixture
def hybrid(trial):
    return replace(
        trial,
        translator=Residual(translator=evenly(trial.translator)),
        losses=(ResidualAnswer(),),
        steps=2,
        eval_every=2,
        warmup=1,
    )


def test_hybrids_name_their_arm_and_others_are_bridged(trial, hybrid):
    even = evenly(trial.translator)
    assert trial.translator.arm == Projected(translator=even).arm == "bridged"
    assert hybrid.translator.arm == Injection(translator=even, target_layers=(1,)).arm == "bridged_with_text"
    assert (hybrid.headline.arm, hybrid.headline.control) == ("bridged_with_text", "shuffled_with_text")
    assert (trial.headline.arm, trial.headline.control) == ("bridged", "shuffled")


def test_a_dev_score_is_of_the_arm_beside_its_control():
    samples = pd.DataFrame(
        [
            {"arm": arm, "problem": problem, "score_strict": right, "nll": 2.0 + right, "nll_tokens": 4}
            for arm, right in ARMS.items()
            for problem in "ab"
        ]
    )
    score = score_of(samples, "strict", 7, arm="bridged_with_text")
    assert (score.accuracy, score.control, score.nll) == (1.0, 0.0, 0.75)
    assert score_of(samples, "strict", 7, arm="bridged").accuracy == 0.0


def test_a_hybrid_is_selected_by_what_it_trains(hybrid, tmp_path, models):
    _, run = run_trial(hybrid, Results(tmp_path), models)
    evals, result = run.evals(), run.result()
    assert set(evals.loc[evals["split"] == "dev", "arm"]) == set(ARMS)
    dev = evals[(evals["split"] == "dev") & (evals["reading"] == "strict")].set_index("arm")["accuracy"]
    assert result["arm"] == "bridged_with_text"
    assert result["peak"] == dev["bridged_with_text"] > dev["bridged"]
    assert result["shuffled_dev_at_peak"] == dev["shuffled_with_text"]


def test_transfer_beside_the_text_is_against_another_problems_soft_tokens():
    control = find(find("bridged_with_text").against)
    assert control.control
    assert control.shows_question
    assert control.of_block
