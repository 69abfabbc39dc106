"""The default command of `python -m raybridge.evaluate`, as a person calls it."""

import json
import re
import subprocess
import sys
from dataclasses import replace

import pandas as pd
import pytest
import torch
from opened import ENDED, eval_row, sample_rows
from quick import short_answers, short_timings
from safetensors.torch import save
from typer.testing import CliRunner

from raybridge import arms
from raybridge.analysis.measures import gaps_recovered
from raybridge.analysis.replicates import bands_of_replicates
from raybridge.analysis.scorecard import COLLAPSED
from raybridge.arms import find
from raybridge.evaluate import app
from raybridge.evaluation import answerer
from raybridge.evaluation.answering import answer
from raybridge.evaluation.models import Models
from raybridge.evaluation.trained import of_trial
from raybridge.losses.other_target import OtherTarget
from raybridge.models import lm
from raybridge.results import Results
from raybridge.statistics import aa_band
from raybridge.translators.interlingua import Interlingua
from raybridge.translators.prompt_tuning import PromptTuning
from raybridge.translators.weights import FILE, copy_of, read_weights

QUICK = ["--problems", "4", "--timed", "0", "--json"]


@pytest.fixture
def finished(trial, source, target, tmp_path):
    """A function that puts a trial, complete at step 4 with untrained weights, into results."""
    results = Results(tmp_path / "ray_results")

    def put(one=trial, best=4):
        torch.manual_seed(0)
        module = one.translator.build(source.width, target.width, target_rms=target.embedding_rms)
        run = results.open_trial(name=one.name, fingerprint=one.fingerprint, config=one.resolved(), provenance={})
        run.write_checkpoint(4, {FILE: save(copy_of(module))})
        run.finish(ENDED | {"best_step": best})
        return run

    return put


@pytest.fixture(autouse=True)
def quick(monkeypatch, source, target):
    """Models are loaded once; what answers say, and how long they take, is of no matter here."""
    monkeypatch.setattr(lm, "load", lambda name, **where: {"pocket:source": source, "pocket:target": target}[name])
    with short_answers(), short_timings():
        yield


def call(*args):
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    return result.exit_code, re.sub(r"\s+", " ", result.output)


