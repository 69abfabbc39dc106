"""Further texts in the batches of a trial: their shares, their order, what is left out, and the same on every worker."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from local_runs import run_trial
from two_workers import on_two_workers

from evaluators.pocket import Pocket
from raybridge.config import rebuild, resolve
from raybridge.data import Problem, check_split
from raybridge.data.texts import Mixture, OtherNumbers, Questions, Sentences, WorkedAnswers, plain
from raybridge.evaluation.identity import sealed, texts_digest
from raybridge.evaluation.trained import check_unlearned
from raybridge.losses.contrastive import InfoNCE, PromptContrast
from raybridge.losses.distillation import TextKL
from raybridge.losses.next_token import AnswerNLL, FirstTokens, Format, Reconstruction
from raybridge.losses.on_policy import DecodeAware
from raybridge.models import lm
from raybridge.results import Results
from raybridge.training.batches import Batches
from raybridge.training.micro_batches import Cut
from raybridge.training.mixing import Mixing, dealt, letters, spread
from raybridge.training.step import build_trainer
from raybridge.world import World

FEW = Pocket(train=60, dev=8, test=8)
MIXED = Mixture(parts=(OtherNumbers(share=0.25, count=10), WorkedAnswers(share=0.125), Questions(share=0.125)))


@pytest.fixture
def mixed(trial):
    return replace(trial, evaluator=FEW, mixture=MIXED)


def test_every_batch_has_the_shares_exactly_and_every_text_comes_as_often_as_another(mixed):
    mixing = Mixing(mixed, FEW.problems("train"))
    pools = [set(pool.texts) for pool in MIXED.pools(FEW)]
    met: Counter[str] = Counter()
    for step in range(45):
        batch = mixing.at(step)
        texts = [one for one in batch if isinstance(one, str)]
        assert len(batch) == 8
        assert [sum(text in pool for text in texts) for pool in pools] == [2, 1, 1]
        for half in (batch[:4], batch[4:]):
            assert sum(isinstance(one, str) for one in half) == 2
        met.update(texts)
    assert {met[text] for text in pools[0]} == {9}
    assert {met[text] for text in pools[1]} <= {0, 1}
    other = Mixing(replace(mixed, seed=5), FEW.problems("train"))
    assert other.at(3) != mixing.at(3) == Mixing(mixed, FEW.problems("train")).at(3)


@given(st.lists(st.floats(0.02, 0.3), min_size=1, max_size=3), st.integers(64, 200))
def test_shares_of_any_batch_add_up(shares, batch):
    counts = Mixture(parts=tuple(WorkedAnswers(share=share) for share in shares)).counts(batch)
    assert sum(counts) == round(sum(share * batch for share in shares))
    assert all(abs(count - share * batch) < 1 for count, share in zip(counts, shares, strict=True))


def test_texts_are_spread_evenly():
    assert spread(["p", "q", "r"], []) == ["p", "q", "r"]
    assert spread(["p", "q", "r"], ["1", "2", "3"]) == ["p", "1", "q", "2", "r", "3"]
    assert "".join(spread(list("pqrstu"), ["1", "2"])) == "pqr1stu2"


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 90)), min_size=1, max_size=8), st.integers(1, 4))
def test_workers_have_as_many_of_each_kind_and_about_as_much_to_read(drawn, workers):
    asked = [
        "x" * (1 + size) if text else Problem(id=str(number), question="x" * (1 + size), rationale="y", gold="1")
        for number, (text, size) in enumerate(drawn * workers)
    ]
    places = dealt(asked, workers)
    assert sorted(place for each in places for place in each) == list(range(len(asked)))
    assert all(each == sorted(each) and len(each) == len(drawn) for each in places)
    texts, load = (
        [how(each) for each in places]
        for how in (
            lambda each: sum(isinstance(asked[place], str) for place in each),
            lambda each: sum(letters(asked[place]) for place in each),
        )
    )
    assert max(texts) - min(texts) <= 1
    assert max(load) - min(load) <= 2 * max(map(letters, asked))


def test_one_worker_has_a_batch_as_it_is():
    assert dealt(["long", "a", "middle"], 1) == [[0, 1, 2]]


def test_a_mixture_is_refused_where_it_cannot_be(trial):
    with pytest.raises(ValueError, match=r"each share of a batch must lie above 0, and all together below 1, not 0.5, 0.5"):
        Mixture(parts=(WorkedAnswers(share=0.5), OtherNumbers(share=0.5)))
    with pytest.raises(ValueError, match=r"a share of 0\.01 of a batch of 8 is no text"):
        replace(trial, mixture=Mixture(parts=(WorkedAnswers(share=0.01),)))
    with pytest.raises(ValueError, match="and no problem is left"):
        replace(trial, mixture=Mixture(parts=(WorkedAnswers(share=0.96),)))
    assert rebuild(resolve(MIXED)) == MIXED


@dataclass(frozen=True, kw_only=True)
class Leaky(Pocket):
    """Its train split has questions of pocket's dev and test, and a sentence of one."""

    def problems(self, split) -> list[Problem]:
        check_split(split, ("train", "test"), self.name)
        if split == "test":
            return super().problems("train")[:3]
        dev, test = FEW.problems("dev")[:2], FEW.problems("test")[:3]
        shouted = [replace(one, question=f" {one.question.upper()}\n") for one in dev]
        return [*super().problems("train"), *shouted, *test]


