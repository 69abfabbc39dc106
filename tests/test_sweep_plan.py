"""What the plan of a sweep says and refuses, before anything starts."""

from __future__ import annotations

import pytest
from launched import COMPRESSION, LOSSES, POCKET_ON_GPUS, SMOLLM, bare, edited, launch, planned, said
from opened import ENDED

from raybridge import HOUSE
from raybridge.config import packages_of, rebuild
from raybridge.results import Results
from raybridge.results.launch import Timing
from raybridge.scales import POCKET, SCALES

SMOLLM_135M = "HuggingFaceTB/SmolLM2-135M-Instruct"


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    bare(monkeypatch)


def test_a_dry_run_prints_the_matrix_and_touches_nothing(tmp_path):
    code, output = launch(COMPRESSION, "--dry-run", root=tmp_path / "r")
    assert code == 0
    assert output.startswith("scale pocket (what this machine can carry; 0 GPU(s) here): 1 worker(s) a trial, ")
    assert "sweep compression: How few soft tokens carry a grade-school question?" in output
    trials = planned(COMPRESSION)
    for trial in trials:
        (line,) = [line for line in output.splitlines() if trial.name in line]
        assert line.split() == [trial.name, trial.fingerprint[:8], str(trial.translator.soft_tokens), "runs"]
    assert "all of them: steps: 120, losses: 1 answer" in output  # said once
    assert "models: pocket:source to pocket:target, benchmark: pocket, 200 test problems" in output
    assert "time: no earlier trial of the same models, benchmark and batch tells how long it takes" in output
    assert not (tmp_path / "r").exists()


def test_a_dry_run_says_what_is_complete_what_resumes_and_what_runs(tmp_path):
    trials = planned(COMPRESSION)
    for number, trial in enumerate(trials[:2]):
        run = Results(tmp_path).open_trial(
            name=f"of_another_sweep_{number}", fingerprint=trial.fingerprint, config=trial.resolved(), provenance={}
        )
        run.write_checkpoint(60, {"state.json": b"{}"})
        if number == 0:
            run.finish(ENDED)
    _, output = launch(COMPRESSION, "--dry-run", root=tmp_path)
    plans = [next(line for line in output.splitlines() if trial.name in line).rstrip() for trial in trials]
    assert "complete, reused" in plans[0]
    assert plans[1].endswith("resumes at step 60")
    assert plans[2].endswith("runs")


def test_a_dry_run_says_how_long_it_may_take_where_earlier_trials_tell(tmp_path):
    trials = planned(COMPRESSION)
    for number, trial in enumerate(trials[:2]):
        run = Results(tmp_path).open_trial(
            name=trial.name, fingerprint=trial.fingerprint, config=trial.resolved(), provenance={}
        )
        run.launch.write_timing(Timing(started=1000.0, first_step=1001.0, ended=1000.0 + 120 * (number + 2)))
        run.finish(ENDED | {"steps": 120})
    _, output = launch(COMPRESSION, "--dry-run", root=tmp_path)
    assert "time: about 5 min for 2 trials, as long a step as 2 earlier took" in output  # 2.5 s a step, two at a time


@pytest.mark.parametrize("scale", SCALES, ids=lambda scale: scale.name)
def test_every_scale_can_be_planned_anywhere(tmp_path, scale):
    code, output = launch(LOSSES, "--dry-run", "--scale", scale.name, root=tmp_path)
    assert code == 0
    assert output.startswith(f"scale {scale.name} (asked for; 0 GPU(s) here)")
    assert ("not known here: model" in output) == (scale is not POCKET)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("seed=True,", "Trial: seed must be a whole number, not True"),
        ("seed=2**70,", "seed must lie in 0..4294967295"),
        ("steps=2.5,", "Trial: steps must be a whole number, not 2.5"),
        ('stopping="early",', "Trial: stopping must be a Stopping, not 'early'"),
        ('evaluator="gsm8k",', "Trial: evaluator must be an Evaluator, not 'gsm8k'"),
        ('source="",', "source must name a model, not ''"),
        ('source="./models/x",', "unknown model './models/x'"),
        ("dev_problems=401,", "dev_problems asks for 401 problems, and the dev split of pocket has 400"),
        ("test_problems=401,", "test_problems asks for 401 problems, and the test split of pocket has 400"),
        ("batch=20_001,", "batch asks for 20,001 problems, and the train split of pocket has 20,000"),
        ("evaluator=Svamp(),", "svamp has no split 'train'"),
    ],
)
def test_what_would_die_later_is_refused_in_the_plan(tmp_path, change, sentence):
    file = edited(tmp_path, "seed=seed,", change)
    imports = "from evaluators.svamp import Svamp\nfrom raybridge.trial import Trial"
    file.write_text(file.read_text(encoding="utf8").replace("from raybridge.trial import Trial", imports), encoding="utf8")
    code, output = launch(file, "--dry-run", root=tmp_path / "r")
    assert code == 2
    assert sentence in said(output)
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("translator", "sentence"),
    [
        ("replace(base.translator, soft_tokens=8.5)", "Bottlenecked: soft_tokens must be a whole number, not 8.5"),
        (
            "replace(base.translator, soft_tokens=25_000 * soft_tokens)",
            "soft_tokens 100,000 and the 96 tokens of an answer do not fit in the 1,024 positions of pocket:target",
        ),
        (
            "replace(base.translator, soft_tokens=soft_tokens, layers=(0, 99))",
            "layers of its translator names 99, but the hidden states of pocket:source are 0..4 (4 layers)",
        ),
        (
            "Injection(translator=base.translator, soft_tokens=soft_tokens, target_layers=(4,))",
            "target_layers of its translator names 4, but the hidden states of pocket:target are 0..3 (4 layers)",
        ),
        ('"linear"', "Trial: translator must be a Translator, not 'linear'"),
    ],
)
def test_a_translator_that_its_models_cannot_carry_is_refused_in_the_plan(tmp_path, translator, sentence):
    file = edited(tmp_path, "replace(base.translator, soft_tokens=soft_tokens)", translator)
    imports = "from raybridge.translators.injection import Injection\nfrom raybridge.trial"
    text = file.read_text(encoding="utf8").replace('tok"', '"').replace("from raybridge.trial", imports)
    file.write_text(text, encoding="utf8")
    code, output = launch(file, "--dry-run", root=tmp_path / "r")
    assert code == 2
    assert sentence in said(output)


