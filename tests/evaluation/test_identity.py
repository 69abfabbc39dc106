"""What changes an answer is another experiment, computed anew with the reason said; what changes none is reused."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace

import pytest
from opened import ENDED
from typer.testing import CliRunner

from evaluators.gsm8k import GSM8K
from evaluators.pocket import Pocket
from raybridge.analysis.plan import plan_of
from raybridge.analysis.runs import Runs
from raybridge.arms import find
from raybridge.arms.controls import SHUFFLED
from raybridge.evaluate import app
from raybridge.evaluation import identity
from raybridge.evaluation.setting import Setting, frozen_arms, setting_of
from raybridge.evaluation.trained import check_same, contents_of, of_models, trial_of
from raybridge.losses.next_token import AnswerNLL
from raybridge.models.hardening import Hardening
from raybridge.models.names import POCKET
from raybridge.results import Results
from raybridge.results.find import by_config


@pytest.fixture(autouse=True)
def forgotten():
    """Nothing is remembered of benchmarks that a test changes."""
    yield
    identity.problems_digest.cache_clear()
    identity.exemplars_digest.cache_clear()


@pytest.fixture
def copied(trial, tmp_path):
    """The trial with a copy of the pocket pair."""
    folders = {name: shutil.copytree(POCKET / name, tmp_path / name) for name in ("source", "target")}
    return replace(trial, **{name: str(folder) for name, folder in folders.items()})


@pytest.fixture
def results(tmp_path):
    return Results(tmp_path / "results")


def seal(trial, device="cpu"):
    return identity.sealed(trial, device=device)


def kept(trial, results):
    """The trial as a sweep leaves it."""
    run = results.open_trial(name=trial.name, fingerprint=trial.fingerprint, config=trial.resolved(), provenance={})
    run.finish(ENDED)
    return run


def plan(trial, results):
    return plan_of(trial, results, by_config(results.trials())).partition(" without")[0]


def swapped(folder):
    """Other weights in the same directory, at the same time of change."""
    path = folder / "model.safetensors"
    told = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(told.st_atime_ns, told.st_mtime_ns))


def keys(trial):
    return {arm.name: setting_of(trial, "dev").key(arm) for arm in frozen_arms("dev")}


def test_what_is_unchanged_is_reused_whatever_it_is_called(copied, results, tmp_path, monkeypatch):
    before = seal(copied)
    kept(before, results)
    assert plan(seal(replace(copied, name="other")), results) == "complete, reused"
    moved = shutil.copytree(copied.target, tmp_path / "moved")
    monkeypatch.setenv("RAYBRIDGE_MODELS", f"org/target={moved}")
    for name in (str(moved), "org/target", "pocket:target"):
        now = seal(replace(copied, target=name))
        assert plan(now, results) == "complete, reused"
        assert keys(now) == keys(before)


def test_other_weights_in_the_same_directory_are_said_and_computed_anew(copied, results, tmp_path):
    before = seal(copied)
    kept(before, results)
    swapped(tmp_path / "target")
    now = seal(copied)
    assert plan(now, results) == "runs: target's weights are others"
    changed = {arm for arm, key in keys(now).items() if key != keys(before)[arm]}
    assert "source" not in changed
    assert {"target", "no_context", "zero"} <= changed
    swapped(tmp_path / "source")
    assert plan(seal(copied), results) == "runs: source's weights are others; target's weights are others"
    kept(now, results)  # of several the nearest is told
    assert plan(seal(copied), results) == "runs: source's weights are others"


def test_a_translator_is_not_evaluated_before_other_weights_than_its_own(copied, tmp_path):
    before = seal(copied)

    def check(own=True, at=""):
        now = contents_of(copied.source, copied.target, copied.evaluator, splits=("dev",), device="cuda")
        check_same(before, now, at=at, split="dev", own=own, where="tiny")

    check()
    swapped(tmp_path / "target")
    check(at="another target")
    with pytest.raises(ValueError, match="tiny was trained with what is no longer here: target's weights are others; run"):
        check(own=False)


def write(folder, answer):
    (folder / "gsm8k").mkdir(parents=True, exist_ok=True)
    row = {"question": "How many is 3 and 4?", "answer": f"{answer}\n#### 7"}
    for split in ("train", "test"):
        lines = [json.dumps(row | {"question": f"{number}: {row['question']}"}) for number in range(60)]
        (folder / "gsm8k" / f"{split}.jsonl").write_text("\n".join(lines), encoding="utf8")


def test_another_data_file_with_the_same_row_numbers_is_another_benchmark(trial, results, tmp_path, monkeypatch):
    monkeypatch.setenv("RAYBRIDGE_DATA", str(tmp_path / "data"))
    asked = replace(trial, evaluator=GSM8K(shots=2, dev_size=20))
    write(tmp_path / "data", "3+4=7.")
    before = seal(asked)
    kept(before, results)
    assert plan(seal(asked), results) == "complete, reused"
    write(tmp_path / "data", "4+3=7.")
    identity.problems_digest.cache_clear()
    identity.exemplars_digest.cache_clear()
    now = seal(asked)
    said = "runs: exemplars are others; train problems are others; dev problems are others; test problems are others"
    assert plan(now, results) == said
    assert setting_of(now, "dev").ids == setting_of(before, "dev").ids
    assert not set(keys(now).values()) & set(keys(before).values())


@pytest.mark.parametrize(
    ("fact", "value", "said"),
    [
        ("max_new_tokens", 64, "max_new_tokens of the benchmark is 64"),
        ("stop", ("\n\n",), r"stop of the benchmark is ['\n\n']"),
        (
            "instruction",
            "Think.",
            "instruction of the benchmark is 'Think.'; source's prompt is another; target's prompt is another",
        ),
        ("VERSION", 99, "Pocket: version 99"),
    ],
)
def test_a_changed_evaluator_is_said_and_computed_anew(trial, results, monkeypatch, fact, value, said):
    kept(before := seal(trial), results)
    keys_before = keys(before)
    monkeypatch.setattr(Pocket, fact, value)
    now = seal(trial)
    assert plan(now, results) == f"runs: {said}"
    assert not set(keys(now).values()) & set(keys_before.values())


def test_a_raised_version_is_said_and_changes_what_it_is_about(trial, results, monkeypatch):
    before = seal(trial)
    kept(before, results)
    with monkeypatch.context() as raised:
        raised.setattr(AnswerNLL, "VERSION", 2)
        assert plan(seal(trial), results) == "runs: AnswerNLL: version 2"
        assert keys(seal(trial)) == keys(before)
    with monkeypatch.context() as raised:
        raised.setattr(identity.arms, "every", lambda: [replace(SHUFFLED, version=2)])
        assert plan(seal(trial), results) == "runs: arm shuffled 2"
    with monkeypatch.context() as raised:
        raised.setattr(Setting, "VERSION", 3)
        assert plan(seal(trial), results) == "runs: answering: version 3"
        assert not set(keys(seal(trial)).values()) & set(keys(before).values())
    assert plan(seal(trial), results) == "complete, reused"


def test_a_raised_version_of_a_frozen_arm_changes_its_key_and_that_of_an_arm_that_it_is_handed_to(trial, monkeypatch):
    setting = setting_of(seal(trial), "dev")
    target, cascade = find("target"), find("cascade")
    raised = replace(target, version=2)
    assert setting.key(raised) != setting.key(target)
    before = setting.key(cascade)
    monkeypatch.setattr("raybridge.results.baselines.find", lambda name: replace(find(name), version=2))
    assert setting.key(cascade) != before


def test_what_computes_is_part_of_it(trial, results):
    kept(seal(trial), results)
    assert plan(seal(trial, "cuda"), results) == "runs: computed on cuda in bfloat16"


def test_a_moved_class_changes_nothing(trial, monkeypatch):
    known = seal(trial)
    before, plain, told = known.fingerprint, known.resolved(), keys(known)
    for cls in (AnswerNLL, Pocket, type(trial.translator), type(known.contents)):
        monkeypatch.setattr(cls, "__module__", "elsewhere")
    assert known.resolved() != plain
    assert known.fingerprint == before
    assert keys(known) == told


def test_results_of_an_earlier_identity_are_listed_marked_and_not_reused(trial, results):
    run = kept(trial, results)  # nobody looked at what it reads
    assert plan(seal(trial), results) == "runs: an earlier identity"
    kept(seal(replace(trial, name="now")), results)
    table = Runs(results).trials.set_index("trial")
    assert table["earlier"].to_dict() == {run.name: True, "now": False}
    assert run.contents is None


def test_a_trial_of_another_config_is_no_reason(trial, results):
    kept(seal(trial), results)
    assert plan(seal(replace(trial, steps=13)), results) == "runs"


def test_a_sweep_and_an_evaluation_of_two_models_keep_the_same_rows(trial):
    swept = setting_of(seal(trial), "dev")
    asked = of_models(
        trial.source, trial.target, evaluator=trial.evaluator, split="dev", count=trial.dev_problems, device="cpu"
    )
    assert asked.ids == swept.ids
    arm = find("target")
    assert asked.key(arm) == swept.key(arm)
    hard = Hardening(ban_end=2)
    assert replace(asked, hardening=hard).key(arm) == replace(swept, hardening=hard).key(arm) != swept.key(arm)


def test_the_contents_come_back_from_the_disk_of_a_trial(trial, results):
    before = seal(trial)
    run = kept(before, results)
    assert "contents" not in run.config
    assert trial_of(run) == before
    assert trial_of(run).fingerprint == run.fingerprint


def test_a_trial_that_was_stopped_by_an_earlier_rule_is_refused_in_a_sentence(trial, results):
    config = trial.resolved()
    config["stopping"]["VERSION"] = 1
    run = results.open_trial(name="old", fingerprint="0" * 64, config=config, provenance={})
    with pytest.raises(
        ValueError, match=r"^old-00000000 is of another raybridge and cannot be evaluated by this one: Stopping was"
    ):
        trial_of(run)
    run.finish(ENDED | {"best_step": 1})
    done = CliRunner().invoke(app, ["trial", str(run.path), "--on", "pocket"])
    assert done.exit_code == 2
    assert "Stopping was recorded at version 1, this raybridge has version 2; what is kept" in " ".join(done.output.split())
    assert "Traceback" not in done.output
