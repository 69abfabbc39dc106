"""Arms beyond those of every sweep: what each puts to which model, and what is measured of it."""

from dataclasses import replace

import pytest
import torch
from asking import ask, read_one_late, requests_of, soft_of, with_arms

from raybridge import arms as arm_files
from raybridge.arms import find
from raybridge.arms.controls import partners
from raybridge.arms.passed_on import CASCADE
from raybridge.evaluation.answering import answer, in_order
from raybridge.evaluation.models import Models
from raybridge.evaluation.scoring import check_alignment, continuation_nll
from raybridge.evaluation.setting import setting_of
from raybridge.losses.bridge import Bridge
from raybridge.losses.next_token import ResidualAnswer
from raybridge.models.decode import greedy, stack
from raybridge.models.hardening import Hardening
from raybridge.models.prompts import frame, prompt_hash
from raybridge.training.step import Batches
from raybridge.translators.bottlenecked import evenly
from raybridge.translators.injection import Injection
from raybridge.translators.residual import Residual
from raybridge.translators.soft_tokens import noise
from raybridge.translators.weights import copy_of
from raybridge.translators.wire import FORMATS, through_wire, wire_bytes
from raybridge.world import World


@pytest.fixture
def request_(trial):
    return next(iter(requests_of(trial, "dev", "bridged")))


def by_problem(rows, arm):
    return {row["problem"]: row for row in rows if row["arm"] == arm}


def test_arms_together_answer_as_they_do_alone(trial, models, weights, request_):
    arms = ("bridged", "shuffled", "mean", "bridged_with_text", "bridged_int8", "zero", "random", "no_context")
    together = answer(with_arms(request_, *arms), models, weights)
    for arm in arms:
        alone = answer(with_arms(request_, arm), models, weights)
        for one, other in zip(alone, [row for row in together if row["arm"] == arm], strict=True):
            assert {k: v for k, v in one.items() if k != "seconds"} == {k: v for k, v in other.items() if k != "seconds"}