def test_a_test_split_that_is_too_small_is_seen_in_the_plan(tmp_path, monkeypatch):
    row = '{"question": "How many?", "answer": "It is 3.\\n#### 3"}\n'
    (tmp_path / "gsm8k").mkdir()
    for split, count in (("train", 800), ("test", 499)):
        (tmp_path / "gsm8k" / f"{split}.jsonl").write_text(row * count, encoding="utf8")
    monkeypatch.setenv("RAYBRIDGE_DATA", str(tmp_path))
    monkeypatch.setenv("RAYBRIDGE_MODELS", f"{SMOLLM_135M}={HOUSE / 'raybridge' / 'pocket' / 'target'}")
    code, output = launch(SMOLLM, "--scale", "small", "--dry-run", root=tmp_path / "r")
    assert code == 2
    assert "test_problems asks for 500 problems, and the test split of gsm8k has 499" in said(output)


def test_a_batch_that_the_workers_cannot_share_is_refused_in_the_plan(tmp_path, monkeypatch):
    file = tmp_path / "pocket_on_gpus.py"
    file.write_text(POCKET_ON_GPUS, encoding="utf8")
    monkeypatch.setenv("NUM_GPUS", "7")
    code, output = launch(file, "--scale", "small", "--gpus", "7", "--dry-run", root=tmp_path / "r")
    assert code == 2
    assert "trial a: batch 120 cannot be shared by 7 workers: it must be a multiple of them" in said(output)


def test_a_model_that_is_not_there_gets_the_nearest(tmp_path):
    file = tmp_path / "wrong.py"
    file.write_text(
        COMPRESSION.read_text(encoding="utf8").replace("seed=seed,", 'seed=seed, source="pocket:sorce",'), encoding="utf8"
    )
    code, output = launch(file, root=tmp_path)
    assert code == 2
    assert "'pocket:sorce'" in said(output)
    assert "did you mean 'pocket:source'?" in said(output)


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ('{"question": "How many?", "answer": "It is 3\\n#### 3"', "line 2: not JSON"),
        ('{"question": "How many?"}', "line 2: no field 'answer'"),
        ('{"question": "How many?", "answer": "It is three."}', "####"),
        ('{"question": "How many?", "answer": null}', "line 2: field 'answer' is null"),
    ],
)
def test_a_broken_line_of_a_dataset_is_named_before_anything_starts(tmp_path, monkeypatch, row, sentence):
    good = '{"question": "How many?", "answer": "It is 3.\\n#### 3"}\n'
    for split in ("train", "test"):
        path = tmp_path / "data" / "gsm8k" / f"{split}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(good + row + "\n", encoding="utf8")
    monkeypatch.setenv("RAYBRIDGE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("RAYBRIDGE_MODELS", f"{SMOLLM_135M}={HOUSE / 'raybridge' / 'pocket' / 'target'}")
    code, output = launch(SMOLLM, "--scale", "small", root=tmp_path / "r")
    assert code == 2
    assert sentence in said(output)
    assert ".jsonl" in said(output)


def test_a_loss_and_a_translator_of_a_users_package_are_planned_as_ours(tmp_path, monkeypatch):
    (tmp_path / "own_parts.py").write_text(
        "from dataclasses import dataclass\nfrom typing import ClassVar\n"
        "from raybridge.losses.contrastive import InfoNCE\n"
        "from raybridge.translators.bottlenecked import Bottlenecked\n\n\n"
        "@dataclass(frozen=True, kw_only=True)\nclass OwnContrast(InfoNCE):\n    VERSION: ClassVar[int] = 1\n\n\n"
        "@dataclass(frozen=True, kw_only=True)\nclass OwnBottleneck(Bottlenecked):\n    VERSION: ClassVar[int] = 1\n",
        encoding="utf8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    own = "from own_parts import OwnBottleneck, OwnContrast\nfrom raybridge.trial"
    file = edited(tmp_path, "from raybridge.trial", own)
    text = file.read_text(encoding="utf8").replace("seed=seed,", "seed=seed, losses=(*base.losses[:2], OwnContrast()),")
    text = text.replace(
        "replace(base.translator, soft_tokens=soft_tokens)", "OwnBottleneck(soft_tokens=soft_tokens, layers=(0, 4))"
    )
    file.write_text(text, encoding="utf8")
    code, output = launch(file, "--dry-run", root=tmp_path / "r")
    assert code == 0, output
    trial = planned(file)[0]
    assert packages_of(trial) == ("raybridge", "evaluators", "own_parts")
    assert rebuild(trial.resolved(), packages_of(trial)) == trial