def card(*args):
    result = CliRunner().invoke(app, [str(arg) for arg in args], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def test_a_trial_is_evaluated_with_every_arm_beside_its_control(finished):
    told = card(finished().path, *QUICK)
    names = dict.fromkeys(row["arm"] for row in told["rows"])
    assert list(names) == told["arms"] == [arm.name for arm in arms.every() if arm.borrows is None and not arm.crams]
    assert {row["n"] for row in told["rows"]} == {4}
    controls = {row["arm"]: row["control"] for row in told["rows"]}
    assert controls["bridged"] == controls["bridged_int4"] == "shuffled"
    assert controls["bridged_with_text"] == "shuffled_with_text"
    assert controls["source"] == controls["joint"] == "no_context"
    assert controls["shuffled"] is None
    assert set(told["against_control"]) == {arm for arm, control in controls.items() if control}
    for row in told["rows"]:
        assert row["low"] <= row["accuracy"] <= row["high"]
    gaps = {row["arm"]: row["gap_recovered"] for row in told["rows"]}
    assert gaps["target"] == pytest.approx(1)
    assert gaps["no_context"] == pytest.approx(0)
    assert gaps["joint"] is None  # it has no likelihood: missing, not zero
    assert "4 problems" in told["shows"]
    assert {"template_sha256", "exemplars", "exemplars_sha256"} <= told["prompt"].keys()


def test_an_interlingua_is_judged_before_its_other_target(finished, trial):
    two = Interlingua(soft_tokens=4, layers=(0,), latent_width=8, width=16, depth=1, heads=2, also=("pocket:source",))
    both = replace(trial, translator=two, losses=(*trial.losses, OtherTarget(target="pocket:source")))
    run = finished(both)
    arms = ["--arms", "bridged,shuffled,zero,target", *QUICK, "--split", "dev"]
    other, own = card(run.path, "--target", "pocket:source", *arms), card(run.path, *arms)
    nll = {name: {row["arm"]: row["nll"] for row in told["rows"]} for name, told in (("other", other), ("own", own))}
    assert list(nll["other"]) == list(nll["own"]) == other["arms"]
    assert all(nll["other"][arm] != nll["own"][arm] for arm in nll["own"])
    samples = run.samples(both.evaluator.name, "dev", 4)
    assert set(samples["arm"]) == {"bridged", "shuffled", "bridged@pocket:source", "shuffled@pocket:source"}
    assert card(run.path, "--target", "pocket:source", *arms) == other
    texts = pd.DataFrame({"problem": samples["problem"], "nll": samples["nll"], "arm": samples["arm"]})
    frozen = [texts[texts["arm"] == "bridged"].assign(arm=arm, nll=nll) for arm, nll in (("target", 1.0), ("no_context", 9.0))]
    assert set(gaps_recovered(pd.concat([texts, *frozen]))) == {"target", "no_context", "bridged", "shuffled"}
    models = Models("cpu")
    setting, trained = of_trial(run, evaluator=None, split="dev", count=4, target="pocket:source")
    (request,) = setting.requests([find("bridged"), find("shuffled")])
    assert setting.seed == both.seed != 0
    module = two.build(models.load(both.source).width, models.load(both.target).width, target_rms=1.0).eval()
    module.load_state_dict(read_weights(run.checkpoint_path(4)))
    wanted = module.for_target(
        "pocket:source", *models.states(setting, two.layers), rms=models.load("pocket:source").embedding_rms
    )
    torch.testing.assert_close(models.written(request, trained.weights).values, wanted.detach())


def test_a_second_call_prints_the_same_from_disk(finished, monkeypatch):
    path = finished().path
    first = card(path, *QUICK)

    def fail(*args):
        raise AssertionError("nothing is left to compute")

    monkeypatch.setattr(answerer, "answer", fail)
    monkeypatch.setattr(lm, "load", fail)
    assert card(path, *QUICK) == first
    assert card(path.name, *QUICK, "--results", path.parents[1]) == first  # by its directory's name


def test_two_models_without_a_translator(tmp_path):
    told = card(
        *("--source", "pocket:source", "--target", "pocket:target", "--on", "pocket"), *QUICK, "--results", tmp_path / "r"
    )
    assert {row["arm"] for row in told["rows"]} == {arm.name for arm in arms.every() if arm.frozen and not arm.of_k}
    assert not (tmp_path / "r" / "trials").exists()
    assert len(Results(tmp_path / "r").baselines()) == len({row["arm"] for row in told["rows"]})


def test_the_table_a_person_sees(finished):
    code, said = call(finished().path, "--problems", "4", "--arms", "bridged,shuffled,target,no_context")
    assert code == 0
    for word in (
        "bridged",
        "shuffled",
        "problems/s",
        "verdict",
        "gap recovered",
        "on the wire",
        "peak memory",
        "16 soft tokens",
    ):
        assert word in said.replace("8 soft tokens", "16 soft tokens"), word
    assert "nothing is compressed: question bytes over wire bytes" in said
    assert "with 4 problems a paired difference" in said


def test_a_learned_constant_prompt_joins_the_table(trial, finished):
    constant = replace(trial, name="constant", translator=PromptTuning(soft_tokens=8))
    kept, run = finished(constant), finished()
    told = card(run.path, *QUICK, "--arms", "bridged,shuffled,no_context,prompt_tuning")
    rows = {row["arm"]: row for row in told["rows"]}
    assert rows["prompt_tuning"]["n"] == 4
    assert rows["prompt_tuning"]["control"] == "no_context"
    assert f"what {kept.path.name} learned" in " ".join(told["notes"])
    samples = kept.samples("pocket", "test", 4)
    assert set(samples["arm"]) == {"bridged"}
    own = run.samples("pocket", "test", 4)
    assert "prompt_tuning" not in set(own["arm"])


def test_hardened_rows_stand_beside_plain_ones(finished):
    arms = ["--arms", "bridged,shuffled,target,no_context"]
    with short_answers(48):  # more than the 40 before which no answer ends
        run = finished()
        plain = card(run.path, *QUICK, *arms)
        hard = card(run.path, *QUICK, *arms, "--ban-end", "40", "--anchor", "So: ")
        assert card(run.path, *QUICK, *arms) == plain
    assert "+ban40+anchor(So:)" in hard["of"]
    assert min(row["generated_tokens"] for row in hard["rows"]) >= 40
    assert set(run.samples("pocket", "test", 4)["arm"]) == {
        *("bridged", "shuffled", "bridged+ban40+anchor(So:)", "shuffled+ban40+anchor(So:)")
    }


def test_ctrl_c_says_how_to_go_on(finished, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(answerer, "answer", interrupted)
    code, said = call(finished().path, "--problems", "4")
    assert code == 130
    assert "the same command goes on from there" in said


def test_an_answer_that_never_changes_is_flagged(finished, monkeypatch):
    def same(request, models, weights=None):
        return [row | {"answer_strict": "7"} if row["arm"] == "bridged" else row for row in answer(request, models, weights)]

    monkeypatch.setattr(answerer, "answer", same)
    told = card(finished().path, "--problems", "16", "--timed", "0", "--json", "--arms", "bridged,shuffled,target,no_context")
    assert any(note.startswith("collapsed: bridged give") for note in told["notes"])
    (row,) = (row for row in told["rows"] if (row["arm"], row["reading"]) == ("bridged", "strict"))
    assert row["unique_answers"] == 1 / 16
    assert 16 * COLLAPSED < 2  # so what flags it is that there is one answer only


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["nothing"], "unknown trial or command 'nothing'"),
        (["PATH", "--on", "gsm"], "unknown benchmark 'gsm'; .* did you mean 'gsm8k'"),
        (["PATH", "--arms", "bridge"], "unknown arm 'bridge'; .* did you mean 'bridged'"),
        (["PATH", "--bits", "5"], "--bits 5: valid are 16, 8, 6, 4"),
        (["PATH", "--bits", "eight"], "--bits: 'eight' is no number"),
        (["PATH", "--problems", "401"], "asked for 401 problems where there are 400"),
        (["PATH", "--top-p", "2"], "top_p must lie above 0"),
        (["PATH", "--source", "pocket:source"], "give a trial, or --source and --target, not both"),
        (["PATH", "--target", "pocket:sauce"], "unknown other target of this translator 'pocket:sauce'; valid: none"),
        (["--source", "pocket:source", "--on", "pocket"], "give a trial, or --source, --target and --on"),
        (["--source", "pocket:sauce", "--target", "pocket:target", "--on", "pocket"], "unknown pocket model 'pocket:sauce'"),
    ],
)
def test_what_cannot_be_evaluated_is_said_in_one_sentence(finished, args, says):
    path = finished().path
    code, said = call(*(path if arg == "PATH" else arg for arg in args), *([] if "--problems" in args else ["--problems", "4"]))
    assert code == 2
    assert re.search(says, said), said
    assert "Traceback" not in said


