from dataclasses import replace

import pytest

from raybridge.config import lacking
from raybridge.losses.next_token import AnswerNLL
from raybridge.scales import SCALES
from raybridge.trial import Workload


def test_every_scale_is_a_complete_trial():
    assert [scale.name for scale in SCALES] == ["pocket", "small", "full"]
    assert len({scale.trial.fingerprint for scale in SCALES}) == 3


def test_a_smoke_trial_is_short_and_is_another_trial():
    for scale in SCALES:
        smoke = scale.trial.smoke()
        assert smoke.steps <= 20
        assert smoke.fingerprint != scale.trial.fingerprint


def test_the_trap_64tok_in_the_name_and_2048_in_the_run(trial):
    wide = replace(trial.translator, soft_tokens=2048)
    with pytest.raises(ValueError, match="named 64tok but has 2048 soft tokens"):
        replace(trial, name="2_stable_64tok", translator=wide)
    assert replace(trial, name="2_stable_2048tok", translator=wide).translator.soft_tokens == 2048


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(steps=0), "steps must be at least 1"),
        (dict(warmup=12), "warmup must lie in 0..11"),
        (dict(learning_rate=0.0), "learning_rate"),
        (dict(losses=()), "no losses"),
        (dict(losses=(AnswerNLL(), AnswerNLL(weight=2.0))), "a loss occurs twice"),
        (dict(name="no spaces"), "must be letters"),
        (dict(dev_problems=1), "at least 2"),
    ],
)
def test_a_trial_checks_itself(trial, change, said):
    with pytest.raises(ValueError, match=said):
        replace(trial, **change)


def test_fewer_than_one_soft_token_is_refused(trial):
    with pytest.raises(ValueError, match="soft_tokens must be at least 1, not 0"):
        replace(trial.translator, soft_tokens=0)


def test_a_trial_is_a_workload_and_says_what_it_is(trial):
    assert lacking(trial, Workload) == []
    assert lacking(object(), Workload) == [
        *("ENGINE", "name", "seed", "steps", "fingerprint", "models", "headline"),
        *("resolved", "planned", "gaps", "smoke"),
    ]
    assert trial.models == ("pocket:source", "pocket:target")
    assert replace(trial, target=trial.source).models == ("pocket:source",)
    assert trial.planned() == {
        **{"K": "8", "steps": "12", "losses": "1 answer, 1 reconstruction, 0.05 info_nce"},
        **{"models": "pocket:source to pocket:target", "benchmark": "pocket, 8 test problems"},
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(seed=True), "seed must be a whole number, not True"),
        (dict(seed=2**70), "seed must lie in 0"),
        (dict(seed="abc"), "seed must be a whole number, not 'abc'"),
        (dict(steps=2.5), "steps must be a whole number, not 2.5"),
        (dict(evaluator="gsm8k"), "evaluator must be an Evaluator, not 'gsm8k'"),
        (dict(stopping="early"), "stopping must be a Stopping, not 'early'"),
        (dict(translator=None), "translator must be a Translator, not None"),
        (dict(source=""), "source must name a model, not ''"),
        (dict(target=" "), "target must name a model, not ' '"),
        (dict(losses=("answer",)), "losses must be a tuple, each item a Loss"),
        (dict(dev_problems=8.5), "dev_problems must be a whole number or None, not 8.5"),
    ],
)
def test_a_trial_of_wrong_types_is_refused_with_field_and_value(trial, change, said):
    with pytest.raises(ValueError, match=r".") as caught:
        replace(trial, **change)
    assert said in str(caught.value)


def test_a_whole_number_written_as_a_float_is_that_number(trial):
    long = replace(trial, steps=1e3)
    assert (long.steps, type(long.steps)) == (1000, int)
    assert long.fingerprint == replace(trial, steps=1000).fingerprint
    assert replace(trial, translator=replace(trial.translator, soft_tokens=8.0)).fingerprint == trial.fingerprint
    with pytest.raises(ValueError, match=r"soft_tokens must be a whole number, not 4\.5"):
        replace(trial, translator=replace(trial.translator, soft_tokens=4.5))
