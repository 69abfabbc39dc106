"""Each bench runs on a few steps and problems, and what raybridge is held against does the same work."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from rich.console import Console
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, MistralConfig

from bench import card, decode, evaluate, flops, scaling, shapes, sweep, train
from bench.plain_training import PlainTrainer
from bench.report import Report, printed, rows_of
from bench.turns import Way, Work, taken_in_turns
from raybridge import arms
from raybridge.losses.next_token import AnswerNLL, Reconstruction
from raybridge.models.names import POCKET
from raybridge.training.batches import Batches
from raybridge.training.step import build_trainer
from raybridge.world import World

CPU = torch.device("cpu")
TINY = dict(
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=1024,
    vocab_size=851,
    bos_token_id=1,
    eos_token_id=2,
)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Rates of a card that take no time to measure."""
    for name, value in {"TIMES": 1, "CALLS": {"cpu": 1}, "COPIED": {"cpu": 2**12}, "SIDE": {"cpu": 16}}.items():
        monkeypatch.setattr(card, name, value)


@pytest.fixture
def asked(trial):
    """The tiny trial by the losses that both implementations have."""
    return replace(trial, losses=(AnswerNLL(), Reconstruction()))


@pytest.fixture
def pair(asked, source, target):
    models = {asked.source: source, asked.target: target}
    return shapes.Pair(trial=asked, read=lambda name, device: models[name], device=CPU)


@pytest.mark.parametrize("part", [8, 3])
def test_plain_training_takes_the_same_step(asked, source, target, part):
    batch = Batches(asked, source, target).at(0, World())
    plain = PlainTrainer(asked, source, target, part=part)
    ours = build_trainer(asked, source=source, target=target, world=World())
    done = ours.step(0, measure=False, interrupt=False)
    assert plain.step(batch) == pytest.approx([term.value for term in done.terms], rel=1e-4)
    gradient = torch.cat([p.grad.flatten() for p in plain.translator.parameters()])
    assert torch.allclose(gradient, torch.cat([p.grad.flatten() for p in ours.module.parameters()]), atol=1e-5)


def test_plain_answers_are_ours(pair):
    checkpoint = evaluate.checkpoint_of(pair, 3)
    rows = checkpoint.rows([arms.find(name) for name in evaluate.ARMS])
    plain = checkpoint.plain()
    answers = plain.answers(checkpoint.setting.problems, batch=2)
    for arm in evaluate.ARMS:
        ours = {row["problem"]: row["completion"] for row in rows if row["arm"] == arm}
        assert plain.texts(arm, answers[arm]) == [ours[problem.id] for problem in checkpoint.setting.problems]


def test_flops_are_those_that_torch_counts(source):
    ids = torch.arange(10, 30).unsqueeze(0)
    with FlopCounterMode(display=False) as counted, torch.no_grad(), torch.nn.attention.sdpa_kernel(flops.SDPBackend.MATH):
        source.body(input_ids=ids, use_cache=False)
    config, (layers, _) = source.model.config, flops.weights_of(source)
    width = config.num_attention_heads * config.head_dim * config.num_hidden_layers
    assert counted.get_total_flops() == 2 * layers * 20 + 4 * width * 20 * 20
    assert flops.of_source(source, [ids[0, 3:].tolist()], before=3) == 2 * layers * 20 + 4 * width * sum(range(1, 21))


def test_flops_of_a_batch_count_its_beginning_once_and_no_padding(asked, source, target):
    batch = Batches(asked, source, target).at(0, World())
    around = dict(before=3, soft=8, after=(1, 2, 3), after_repeat=(1, 2, 4, 5))
    whole = flops.of_target(target, batch, **around)
    assert whole == pytest.approx(sum(flops.of_target(target, batch.only([row]), **around) for row in range(8)))
    layers, _ = flops.weights_of(target)
    longer = flops.of_target(target, batch, **around | {"soft": 9})
    assert longer - whole > 8 * 4 * layers  # a position more a problem, once, forward and back
    assert longer - whole < 8 * 5 * layers


