"""The trial whose rows an arm borrows, and the decodings that were asked for."""

from __future__ import annotations

import pytest
import synthetic

from raybridge.results import Results
from raybridge.results.find import decodings, find_trial, trial_of_translator

CONSTANT = {"class": "raybridge.translators.prompt_tuning:PromptTuning"}
POCKET = {"class": "evaluators.pocket:Pocket"}


def lent(root, name: str, k: int, **changes):
    translator = {"soft_tokens": k, **CONSTANT, **changes.pop("translator", {})}
    return synthetic.trial(root, name, points=2, n=20, baselines=False, translator=translator, **changes)


@pytest.fixture
def wanted():
    return {"target": "pocket:target", "evaluator": POCKET, "soft_tokens": 16}


def test_the_nearest_in_soft_tokens_of_the_same_target_lends(tmp_path, wanted):
    near, far = lent(tmp_path, "near", 12), lent(tmp_path, "far", 64)
    lent(tmp_path, "elsewhere", 16, target="other")
    lent(tmp_path, "running", 16, complete=False)
    lent(tmp_path, "bridge", 16, translator={"class": "raybridge.translators.linear:Linear"})
    lent(tmp_path, "namesake", 16, translator={"class": "mine:NoPromptTuning"})
    results = Results(tmp_path)
    assert trial_of_translator(results, "PromptTuning", **wanted) == near
    assert trial_of_translator(results, "PromptTuning", **wanted, but=near.fingerprint) == far
    assert trial_of_translator(results, "PromptTuning", **wanted | {"soft_tokens": 60}) == far
    assert trial_of_translator(results, "PromptTuning", **wanted | {"target": "nowhere"}) is None


def test_the_same_benchmark_comes_before_the_nearest(tmp_path, wanted):
    lent(tmp_path, "near", 16, evaluator={"class": "evaluators.gsm8k:GSM8K"})
    far = lent(tmp_path, "far", 64)
    assert trial_of_translator(Results(tmp_path), "PromptTuning", **wanted) == far


@pytest.mark.parametrize("content", ["{broken", None])
def test_a_broken_trial_is_named_where_it_is_meant_and_blocks_no_other(tmp_path, wanted, content):
    whole, broken = lent(tmp_path, "whole", 12), lent(tmp_path, "broken", 64)
    (tmp_path / "trials" / "empty-01234567").mkdir()
    path = broken.path / "trial.json"
    path.unlink() if content is None else path.write_text(content)
    results = Results(tmp_path)
    for named in ("whole", whole.path.name, str(whole.path), whole.fingerprint[:8]):
        assert find_trial(named, results).path == whole.path
    assert trial_of_translator(results, "PromptTuning", **wanted) == whole
    for named in ("broken", broken.path.name):
        with pytest.raises(ValueError, match=rf"{broken.path.name}/trial.json is "):
            find_trial(named, results)
    with pytest.raises(ValueError, match=r"unknown trial 'whol'; valid: whole-"):
        find_trial("whol", results)


def test_a_trial_that_is_a_link_stands_where_the_link_is(tmp_path):
    run = lent(tmp_path / "there", "linked", 16)
    link = tmp_path / "here" / "trials" / run.path.name
    link.parent.mkdir(parents=True)
    link.symlink_to(run.path)
    for named in ("linked", str(link)):
        found = find_trial(named, Results(tmp_path / "here"))
        assert (found.path, found.root) == (link, tmp_path / "here")
    assert find_trial("linked", Results(tmp_path / "here")).result() == run.result()
    (tmp_path / "elsewhere").symlink_to(run.path)
    assert find_trial(str(tmp_path / "elsewhere"), Results(tmp_path)).root == tmp_path / "there"


def test_decodings_are_told_once(tmp_path):
    results = Results(tmp_path)
    assert decodings(results) == []
    for decoding in (None, {"ban_end": 4}, {"bos": True}, {"ban_end": 4}):
        results.note_evaluation({"decoding": decoding})
    assert decodings(results) == [{"ban_end": 4}, {"bos": True}]
