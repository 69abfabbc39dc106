"""What every version does: small seeded inputs and what came of them. What behaves otherwise is another version.

`PYTHONPATH=tests/helpers python tests/test_versions.py` writes down what a new or raised version does, and changes none that
is there.
"""

from __future__ import annotations

import importlib
import json
import math
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass, replace
from functools import cache
from itertools import repeat
from pathlib import Path
from typing import Any
from unittest.mock import patch

import built
import pytest
import torch
from bridges import bridge_of, soft_of

import evaluators
import raybridge.losses
import raybridge.translators
from raybridge import HOUSE, arms
from raybridge.config import kind_of
from raybridge.data import Problem
from raybridge.evaluation import cramming
from raybridge.evaluation.answering import answer
from raybridge.evaluation.benchmarks import load_evaluator
from raybridge.evaluation.models import Models
from raybridge.evaluation.setting import Setting, setting_of
from raybridge.losses.alignment import PromptAlignment, SourceProbe
from raybridge.losses.beside_text import AnswerBesideText
from raybridge.losses.contrastive import InfoNCE, PromptContrast
from raybridge.losses.distillation import HiddenStates, TextKL
from raybridge.losses.flow import Flow
from raybridge.losses.next_token import AnswerNLL, FadingText, FirstTokens, Format, Reconstruction, ResidualAnswer
from raybridge.losses.on_policy import DecodeAware
from raybridge.losses.other_target import OtherTarget
from raybridge.models.hardening import Hardening
from raybridge.scales import POCKET
from raybridge.stopping import Score, Stopping, decide
from raybridge.training.batches import Batches
from raybridge.training.step import build_trainer
from raybridge.translators.bottlenecked import evenly
from raybridge.translators.dit import DiT
from raybridge.translators.injection import Injection
from raybridge.translators.interlingua import Interlingua
from raybridge.translators.linear import Linear
from raybridge.translators.narrowing import Narrowing
from raybridge.translators.optimizer import Muon
from raybridge.translators.receiver_lora import ReceiverLoRA
from raybridge.translators.residual import Residual
from raybridge.translators.weights import copy_of
from raybridge.world import World

GOLDEN = Path(__file__).parent / "golden" / "versions.json"
OURS = [str(HOUSE / "evaluators")]  # a user's own may stand in a folder of the same name
TRIAL = replace(
    POCKET.trial,
    name="tiny",
    translator=replace(POCKET.trial.translator, soft_tokens=8, width=64, depth=2, heads=2),
    **dict(steps=12, warmup=4, batch=8, eval_every=4, dev_problems=3, test_problems=3),
)
LOSSES = [
    *(AnswerNLL(), Reconstruction(), FirstTokens(), Format(), FadingText(steps=4), ResidualAnswer(), TextKL(), HiddenStates()),
    *(PromptAlignment(), SourceProbe(), InfoNCE(), PromptContrast(), DecodeAware(tokens=6), AnswerBesideText()),
]
OTHER = "pocket:source"
TWO = Interlingua(soft_tokens=6, layers=(0, 2), latent_width=24, width=32, depth=1, heads=2, also=(OTHER,))
DIFFUSION = DiT(soft_tokens=5, layers=(0, 2), width=32, depth=1, heads=2)
COMPLETIONS = [
    *("So it is 9*2=<<9*2=18>>18.\n#### 18", "#### $1,800.", "#### 18 #### 19", "It is 18.0, in total..."),
    "The answer is \\boxed{18}.",
    *("\u22123", "Eighteen.", "the eighteen\nand more", "18\n", "", "no"),
]
PROBLEM = Problem(id="one", question="How much is 9 and 9?", gold="18", rationale="9+9=18.\n#### 18", also=("eighteen",))
MUON = Muon(learning_rate=0.01)
NARROWING = Narrowing(times=4, share=0.6)
HARD = Hardening(ban_end=3, repetition_penalty=1.3, anchor="So")