def test_training_is_timed_on_models_of_random_weights(monkeypatch, tmp_path, asked):
    monkeypatch.setenv(shapes.TOKENIZERS, str(POCKET))
    rope = {"rope_type": "default", "rope_theta": 1e6}
    mistral = MistralConfig(**TINY, sliding_window=None, rope_parameters=rope)
    llama = LlamaConfig(**TINY, rope_parameters=rope)
    source = shapes.Shape(name="mistral", config=mistral, tokenizer="source")
    target = shapes.Shape(name="llama", config=llama, tokenizer="target")
    monkeypatch.setitem(train.SIZES, "pocket", train.Sizes(soft_tokens=(4,), batch=2, steps=1, rounds=1, repeats=1))
    with shapes.pair_of("pocket", CPU, source=source, target=target) as pair:
        pair = replace(pair, trial=replace(asked, source=pair.trial.source, target=pair.trial.target))
        report = train._train("pocket", pair, tmp_path, repeats=2, steps=None, soft_tokens=None)
    assert [row.way for row in report.rows] == [
        "raybridge, K=4",
        "raybridge, K=4, each term's gradient measured",
        "plain, K=4, 2 a pass",
    ]
    assert all(len(row.seconds) == 2 and row.share > 0 for row in report.rows)
    plain, ours = report.rows[-1].problems_per_second.median, report.rows[0].problems_per_second.median
    assert report.rows[0].ratio == pytest.approx(ours / plain)
    assert report.head["source"] == "mistral"


def test_a_missing_tokenizer_is_named(monkeypatch):
    monkeypatch.delenv(shapes.TOKENIZERS, raising=False)
    with pytest.raises(ValueError, match=r"RAYBRIDGE_TOKENIZERS .* mistral03/"), shapes.pair_of("full", CPU):
        pass


def test_decoding_is_timed(pair):
    sizes = decode.Sizes(ours=(2,), plain=(1, 2), rounds=2, repeats=1)
    report = decode._decode("pocket", pair, sizes, repeats=None, length=3)
    ways = [row.way for row in report.rows]
    assert ways[0] == "raybridge, batch 2"
    assert ways[1] == "raybridge, batch 2 behind 8 exemplars"
    assert all(len(row.seconds) == 2 and row.ratio for row in report.rows if row.way.startswith("raybridge"))
    told = json.loads(report.as_json())
    assert told["head"]["versions"]["torch"] == torch.__version__
    assert told["notes"][-1].startswith("8 exemplars at batch 2: ")


def test_an_evaluation_is_timed(monkeypatch, pair):
    monkeypatch.setitem(evaluate.SIZES, "pocket", evaluate.Sizes(problems=2, rounds=1, repeats=1))
    monkeypatch.setattr(evaluate, "WARM", 2)
    monkeypatch.setattr(type(pair.trial.evaluator), "max_new_tokens", 2)
    report = evaluate._evaluate("pocket", pair, repeats=None, problems=2)
    every, three, plain = report.rows
    assert every.tokens_per_second.median * every.seconds[0] == pytest.approx(2 * 9 * 2)
    assert three.tokens_per_second.median * three.seconds[0] == pytest.approx(2 * 3 * 2)
    assert plain.tokens_per_second.median * plain.seconds[0] == pytest.approx(2 * 3 * 2)


@pytest.mark.cluster
def test_a_sweep_is_timed(monkeypatch):
    monkeypatch.setattr(sweep, "FILE", sweep.FILE.replace("[8, 16]", "[8]").replace("=20", "=4"))
    report = sweep.sweep("pocket")
    ours, plain = report.rows
    assert 0 < ours.share < 1
    assert ours.ratio == pytest.approx(plain.seconds[0] / ours.seconds[0])


def test_what_does_not_fit_is_told_and_has_no_figures():
    @contextmanager
    def full():
        raise torch.OutOfMemoryError("no room")
        yield

    @contextmanager
    def fine():
        yield lambda: lambda: Work(problems=2, tokens=10)

    seen = taken_in_turns(
        [Way(name="large", ready=full, beside="plain"), Way(name="plain", ready=fine)], rounds=2, repeats=1, device=CPU
    )
    rows = rows_of(seen, most=1.0, by="tokens")
    assert (rows[0].failed, rows[0].ratio, rows[0].problems_per_second) == ("does not fit", None, None)
    assert len(rows[1].seconds) == 2
    report = Report(bench="none", head=card.head(CPU, "pocket", {}), step="a step", share="MFU", rows=rows)
    console = Console(width=200)
    with console.capture() as told:
        printed(report, console)
    assert "does not fit" in told.get()
    assert json.loads(report.as_json())["rows"][0]["ratio"] is None


def test_scaling_is_timed_by_processes_of_their_own(monkeypatch, tmp_path):
    sizes = scaling.Sizes(batch=2, problems=2, steps=1, repeats=2)
    with shapes.pair_of("pocket", CPU) as pair:
        report = scaling._scaling("pocket", pair, sizes, 2)
    ways = [row.way for row in report.rows]
    assert ways == [
        f"{name}, {count}" for count in ("1 process", "2 processes") for name in (scaling.STEPS, scaling.EVALUATION)
    ]
    assert [len(row.seconds) for row in report.rows] == [2, 1, 2, 1]
    one, two = (report.rows[i].problems_per_second.median for i in (0, 2))
    assert report.notes[0] == f"{ways[2]}: efficiency {two / one / 2:.2f}"