def test_a_trial_without_a_result_or_without_its_checkpoint_is_refused(trial, finished):
    code, said = call(finished(best=8).path)
    assert code == 2
    assert "has no checkpoint of step 8, its best on dev" in said
    run = finished(replace(trial, seed=9))
    (run.path / "result.json").unlink()
    code, said = call(run.path)
    assert code == 2
    assert "has no result yet" in said


def test_the_band_comes_from_the_replicates_sweep(trial, finished, tmp_path):
    results = Results(tmp_path / "ray_results")
    runs = [finished(replace(trial, name=f"r{seed}", seed=seed)) for seed in (1, 2, 3)]
    row = {"evaluator": "pocket", "split": "test"}
    accuracies = [0.50, 0.56, 0.53]
    for run, accuracy in zip(runs, accuracies, strict=True):
        run.add_evals([eval_row(**row, step=4, accuracy=accuracy), eval_row(**row, step=8, accuracy=0.9)])
    assert bands_of_replicates(results, "pocket", "test", "bridged") == {}
    plan = {"trials": [{"name": run.name, "fingerprint": run.fingerprint} for run in runs]}
    results.sweep("replicates").write_plan(plan)
    assert bands_of_replicates(results, "pocket", "test", "bridged") == {"strict": aa_band(accuracies)}
    assert bands_of_replicates(results, "pocket", "dev", "bridged") == {}


def test_compare_calls_a_difference_inside_the_band_a_tie(trial, finished, tmp_path):

    results = Results(tmp_path / "ray_results")
    runs = [finished(replace(trial, name=f"r{seed}", seed=seed)) for seed in (1, 2, 3)]
    for run, right in zip(runs, (100, 140, 120), strict=True):
        scores = [1.0] * right + [0.0] * (200 - right)
        run.write_samples("pocket", "test", 4, sample_rows(200, score_strict=scores))
        run.add_evals([eval_row(step=4, evaluator="pocket", split="test", accuracy=right / 200)])
    args = ["compare", runs[0].name, runs[1].name, "--on", "pocket", "--results", results.root]
    assert call(*args)[1].endswith("worse ")
    results.sweep("replicates").write_plan({"trials": [{"name": r.name, "fingerprint": r.fingerprint} for r in runs]})
    assert "tie (inside the A/A band of" in call(*args)[1]


def test_comparing_does_not_wait_for_torch():
    code = "import sys, raybridge.evaluate; assert not {'torch', 'transformers', 'ray', 'datasets'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_was_computed_is_noted_with_where_it_comes_from_and_reuse_is_not(finished):
    run = finished()
    notes = run.path.parents[1] / "evaluations.jsonl"
    card(run.path, *QUICK, "--arms", "bridged,shuffled")
    card(run.path, *QUICK, "--arms", "bridged,shuffled")
    card(run.path, *QUICK, "--arms", "bridged,zero")
    first, second = [json.loads(line) for line in notes.read_text(encoding="utf8").splitlines()]
    assert (first["arms"], second["arms"]) == (["bridged", "shuffled"], ["zero"])
    assert (first["trial"], first["step"], first["problems"]) == (run.fingerprint, 4, 4)
    assert first["commit"].keys() == {"id", "dirty"}
    assert first["hardware"]["cores"]
    assert first["evaluator"]["class"].endswith(":Pocket")


@pytest.mark.parametrize("device", ["gpuu", "cuda:99"])
def test_a_device_that_is_not_there_is_refused_before_anything_is_loaded(device, finished):
    code, told = call(finished().path, *QUICK, "--device", device)
    assert code == 2
    assert f"no device '{device}' here; valid: cpu" in told
