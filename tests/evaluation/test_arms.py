"""Arms beyond those of every sweep: what each puts to which model, and what is measured of it."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raybridge.analysis.measures import OF_K, QUANTISED_ARMS, TRANSLATOR_ARMS
from raybridge.evaluation.answering import answer, in_order
from raybridge.evaluation.models import Models
from raybridge.evaluation.prompt import CASCADE, NEIGHBOURS, ask, derange, noise, partners
from raybridge.evaluation.scoring import check_alignment, continuation_nll
from raybridge.evaluation.setting import requests_for, setting_of
from raybridge.losses.bridge import Bridge
from raybridge.losses.next_token import ResidualAnswer
from raybridge.models.decode import greedy, stack
from raybridge.models.hardening import Hardening
from raybridge.models.lm import FrozenLM
from raybridge.models.prompts import frame, prompt_hash
from raybridge.training.step import Batches
from raybridge.translators.bottlenecked import evenly
from raybridge.translators.injection import Injection
from raybridge.translators.residual import Residual
from raybridge.translators.weights import copy_of
from raybridge.translators.wire import FORMATS, through_wire, wire_bytes
from raybridge.world import World


@pytest.fixture
def request_(trial):
    (one,) = requests_for(trial, step=1, split="dev", arms=("bridged",))
    return one


def by_problem(rows, arm):
    return {row["problem"]: row for row in rows if row["arm"] == arm}


def test_arms_together_answer_as_they_do_alone(trial, models, weights, request_):
    arms = ("bridged", "shuffled", "mean", "bridged_with_text", "bridged_int8", "zero", "random", "no_context")
    together = answer(replace(request_, arms=arms), models, weights)
    for arm in arms:
        alone = answer(replace(request_, arms=(arm,)), models, weights)
        for one, other in zip(alone, [row for row in together if row["arm"] == arm], strict=True):
            assert {k: v for k, v in one.items() if k != "seconds"} == {k: v for k, v in other.items() if k != "seconds"}


@pytest.mark.parametrize("scale", [1e-6, 0.5])
def test_a_residuals_soft_tokens_are_added_onto_the_text(trial, models, request_, scale):
    source, target = models.load(trial.source), models.load(trial.target)
    residual = Residual(translator=evenly(trial.translator), scale=scale)
    torch.manual_seed(0)
    weights = copy_of(residual.build(source.width, target.width, target_rms=target.embedding_rms))
    asked_with = replace(request_, translator=residual)
    rows = answer(replace(asked_with, arms=("bridged_with_text", "bridged")), models, weights)
    (plain, added_on, alone) = (
        [row["nll"] for row in answer(replace(request_, arms=("target",)), models)],
        [row["nll"] for row in rows if row["arm"] == "bridged_with_text"],
        [row["nll"] for row in rows if row["arm"] == "bridged"],
    )
    assert (added_on == pytest.approx(plain, rel=1e-3, abs=1e-3)) == (scale < 1e-3)
    assert alone != pytest.approx(plain, rel=0.1)  # `bridged` is still soft tokens only


@pytest.fixture
def injected(trial, models, request_):
    """A request with a translator that injects, and its weights with open gates."""
    source, target = models.load(trial.source), models.load(trial.target)
    injection = Injection(translator=evenly(trial.translator), target_layers=(1, 3), rank=4)
    torch.manual_seed(0)
    module = injection.build(source.width, target.width, target_rms=target.embedding_rms)
    for adapter in module.adapters:
        torch.nn.init.constant_(adapter.gate, 3.0)
    return replace(request_, translator=injection), copy_of(module)


def test_an_injection_is_judged_as_it_was_trained(trial, models, injected):
    request, weights = injected
    rows = answer(replace(request, arms=("bridged", "bridged_with_text")), models, weights)
    source, target = models.load(trial.source), models.load(trial.target)
    batches = Batches(trial, source, target)
    batch = batches.tokens(request.problems)
    bridge = Bridge(
        module=models.module(request, weights),
        states_BTLS=torch.empty(0),
        mask_BT=torch.empty(0),
        soft_BKD=models.soft_tokens(request, weights),
        target=target,
        before=batches.target.before,
        after=batches.target.after,
        after_repeat=batches.repeat.after,
        batch=batch,
        world=World(),
        seed=0,
        step=0,
    )
    judged = [row["nll"] for row in rows if row["arm"] == "bridged_with_text"]
    with torch.no_grad():
        assert sum(judged) == pytest.approx(ResidualAnswer().total(bridge).item(), rel=1e-4)
    text = [row["nll"] for row in answer(replace(request, arms=("target",), translator=None), models)]
    assert judged != pytest.approx(text, rel=1e-2)


def test_decoding_sees_an_injected_prompt_as_training_does(models, injected):
    request, weights = injected
    soft = models.soft_tokens(request, weights)
    asked = {arm: ask(request, models, arm, soft, shots=False, weights=weights) for arm in ("bridged", "bridged_with_text")}
    check_alignment(asked["bridged_with_text"])
    lm, pieces = asked["bridged"].lm, {arm: one.pieces(one.around.after) for arm, one in asked.items()}
    together = greedy(lm, [stack(list(pieces.values()))], max_new_tokens=12, shared=asked["bridged"].shared)
    alone = [one for part in pieces.values() for one in greedy(lm, part, max_new_tokens=12, shared=asked["bridged"].shared)]
    assert together == alone  # what is injected into one arm does not reach the other
    before = lm.text_piece([asked["bridged"].shared] * len(soft))
    injected_pieces = [before, *pieces["bridged_with_text"]]
    rows, length = [[] for _ in soft], 6
    for _ in range(length):  # without a cache, the whole prompt at every token
        hidden, _, _ = lm.continuation_states(injected_pieces, [[*row, 0] for row in rows])
        for row, token in zip(rows, lm.model.get_output_embeddings()(hidden[:, -1]).argmax(-1).tolist(), strict=True):
            row.append(token)
    short = greedy(lm, pieces["bridged_with_text"], max_new_tokens=length, shared=asked["bridged"].shared)
    ends = [next((i for i, token in enumerate(row) if token in lm.end_ids), length) for row in rows]
    assert [one.text for one in short] == [lm.text(row[:end]) for row, end in zip(rows, ends, strict=True)]


def test_a_batch_of_many_arms_is_cut(trial, models, weights, request_, monkeypatch):
    arms = ("bridged", "shuffled", "zero")
    whole = answer(replace(request_, arms=arms), models, weights)
    monkeypatch.setattr("raybridge.evaluation.answering.ROWS_AT_ONCE_ON_CPU", 16)  # two arms of eight problems
    cut = answer(replace(request_, arms=arms), models, weights)
    assert [row["completion"] for row in whole] == [row["completion"] for row in cut]


SEEDS = st.integers(0, 2**31 - 1)


@given(count=st.integers(2, 130), seed=SEEDS)
def test_shuffled_is_a_derangement_among_neighbours_by_seed(count, seed):
    soft = torch.arange(float(count))[:, None, None].expand(count, 2, 3)
    moved = derange(soft, seed)[:, 0, 0].int().tolist()
    assert sorted(moved) == list(range(count))  # everyone's soft tokens are given to one other problem
    assert all(0 < abs(mine - other) < NEIGHBOURS for mine, other in enumerate(moved))
    assert moved == partners(count, seed)


@given(seeds=st.lists(SEEDS, min_size=2, max_size=2, unique=True))
def test_shuffled_differs_between_seeds(seeds):
    one, other = (partners(128, seed) for seed in seeds)
    assert one != other
    assert {partners(3, seed)[0] for seed in range(20)} == {1, 2}  # both derangements of three are drawn


def test_shuffled_does_not_depend_on_the_arms_beside_it(models, weights, request_):
    soft = models.soft_tokens(request_, weights)
    for arms in (("shuffled",), ("bridged", "mean", "shuffled")):
        for seed in (0, 7):
            asked = replace(request_, arms=arms, seed=seed)
            placed = ask(asked, models, "shuffled", soft, shots=False).place[0].embeds_BTD
            assert torch.equal(placed, soft[partners(len(soft), seed)])


def test_every_request_with_shuffled_has_the_seed_of_its_trial(trial):
    of = replace(trial, seed=77)
    for arms in (("shuffled",), ("bridged", "shuffled", "zero")):
        assert {one.seed for one in setting_of(of, "dev").requests(arms, prefix="p", size=3)} == {77}
    assert {one.seed for one in requests_for(of, step=1, split="test", arms=("shuffled",))} == {77}


def test_mean_is_that_of_the_other_problems(models, weights, request_):
    soft = models.soft_tokens(request_, weights)
    placed = ask(request_, models, "mean", soft, shots=False).place[0].embeds_BTD
    for i in range(len(soft)):
        others = torch.cat([soft[:i], soft[i + 1 :]]).mean(0)
        torch.testing.assert_close(placed[i], others, rtol=1e-4, atol=1e-6)


def test_random_has_the_targets_scale_and_a_seed_a_problem(models, request_):
    asked = replace(request_, soft_tokens=8)
    target = models.load(request_.target)
    placed = ask(asked, models, "random", None, shots=False).place[0].embeds_BTD
    assert placed.pow(2).mean().sqrt().item() == pytest.approx(target.embedding_rms, rel=0.05)
    assert not torch.allclose(placed[0], placed[1])
    turned = ask(replace(asked, problems=asked.problems[::-1]), models, "random", None, shots=False).place[0].embeds_BTD
    assert torch.equal(turned.flip(0), placed)
    assert torch.equal(noise("a", (2, 3)), noise("a", (2, 3)))


@pytest.mark.parametrize("arm", QUANTISED_ARMS)
def test_quantised_arms_answer_with_what_came_over_the_wire(models, weights, request_, arm):
    form = FORMATS[arm.removeprefix("bridged_")]
    soft = models.soft_tokens(request_, weights)
    asked = ask(request_, models, arm, soft, shots=False)
    assert torch.equal(asked.place[0].embeds_BTD, through_wire(soft, form))
    row = answer(replace(request_, arms=(arm,)), models, weights)[0]
    assert row["wire_bytes"] == row[f"wire_bytes_{arm.removeprefix('bridged_')}"] == wire_bytes(soft.shape[1:], form)


def test_cascade_gives_the_sources_answer_beside_the_question_and_the_other_without_it(models, request_):
    said = tuple(f"it is {i} #### {i}" for i in range(len(request_.problems)))
    asked = replace(request_, translator=None, source_answers=said)
    around = frame(models.load(request_.target), request_.evaluator)
    rows = answer(replace(asked, arms=("cascade", "source_answer_as_text")), models)
    for i, problem in enumerate(request_.problems):
        both = CASCADE.format(question=problem.question, answer=said[i])
        assert by_problem(rows, "cascade")[problem.id]["prompt_hash"] == prompt_hash(around.prompt(both))
        assert by_problem(rows, "source_answer_as_text")[problem.id]["prompt_hash"] == prompt_hash(around.prompt(said[i]))


def test_joint_takes_the_answer_that_both_find_likelier(models, request_):
    count = len(request_.problems)
    right = tuple(problem.rationale for problem in request_.problems)
    wrong = ("there is no way to tell",) * count
    for source_answers, target_answers, winner in ((right, wrong, "source"), (wrong, right, "target")):
        asked = replace(
            request_, arms=("joint",), translator=None, source_answers=source_answers, target_answers=target_answers
        )
        rows = answer(asked, models)
        assert {row["chosen"] for row in rows} == {winner}
        assert all(row["score_strict"] == 1 for row in rows)
    same = replace(request_, arms=("joint",), translator=None, source_answers=right, target_answers=right)
    rows = answer(same, models)
    assert {row["chosen"] for row in rows} == {"target"}
    member = ask(request_, models, "source", None, shots=False), ask(request_, models, "target", None, shots=False)
    scores = []
    for one in member:  # by hand: one problem at a time, log-likelihood a token, summed over the two models
        tokens = [one.around.answer(text) for text in right]
        nll, _ = continuation_nll(one, one.around, tokens)
        scores.append([-n / len(row) for n, row in zip(nll, tokens, strict=True)])
    assert [row["joint_target"] for row in rows] == pytest.approx([a + b for a, b in zip(*scores, strict=True)])


def test_gold_reaches_no_arm_that_passes_answers_on(models, request_):
    """The trap: another gold for the same questions, the same prompts and completions."""
    forged = tuple(replace(p, gold="123456", rationale="nothing\n#### 123456") for p in request_.problems)
    said = tuple(f"#### {i}" for i in range(len(forged)))
    for arms in (("cascade", "source_answer_as_text"), ("joint",)):
        asked = replace(request_, arms=arms, translator=None, source_answers=said, target_answers=said[::-1])
        plain, other = answer(asked, models), answer(replace(asked, problems=forged), models)
        assert [(row["prompt_hash"], row["completion"]) for row in plain] == [
            (row["prompt_hash"], row["completion"]) for row in other
        ]


def test_measures_of_an_arm_are_those_of_its_rows(trial, models, weights, request_):
    target = models.load(trial.target)
    row = answer(replace(request_, arms=("bridged_with_text",)), models, weights)[0]
    problem = next(p for p in request_.problems if p.id == row["problem"])
    around = frame(target, trial.evaluator)
    text = f"{around.before_text} {problem.question}{around.after_text}"
    assert row["prompt_bytes"] == len(text.encode())
    assert row["question_bytes"] == len(problem.question.encode())
    heads, size, layers = 5, 32, 4
    assert row["kv_bytes"] == 2 * layers * heads * size * 2 * (row["prompt_tokens"] + row["soft_tokens"])
    assert row["wire_bytes"] == wire_bytes((trial.translator.soft_tokens, target.width), FORMATS["fp16"])
    source = answer(replace(request_, arms=("target",), translator=None), models)
    assert [one["wire_bytes"] for one in source] == [None] * len(source)  # missing, not zero
    # zero-shot, so the gold's first token is the likeliest exactly where decoding begins with it
    for one, p in zip(source, request_.problems, strict=True):
        assert one["first_token_correct"] == (one["first_token"] == around.answer(p.rationale)[0])
        assert one["no_stop"] is False


def test_training_and_decoding_agree_on_position_0_of_the_answer(models, weights, request_, monkeypatch):
    soft = models.soft_tokens(request_, weights)
    asked = ask(request_, models, "bridged", soft, shots=False)
    check_alignment(asked)
    states = FrozenLM.continuation_states

    def one_late(self, pieces, rows):
        hidden, ids, mask = states(self, pieces, [[*row, row[-1]] for row in rows])
        return hidden[:, 1:], ids[:, 1:], mask[:, 1:]

    monkeypatch.setattr(FrozenLM, "continuation_states", one_late)
    with pytest.raises(AssertionError, match="do not read the first answer token from the same position"):
        check_alignment(asked)


def test_hardening_is_told_in_the_rows_and_in_the_keys(trial, models, weights, request_):
    on = Hardening(anchor="So:", bos=True)
    around = frame(models.load(trial.target), trial.evaluator)
    asked = ask(replace(request_, hardening=on), models, "bridged", models.soft_tokens(request_, weights), shots=False)
    assert asked.around.after_text == around.after_text + " So:"
    assert asked.place[-1].mask_BT.shape[1] == 1
    bos = models.load(trial.target).tokenizer.bos_token_id
    assert torch.equal(asked.place[-1].embeds_BTD[0, 0], models.load(trial.target).embed(torch.tensor(bos)))
    assert {row["arm"] for row in answer(replace(request_, hardening=on), models, weights)} == {"bridged+anchor(So:)+bos"}
    plain = setting_of(trial, "dev")
    assert {plain.key(arm) != replace(plain, hardening=on).key(arm) for arm in ("source", "zero", "cascade")} == {True}


def test_an_anchor_stands_in_front_of_the_answer_that_is_scored(trial, models, request_):
    """Likelihood after the anchor is that of the same text after the same prompt written out by hand."""
    target = models.load(trial.target)
    on = ask(replace(request_, hardening=Hardening(anchor="So:"), translator=None), models, "target", None, shots=False)
    problem = request_.problems[0]
    prompt = f"{on.around.before_text} {problem.question}\nAnswer: So:"
    ids = [target.tokenizer.bos_token_id, *target.tokenize(prompt)]
    by_hand = target.answer_nll([target.text_piece([ids])], [on.around.answer(problem.rationale)]).sum().item()
    nll, _ = continuation_nll(on, on.around, [on.around.answer(p.rationale) for p in request_.problems])
    assert nll[0] == pytest.approx(by_hand, rel=1e-4)


def test_arms_of_a_translator_are_no_frozen_arms(trial):
    assert set(TRANSLATOR_ARMS).isdisjoint(OF_K)
    (one,) = setting_of(trial, "dev").requests(("joint", "zero"), prefix="p")
    with pytest.raises(AssertionError, match="stands in no batch with another arm"):
        answer(one, Models("cpu"))


def test_rows_of_new_arms_make_a_whole_table(trial, models, weights, request_):
    rows = answer(replace(request_, arms=("bridged", "mean", "bridged_int4")), models, weights)
    table = in_order(rows, request_.problems)
    assert table["arm"].tolist() == ["bridged"] * 8 + ["mean"] * 8 + ["bridged_int4"] * 8
