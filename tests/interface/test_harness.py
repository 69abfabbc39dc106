"""lm-evaluation-harness on a bridge: its own task gsm8k agrees item by item with `raybridge.evaluate`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from small_bridge import QUESTIONS, finished

import raybridge
from evaluators.gsm8k import GSM8K
from evaluators.pocket import Pocket
from raybridge.arms import find
from raybridge.evaluation.answering import answer
from raybridge.evaluation.models import Models
from raybridge.evaluation.trained import of_trial, trial_of
from raybridge.interface.placed import Text, completed, scored
from raybridge.pocket.problems import generated
from raybridge.translators.bottlenecked import evenly
from raybridge.translators.residual import Residual

lm_eval = pytest.importorskip("lm_eval", reason="the optional extra lm-eval")
from lm_eval.api.instance import Instance  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402

import raybridge.interface.harness  # noqa: E402  registers the model

RaybridgeLM = raybridge.interface.harness.RaybridgeLM

TASK = """
include: {gsm8k}
task: gsm8k_here
dataset_path: json
dataset_name: null
dataset_kwargs:
  data_files: {{train: {folder}/train.jsonl, test: {folder}/test.jsonl}}
  cache_dir: {folder}/cache
num_fewshot: {shots}
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Pocket problems as the rows of a small gsm8k."""
    folder = tmp_path_factory.mktemp("data") / "gsm8k"
    folder.mkdir()
    for split, count in (("train", 520), ("test", 12)):
        rows = [json.dumps({"question": one.question, "answer": one.rationale}) for one in generated(split, count)]
        (folder / f"{split}.jsonl").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def bridges(tmp_path_factory, run):
    """Soft tokens alone, which are untrained and carry nothing; and so little added onto the text that it can be read."""
    inner = evenly(trial_of(run).translator)
    onto = finished(tmp_path_factory.mktemp("onto"), translator=Residual(translator=inner, scale=0.001), name="onto_8tok")
    return {"alone": run, "onto": onto}


@pytest.fixture(autouse=True)
def short():
    """Answers are as long as they are: what they say counts here."""


@pytest.fixture
def gsm8k(data, monkeypatch):
    """That gsm8k in the place of the real one."""
    monkeypatch.setenv("RAYBRIDGE_DATA", str(data.parent))
    return data


def asked(folder: Path, tmp_path: Path, *, shots: int = 5, **told: object):
    """The harness's results of a bridge on its own gsm8k."""
    own = Path(lm_eval.__file__).parent / "tasks" / "gsm8k" / "gsm8k.yaml"
    (tmp_path / "here.yaml").write_text(TASK.format(gsm8k=own, folder=folder, shots=shots))
    manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
    return lm_eval.simple_evaluate(
        model="raybridge", model_args=told, tasks=["gsm8k_here"], task_manager=manager, log_samples=True, bootstrap_iters=0
    )


@pytest.mark.parametrize(("kind", "on", "right"), [("alone", GSM8K(), 0), ("onto", Pocket(), 20)])
def test_gsm8k_agrees_item_by_item_with_evaluate(gsm8k, bridges, tmp_path, kind, on, right):
    """In the frame of GSM8K with its exemplars, and in that of the pocket's problems, on which the pair is right."""
    run = bridges[kind]
    setting, trained = of_trial(run, evaluator=on, split="test", count=None, device="cpu")
    setting = replace(setting, problems=tuple(GSM8K().problems("test")))
    (request,) = setting.requests([find(trial_of(run).translator.arm)])
    rows = {row["problem"]: row for row in answer(request, Models("cpu"), trained.weights)}
    told = asked(gsm8k, tmp_path, trial=str(run.path), frame=on.name, device="cpu")
    samples = told["samples"]["gsm8k_here"]
    assert len(samples) == 2 * len(rows) == 24  # two filters
    for sample in samples:
        row = rows[f"gsm8k/test/{sample['doc_id']}"]
        reading = {"strict-match": "strict", "flexible-extract": "flexible"}[sample["filter"]]
        assert sample["resps"] == [[row["completion"]]]
        assert sample["exact_match"] == row[f"score_{reading}"]
    assert sum(sample["exact_match"] for sample in samples) >= right


def test_a_tasks_own_text_stays_around_the_soft_tokens(gsm8k, run, tmp_path):
    told = asked(gsm8k, tmp_path, shots=1, trial=str(run.path), device="cpu")
    bridge = raybridge.load(run.path, device="cpu")
    for sample in told["samples"]["gsm8k_here"][:3]:
        context, limits = sample["arguments"][0]
        text = Text(whole=context, question=sample["doc"]["question"])
        assert context.count("Question:") == 2
        (done,) = completed(bridge, [text], max_new_tokens=256, stop=limits["until"])
        assert sample["resps"] == [[done]]


def test_likelihoods_are_those_of_the_text(run):
    lm = RaybridgeLM(trial=str(run.path), device="cpu", batch_size=2)
    asked_ = [(f"Question: {question}\nAnswer: ", "There are") for question in QUESTIONS]
    requests = [
        Instance(request_type="loglikelihood", doc={"question": question}, arguments=args, idx=0)
        for question, args in zip(QUESTIONS, asked_, strict=True)
    ]
    texts = [Text(whole=f"Question: {question}\nAnswer:", question=question) for question in QUESTIONS]
    expected = scored(lm.bridge, texts, [" There are"] * 3)
    for (nll, greedy), (naive, likeliest) in zip(lm.loglikelihood(requests), expected, strict=True):
        assert nll == pytest.approx(naive, rel=1e-4)
        assert greedy == likeliest


def request_of(limits: dict[str, object], **doc: object) -> Instance:
    return Instance(request_type="generate_until", doc=doc, arguments=("Why?", limits), idx=0, metadata=("a_task", 0, 1))


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda lm: lm.loglikelihood_rolling([]), "a task that scores whole texts"),
        (
            lambda lm: lm.generate_until([request_of({}, query="Why?")]),
            "have no field 'question'.*query",
        ),
        (lambda lm: lm.generate_until([request_of({"temperature": 1})]), "this task samples"),
        (lambda lm: lm.generate_until([request_of({"num_beams": 4})]), "num_beams is not known"),
    ],
)
def test_what_a_bridge_cannot_do_is_refused(run, ask, says):
    with pytest.raises(ValueError, match=says):
        ask(RaybridgeLM(trial=str(run.path), device="cpu"))


def test_an_argument_that_is_none_is_refused(run):
    with pytest.raises(ValueError, match="unknown 'pretrained'; valid: trial"):
        RaybridgeLM(trial=str(run.path), pretrained="gpt2")