@pytest.mark.parametrize("scale", [1e-6, 0.5])
def test_a_residuals_soft_tokens_are_added_onto_the_text(trial, models, request_, scale):
    source, target = models.load(trial.source), models.load(trial.target)
    residual = Residual(translator=evenly(trial.translator), scale=scale)
    torch.manual_seed(0)
    weights = copy_of(residual.build(source.width, target.width, target_rms=target.embedding_rms))
    asked_with = with_arms(request_, "bridged", translator=residual)
    rows = answer(with_arms(asked_with, "bridged_with_text", "bridged"), models, weights)
    (plain, added_on, alone) = (
        [row["nll"] for row in answer(with_arms(request_, "target"), models)],
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
    return with_arms(request_, "bridged", translator=injection), copy_of(module)


def test_an_injection_is_judged_as_it_was_trained(trial, models, injected):
    request, weights = injected
    rows = answer(with_arms(request, "bridged", "bridged_with_text"), models, weights)
    source, target = models.load(trial.source), models.load(trial.target)
    batches = Batches(trial, source, target)
    batch = batches.tokens(request.problems)
    bridge = Bridge(
        module=models.module(request.setting, weights),
        states_BTLS=torch.empty(0),
        mask_BT=torch.empty(0),
        soft_BKD=soft_of(models, request, weights),
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
    text = [row["nll"] for row in answer(with_arms(request, "target"), models)]
    assert judged != pytest.approx(text, rel=1e-2)


def test_decoding_sees_an_injected_prompt_as_training_does(models, injected):
    request, weights = injected
    soft = soft_of(models, request, weights)
    asked = {arm: ask(request, models, arm, weights) for arm in ("bridged", "bridged_with_text")}
    check_alignment(asked["bridged_with_text"])
    lm, pieces = asked["bridged"].lm, {arm: list(one.pieces) for arm, one in asked.items()}
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


def test_arms_with_like_prompts_are_decoded_together(trial, models, weights, request_, monkeypatch):
    decoded = []

    def counted(*args, **told):
        decoded.append(len(told["names"]))
        return greedy(*args, **told)

    monkeypatch.setattr("raybridge.evaluation.answering.greedy", counted)
    answer(with_arms(request_, "source", "bridged", "shuffled", "zero"), models, weights)
    assert decoded == [8, 24]


def test_shuffled_does_not_depend_on_the_arms_beside_it(models, weights, request_):
    soft = soft_of(models, request_, weights)
    for arms in (("shuffled",), ("bridged", "mean", "shuffled")):
        for seed in (0, 7):
            asked = with_arms(request_, *arms, seed=seed)
            placed = ask(asked, models, "shuffled", weights).pieces[0].embeds_BTD
            assert torch.equal(placed, soft[partners(len(soft), seed)])


def test_every_request_with_shuffled_has_the_seed_of_its_trial(trial):
    of = replace(trial, seed=77)
    for arms in (("shuffled",), ("bridged", "shuffled", "zero")):
        assert {one.setting.seed for one in requests_of(of, "dev", *arms, size=3)} == {77}


def test_mean_stands_at_the_rms_of_soft_tokens(models, weights, request_):
    soft = soft_of(models, request_, weights)
    placed = ask(request_, models, "mean", weights).pieces[0].embeds_BTD
    for i in range(len(soft)):
        others = torch.cat([soft[:i], soft[i + 1 :]]).mean(0)
        assert torch.cosine_similarity(placed[i], others, dim=-1).min() > 1 - 1e-5
    rms = [one.pow(2).mean(-1).sqrt().median().item() for one in (placed, soft)]
    assert rms == pytest.approx([models.load(request_.setting.target).embedding_rms] * 2, rel=1e-3)


def test_random_has_the_targets_scale_and_a_seed_a_problem(models, request_):
    target = models.load(request_.setting.target)
    placed = ask(request_, models, "random").pieces[0].embeds_BTD
    assert placed.pow(2).mean().sqrt().item() == pytest.approx(target.embedding_rms, rel=0.05)
    assert not torch.allclose(placed[0], placed[1])
    reversed_ = with_arms(request_, "random", problems=request_.problems[::-1])
    turned = ask(reversed_, models, "random").pieces[0].embeds_BTD
    assert torch.equal(turned.flip(0), placed)
    assert torch.equal(noise("a", (2, 3)), noise("a", (2, 3)))


@pytest.mark.parametrize("arm", [arm.name for arm in arm_files.every() if arm.packed])
def test_quantised_arms_answer_with_what_came_over_the_wire(models, weights, request_, arm):
    form = FORMATS[arm.removeprefix("bridged_")]
    soft = soft_of(models, request_, weights)
    asked = ask(request_, models, arm, weights)
    assert torch.equal(asked.pieces[0].embeds_BTD, through_wire(soft, form))
    row = answer(with_arms(request_, arm), models, weights)[0]
    assert row["wire_bytes"] == row[f"wire_bytes_{arm.removeprefix('bridged_')}"] == wire_bytes(soft.shape[1:], form)


def test_cascade_gives_the_sources_answer_beside_the_question_and_the_other_without_it(models, request_):
    said = tuple(f"it is {i} #### {i}" for i in range(len(request_.problems)))
    asked = replace(request_, answers={"source": said})
    around = frame(models.load(request_.setting.target), request_.setting.evaluator)
    rows = answer(with_arms(asked, "cascade", "source_answer_as_text"), models)
    for i, problem in enumerate(request_.problems):
        both = CASCADE.format(question=problem.question, answer=said[i])
        assert by_problem(rows, "cascade")[problem.id]["prompt_hash"] == prompt_hash(around.prompt(both))
        assert by_problem(rows, "source_answer_as_text")[problem.id]["prompt_hash"] == prompt_hash(around.prompt(said[i]))


def test_joint_takes_the_answer_that_both_find_likelier(models, request_):
    count = len(request_.problems)
    right = tuple(problem.rationale for problem in request_.problems)
    wrong = ("there is no way to tell",) * count
    for source_answers, target_answers, winner in ((right, wrong, "source"), (wrong, right, "target")):
        asked = replace(with_arms(request_, "joint"), answers={"source": source_answers, "target": target_answers})
        rows = answer(asked, models)
        assert {row["chosen"] for row in rows} == {winner}
        assert all(row["score_strict"] == 1 for row in rows)
    same = replace(with_arms(request_, "joint"), answers={"source": right, "target": right})
    rows = answer(same, models)
    assert {row["chosen"] for row in rows} == {"target"}
    member = ask(request_, models, "source"), ask(request_, models, "target")
    scores = []
    for one in member:  # by hand: one problem at a time, log-likelihood a token, summed over the two models
        tokens = [one.around.answer(text) for text in right]
        nll, _ = continuation_nll(one, tokens)
        scores.append([-n / len(row) for n, row in zip(nll, tokens, strict=True)])
    assert [row["joint_target"] for row in rows] == pytest.approx([a + b for a, b in zip(*scores, strict=True)])


def test_gold_reaches_no_arm_that_passes_answers_on(models, request_):
    """The trap: another gold for the same questions, the same prompts and completions."""
    forged = tuple(replace(p, gold="123456", rationale="nothing\n#### 123456") for p in request_.problems)
    said = tuple(f"#### {i}" for i in range(len(forged)))
    for arms in (("cascade", "source_answer_as_text"), ("joint",)):
        asked = replace(with_arms(request_, *arms), answers={"source": said, "target": said[::-1]})
        plain, other = answer(asked, models), answer(with_arms(asked, *arms, problems=forged), models)
        assert [(row["prompt_hash"], row["completion"]) for row in plain] == [
            (row["prompt_hash"], row["completion"]) for row in other
        ]


def test_measures_of_an_arm_are_those_of_its_rows(trial, models, weights, request_):
    target = models.load(trial.target)
    row = answer(with_arms(request_, "bridged_with_text"), models, weights)[0]
    problem = next(p for p in request_.problems if p.id == row["problem"])
    around = frame(target, trial.evaluator)
    text = f"{around.before_text} {problem.question}{around.after_text}"
    assert row["prompt_bytes"] == len(text.encode())
    assert row["question_bytes"] == len(problem.question.encode())
    heads, size, layers = 5, 32, 4
    assert row["kv_bytes"] == 2 * layers * heads * size * 2 * (row["prompt_tokens"] + row["soft_tokens"])
    assert row["wire_bytes"] == wire_bytes((trial.translator.soft_tokens, target.width), FORMATS["fp16"])
    source = answer(with_arms(request_, "target"), models)
    assert [one["wire_bytes"] for one in source] == [None] * len(source)  # missing, not zero
    # zero-shot, so the gold's first token is the likeliest exactly where decoding begins with it
    for one, p in zip(source, request_.problems, strict=True):
        assert one["first_token_correct"] == (one["first_token"] == around.answer(p.rationale)[0])
        assert one["no_stop"] is False


def test_training_and_decoding_agree_on_position_0_of_the_answer(models, weights, request_, monkeypatch):
    asked = ask(request_, models, "bridged", weights)
    check_alignment(asked)
    read_one_late(monkeypatch)
    with pytest.raises(AssertionError, match="do not read the first answer token from the same position"):
        check_alignment(asked)


def test_hardening_is_told_in_the_rows_and_in_the_keys(trial, models, weights, request_):
    on = Hardening(anchor="So:", bos=True)
    around = frame(models.load(trial.target), trial.evaluator)
    asked = ask(with_arms(request_, "bridged", hardening=on), models, "bridged", weights)
    assert asked.around.after_text == around.after_text + " So:"
    assert asked.pieces[1].mask_BT.shape[1] == 1
    bos = models.load(trial.target).tokenizer.bos_token_id
    assert torch.equal(asked.pieces[1].embeds_BTD[0, 0], models.load(trial.target).embed(torch.tensor(bos)))
    assert {row["arm"] for row in answer(with_arms(request_, "bridged", hardening=on), models, weights)} == {
        "bridged+anchor(So:)+bos"
    }
    plain = setting_of(trial, "dev")
    for arm in map(find, ("source", "zero", "cascade")):
        assert plain.key(arm) != replace(plain, hardening=on).key(arm)


def test_an_anchor_stands_in_front_of_the_answer_that_is_scored(trial, models, request_):
    """Likelihood after the anchor is that of the same text after the same prompt written out by hand."""
    target = models.load(trial.target)
    on = ask(with_arms(request_, "target", hardening=Hardening(anchor="So:")), models, "target")
    problem = request_.problems[0]
    prompt = f"{on.around.before_text} {problem.question}\nAnswer: So:"
    ids = [target.tokenizer.bos_token_id, *target.tokenize(prompt)]
    by_hand = target.answer_nll([target.text_piece([ids])], [on.around.answer(problem.rationale)]).sum().item()
    nll, _ = continuation_nll(on, [on.around.answer(p.rationale) for p in request_.problems])
    assert nll[0] == pytest.approx(by_hand, rel=1e-4)


def test_an_arm_that_chooses_stands_in_no_batch_with_another(trial):
    (one,) = requests_of(trial, "dev", "joint", "zero")
    with pytest.raises(ValueError, match="too many values"):
        answer(one, Models("cpu"))


def test_rows_of_new_arms_make_a_whole_table(trial, models, weights, request_):
    rows = answer(with_arms(request_, "bridged", "mean", "bridged_int4"), models, weights)
    table = in_order(rows, request_.problems)
    assert table["arm"].tolist() == ["bridged"] * 8 + ["mean"] * 8 + ["bridged_int4"] * 8