Behaviours = dict[str, list[Any]]


@cache
def models() -> Models:
    return Models("cpu")


def pair() -> tuple[Any, Any]:
    return models().load(TRIAL.source), models().load(TRIAL.target)


def key(config: Any) -> str:
    return f"{kind_of(type(config))} {config.VERSION}"


def short(number: Any) -> float:
    """A number to five digits."""
    return float(f"{number.item() if isinstance(number, torch.Tensor) else number:.5g}")


def numbers(tensor: torch.Tensor) -> list[float]:
    """Mean, spread and some of the values."""
    flat = tensor.detach().flatten()
    return [short(x) for x in (flat.mean(), flat.std(), *flat[:: max(1, len(flat) // 6)][:6])]


def translators() -> Behaviours:
    """What is written for made-up states, at evaluation and in training; and what the target makes of a text with it."""
    found: Behaviours = {}
    for config in built.CONFIGS:
        module = built.awake(built.build(config))
        read, told = built.states(config), found.setdefault(key(config), [])
        for state in (module.eval(), module.train()):
            torch.manual_seed(3)
            told.append(numbers(state(*read)))
        for name in config.other_targets:
            told.append(numbers(module.for_target(name, *read, rms=0.2)))
    onto = [
        Residual(translator=evenly(TRIAL.translator), scale=5.0),
        Injection(translator=Linear(soft_tokens=4, layers=(0, 1), pooling="mean"), target_layers=(2, 0), rank=3),
    ]
    for config in onto:
        rows = answered(("bridged_with_text",), config, louder=100.0)
        found[key(config)].append([short(row["nll"]) for row in rows])
    lora = ReceiverLoRA(soft_tokens=3, target=TRIAL.target, rank=2)
    found[key(lora)] = [[short(row["nll"]) for row in answered(("bridged_with_text",), lora)]]
    return found


def losses() -> Behaviours:
    """A term's value and the norm of its gradient on made-up soft tokens."""
    source, target = pair()
    batches, found = Batches(TRIAL, source, target), {}
    for loss in LOSSES:
        soft = soft_of(target, 4)
        bridge = bridge_of(batches, target, batches.problems[:4], soft)
        total = loss.total(bridge)
        total.backward()
        found[key(loss)] = [short(total), loss.count(bridge.batch), short(soft.grad.norm())]
    for loss, translator in ((OtherTarget(target=OTHER), TWO), (Flow(), DIFFUSION)):
        torch.manual_seed(0)
        asked = replace(TRIAL, name="tiny", translator=translator, losses=(AnswerNLL(), loss))
        trainer = build_trainer(asked, source=source, target=target, world=World())
        batch = trainer.batches.tokens(trainer.batches.problems[:3])
        found[key(loss)] = [short(loss.total(trainer.bridge(batch, 0, asked.losses))), loss.count(batch)]
    return found


def benchmarks() -> Behaviours:
    """How completions are read and graded; and of generated problems the first ones."""
    found: Behaviours = {}
    for file in pkgutil.iter_modules(OURS):
        one = load_evaluator(file.name)
        found[key(one)] = [[one.read(text), one.grade(PROBLEM, text)] for text in COMPLETIONS]
    few = POCKET.trial.evaluator
    few = replace(few, train=3, dev=3, test=3)
    for split in ("train", "dev", "test"):
        found[key(few)] += [[one.question, one.gold, one.rationale] for one in few.problems(split)]
    return found


def answered(
    names: tuple[str, ...], translator: Any = TRIAL.translator, *, louder: float = 1.0, brief: bool = True, **setting: Any
) -> list[dict[str, Any]]:
    """Rows of arms on three problems, all gates open. louder: what is its own, so often. brief: answers not read are cut."""
    source, target = pair()
    torch.manual_seed(0)
    module = built.awake(translator.build(source.width, target.width, target_rms=target.embedding_rms))
    for name, p in module.named_parameters():
        p.data *= 1 if hasattr(module, "inner") and name.startswith("inner.") else louder
    asked = replace(setting_of(TRIAL, "dev"), translator=translator, soft_tokens=translator.soft_tokens, **setting)
    weights, rows = copy_of(module), {}
    handed_on = {one for name in names for one in arms.find(name).passes_on}
    for name in names:
        arm = arms.find(name)
        (request,) = asked.requests((arm,))
        told = {one: {row["problem"]: row["completion"] for row in rows[one]} for one in arm.passes_on if one in rows}
        answers = {one: tuple(texts[problem.id] for problem in request.problems) for one, texts in told.items()}
        most = 4 if brief and name not in handed_on else TRIAL.evaluator.max_new_tokens
        with patch.object(type(TRIAL.evaluator), "max_new_tokens", most):
            rows[name] = answer(replace(request, answers=answers), models(), weights)
    return [row for name in names for row in rows[name]]


def of_arms() -> Behaviours:
    """By problem: nats of the worked answer, tokens of the prompt, bytes on the wire, and which answer was chosen.

    Vectors are crammed in fewer steps than they are; what the number is stands behind them.
    """
    found: Behaviours = {}
    lent = [arm for arm in arms.every() if arm.borrows]
    named = sorted((arm for arm in arms.every() if not arm.borrows), key=lambda arm: bool(arm.passes_on))
    with patch.object(cramming, "STEPS", 3):  # few, so that processors agree
        rows = answered(tuple(arm.name for arm in named))
    for row in rows:
        nll, tokens = (None if math.isnan(row[part]) else short(row[part]) for part in ("nll", "prompt_tokens"))
        told = found.setdefault(f"{row['arm']} {arms.find(row['arm']).version}", [])
        told.append([row["problem"], nll, tokens, row.get("wire_bytes"), row.get("chosen")])
    for arm in arms.every():
        if arm.crams:
            found[f"{arm.name} {arm.version}"].append([cramming.STEPS, cramming.RATE, *cramming.BETAS])
    return found | {f"{arm.name} {arm.version}": [arm.borrows, arm.of_translator] for arm in lent}


def others() -> Behaviours:
    """Three steps of training, when a trial stops, what is decoded, and what optimizers and schedules do."""
    source, target = pair()
    torch.manual_seed(0)
    trainer = build_trainer(TRIAL, source=source, target=target, world=World())
    steps = [trainer.step(number, measure=False, interrupt=False) for number in range(3)]
    trained = [[short(term.value) for term in step.terms] + [short(step.gradient_norm)] for step in steps]
    right = [(True,) * count + (False,) * (40 - count) for count in (10, 30, 30, 5)]
    scores = [Score(step=i, correct=one, shuffled=right[0], nll=1.0 - i / 10) for i, one in enumerate(right, start=1)]
    stopping = [decide(Stopping(patience=2), scores[:count]).reason for count in range(1, 5)]
    plain = [row["completion"] for row in answered(("target", "source"), brief=False)]
    hard = [row["completion"] for row in answered(("target",), brief=False, hardening=HARD)]
    own = {key(TRIAL): trained, key(Stopping()): stopping, f"Setting {Setting.VERSION}": plain, key(HARD): hard}
    return own | {key(MUON): moved(), key(NARROWING): [NARROWING.times_at(tenth / 10) for tenth in range(11)]}


def moved() -> list[float]:
    """How far three steps of Muon move the numbers of a small map whose gradients are drawn, in units of its rate."""
    drawn = torch.Generator().manual_seed(0)
    module = torch.nn.Linear(3, 4, bias=False)
    before = module.weight.detach().clone()
    optimizer = MUON.build([{"params": [module.weight], "lr": 1.0, "peak": 1.0, "weight_decay": 0.0}], [module.weight])
    for _ in range(3):
        module.weight.grad = torch.randn(4, 3, generator=drawn)
        optimizer.step()
    return [round(number, 2) for number in ((module.weight.detach() - before) / MUON.learning_rate).flatten().tolist()]


GROUPS: dict[str, Callable[[], Behaviours]] = {one.__name__: one for one in (translators, losses, benchmarks, of_arms, others)}


def golden() -> Behaviours:
    return json.loads(GOLDEN.read_text(encoding="utf8")) if GOLDEN.exists() else {}


def alike(now: Any, before: Any, near: float) -> bool:
    """Whether two nested lists are equal, numbers but for what another processor or version of torch makes of them."""
    if isinstance(now, list | tuple):
        return isinstance(before, list) and len(now) == len(before) and all(map(alike, now, before, repeat(near)))
    if isinstance(now, dict):
        return isinstance(before, dict) and alike(sorted(now.items()), [list(one) for one in sorted(before.items())], near)
    if isinstance(now, float) and isinstance(before, int | float):
        return math.isclose(now, before, rel_tol=2e-3, abs_tol=near)
    return bool(now == before)


@pytest.mark.parametrize("group", GROUPS)
def test_what_a_version_does_is_what_it_did(group):
    before = golden()
    for named, told in GROUPS[group]().items():
        near = 1e-7 * told[1] if group == "losses" else 2e-2 if named == key(MUON) else 2e-4  # of sums, and of products of bf16
        assert named in before, f"{named} is not written down: run `PYTHONPATH=tests/helpers python tests/test_versions.py`"
        assert alike(told, before[named], near), (
            f"{named} behaves otherwise than it did, so what is kept of it would be reused wrongly: raise its VERSION, tell it "
            f"in CHANGELOG.md, and write the new one down: `PYTHONPATH=tests/helpers python tests/test_versions.py`\n"
            f"was {before[named]}\nis {told}"
        )


def versioned() -> Iterator[type]:
    """Every class of ours with a VERSION of its own, and every config of a translator, loss or evaluator."""
    for package, path in (
        (raybridge.translators, raybridge.translators.__path__),
        (raybridge.losses, raybridge.losses.__path__),
        (evaluators, OURS),
    ):
        for file in pkgutil.iter_modules(path):
            module = importlib.import_module(f"{package.__name__}.{file.name}")
            mine = [one for one in vars(module).values() if isinstance(one, type) and one.__module__ == module.__name__]
            yield from (one for one in mine if is_dataclass(one) and (hasattr(one, "VERSION") or hasattr(one, "build")))


def test_every_translator_loss_and_evaluator_has_a_version_and_every_version_is_written_down():
    before = golden()
    for cls in versioned():
        assert "VERSION" in vars(cls), f"{cls.__name__} takes its VERSION from what it inherits; it needs one of its own"
        assert f"{kind_of(cls)} {cls.VERSION}" in before
    for arm in arms.every():
        assert f"{arm.name} {arm.version}" in before


def test_no_two_configs_have_one_name():
    kinds = [kind_of(cls) for cls in versioned()]
    assert len(kinds) == len(set(kinds)) > 25


def test_a_change_of_behaviour_is_noticed(monkeypatch):
    really = AnswerNLL.total
    monkeypatch.setattr(AnswerNLL, "total", lambda loss, bridge: really(loss, bridge) * 1.01)
    with pytest.raises(AssertionError, match=r"AnswerNLL 1 behaves otherwise than it did.*raise its VERSION"):
        test_what_a_version_does_is_what_it_did("losses")
    monkeypatch.setattr(AnswerNLL, "VERSION", 2)
    with pytest.raises(AssertionError, match="AnswerNLL 2 is not written down"):
        test_what_a_version_does_is_what_it_did("losses")


def write() -> None:
    """Add what is new; keep what is there of versions that still are."""
    now = {name: told for group in GROUPS.values() for name, told in group().items()}
    lines = [f" {json.dumps(name)}: {json.dumps(golden().get(name, told))}" for name, told in sorted(now.items())]
    GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf8")


if __name__ == "__main__":
    write()
