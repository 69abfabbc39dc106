"""The trial whose rows an arm borrows, and the decodings that were asked for."""

from __future__ import annotations

import pytest
import synthetic

from raybridge.results import Results
from raybridge.results.find import decodings, trial_of_translator

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


def test_decodings_are_told_once(tmp_path):
    results = Results(tmp_path)
    assert decodings(results) == []
    for decoding in (None, {"ban_end": 4}, {"bos": True}, {"ban_end": 4}):
        results.note_evaluation({"decoding": decoding})
    assert decodings(results) == [{"ban_end": 4}, {"bos": True}]