def test_what_stands_in_dev_or_test_is_left_out_and_counted():
    leaky = Leaky(train=40, dev=8, test=8)
    (pool,) = Mixture(parts=(Questions(share=0.5, evaluator=leaky),)).pools(FEW)
    assert pool.left_out == 5
    assert {plain(one) for one in pool.texts}.isdisjoint(
        plain(one.question) for s in ("dev", "test") for one in FEW.problems(s)
    )
    (fewer,) = Mixture(parts=(Questions(share=0.5, evaluator=leaky),), held_out=(leaky,)).pools(FEW)
    assert fewer.left_out >= 8
    assert len(fewer.texts) + fewer.left_out == len(pool.texts) + 5
    held = Mixture(parts=(Sentences(share=0.5, evaluator=leaky),)).pools(FEW)
    assert held[0].left_out
    with pytest.raises(ValueError, match="Questions has no text that is in no dev or test split"):
        Mixture(parts=(Questions(share=0.5, evaluator=FEW),), held_out=(Turned(of=FEW),)).pools(FEW)


@dataclass(frozen=True, kw_only=True)
class Turned(Pocket):
    """Whose test split is another's train split."""

    of: Pocket = FEW

    def problems(self, split) -> list[Problem]:
        return self.of.problems("train" if split == "test" else split)


def test_another_benchmark_that_was_learned_from_judges_nothing(mixed):
    problems = FEW.problems("train")[:4]
    with pytest.raises(ValueError, match=r"trained on texts of 4 of these 4 problems of pocket: name .* `held_out`"):
        check_unlearned(mixed, Turned(), problems, where="it")
    check_unlearned(mixed, FEW, FEW.problems("test"), where="it")
    check_unlearned(replace(mixed, mixture=None), Turned(), problems, where="it")


def test_identity_is_by_what_the_texts_say(mixed):
    plain_ = sealed(replace(mixed, mixture=None), device="cpu")
    one = sealed(mixed, device="cpu")
    assert plain_.contents.texts == ""
    assert "texts" not in plain_.resolved()["contents"]
    assert one.contents.texts == texts_digest(MIXED, FEW, "None") or one.contents.texts
    assert one.fingerprint != plain_.fingerprint
    other = replace(one, contents=replace(one.contents, texts="others"))
    assert other.fingerprint != one.fingerprint
    more = replace(mixed, mixture=replace(MIXED, parts=(OtherNumbers(share=0.25, count=11), *MIXED.parts[1:])))
    assert sealed(more, device="cpu").contents.texts != one.contents.texts


def test_a_text_is_a_question_without_an_answer(mixed, source, target):
    batches = Batches(mixed, source, target)
    text = "Zoe sold 41 pens."
    batch = batches.tokens([FEW.problems("train")[0], text])
    assert batch.answers[1] == []
    assert batch.repeats[1] == [*batches.target.question(text), target.tokenizer.eos_token_id]
    assert batch.source_questions[1] == batches.source.question(text)
    losses = (AnswerNLL(), FirstTokens(), Format(), TextKL(), DecodeAware(problems=2))
    alone = batches.tokens([FEW.problems("train")[0]])
    assert [loss.count(batch) for loss in losses] == [loss.count(alone) for loss in losses]
    assert Reconstruction().count(batch) == Reconstruction().count(alone) + len(batch.repeats[1])


def test_a_batch_made_ahead_is_the_batch_of_its_step_and_worker(mixed, source, target):
    ahead, world, other = Batches(mixed, source, target), World(), World(rank=1, size=2)
    for step, who in ((0, world), (1, world), (1, other), (2, other), (5, world)):
        assert ahead.at(step, who) == Batches(mixed, source, target).of_step(step, who)
        ahead.prepare(step + 1, who)


LOSSES = (AnswerNLL(), Reconstruction(), InfoNCE(), FirstTokens(), Format(), TextKL(), PromptContrast())


def stepped(world: World, trial, cut: Cut | None = None) -> list[float]:
    source, target = (lm.load(name, device="cpu") for name in (trial.source, trial.target))
    trainer = build_trainer(trial, source=source, target=target, world=world)
    trainer.micro_batches.cut = cut or Cut(problems=trial.batch)
    done = [trainer.step(step, measure=True, interrupt=False) for step in range(2)]
    return [number for one in done for term in one.terms for number in (term.value, term.gradient)]


def test_two_workers_and_single_rows_give_what_one_pass_does(mixed):
    several = replace(mixed, losses=(*LOSSES, DecodeAware(every=1, problems=4, tokens=3)), warmup=0, learning_rate=1e-4)
    one = stepped(World(), several)
    assert stepped(World(), several, Cut(problems=1)) == pytest.approx(one, rel=2e-3)
    for rows in on_two_workers(stepped, several, seconds=600):
        assert rows == pytest.approx(one, rel=2e-3)


def test_interrupted_and_resumed_equals_undisturbed(mixed, tmp_path, models):
    short = replace(mixed, steps=6, eval_every=3, warmup=1, dev_problems=2, test_problems=2)
    _, undisturbed = run_trial(short, Results(tmp_path / "a"), models)
    calls = iter(range(100))
    outcome, _ = run_trial(short, Results(tmp_path / "b"), models, interrupted=lambda: next(calls) >= 3)
    assert outcome == "interrupted"
    _, resumed = run_trial(short, Results(tmp_path / "b"), models)
    timed = ["tokens_per_second", "mfu", "seconds"]
    metrics = [run.metrics().drop(columns=timed) for run in (undisturbed, resumed)]
    pd.testing.assert_frame_equal(*metrics, check_exact=True)
    one, other = (run.checkpoint_path(6) / "translator.safetensors" for run in (undisturbed, resumed))
    assert one.read_bytes() == other.read_bytes()
