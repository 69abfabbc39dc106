"""Settings that the research plan fixes: weights of losses, patience, when decodes are looked at and what teaches them."""

from dataclasses import replace

import pytest
import torch
from bridges import bridge_of, naive_nll, soft_of

from raybridge import HOUSE
from raybridge.losses.alignment import PromptAlignment
from raybridge.losses.contrastive import InfoNCE
from raybridge.losses.on_policy import RIGHT, DecodeAware, answered, right
from raybridge.scales import FULL, POCKET
from raybridge.sweep_file import load

PLANNED = ("stability", "loss_ablation", "compression", "sequence_length", "dit")


def trials_of(name: str, scale=FULL):
    return load(HOUSE / "sweeps" / f"{name}.py").trials(scale)


@pytest.mark.parametrize("name", PLANNED)
def test_the_plans_sweeps_have_the_plans_settings(name):
    trials = trials_of(name)
    terms = [loss for trial in trials for loss in trial.losses]
    assert {loss.weight for loss in terms if loss.name == "info_nce"} == {0.05}
    assert {loss.weight for loss in terms if loss.name == "prompt_alignment"} <= {0.001}
    assert {trial.stopping.patience for trial in trials} <= {5, None}
    assert 5 in {trial.stopping.patience for trial in trials}


def test_the_plans_weights_are_the_losses_own():
    assert (InfoNCE().weight, PromptAlignment().weight) == (0.05, 0.001)


def test_the_ablation_looks_at_decodes_once_an_evaluation_and_teaches_the_answer():
    for scale in (FULL, POCKET):
        for trial in trials_of("loss_ablation", scale):
            (loss,) = (loss for loss in trial.losses if loss.name == "decode_aware")
            assert (loss.every, loss.supervision) == (trial.eval_every, "answer")
            assert loss.tokens == trial.evaluator.max_new_tokens


def test_every_loss_stands_in_loss_terms_beside_the_base():
    by_name = {trial.name.split("_s1234")[0]: [loss.name for loss in trial.losses] for trial in trials_of("loss_terms", POCKET)}
    base = by_name["11d_base"]
    added = [names[len(base) :] for names in by_name.values() if len(names) > len(base)]
    assert added == [["first_tokens"], ["hidden_states"], ["format"], ["source_probe"], ["prompt_contrast"]]
    assert by_name["11a_answer"] == ["answer"]


def test_soft_plus_text_is_trained_and_judged_beside_the_text():
    (trial,) = trials_of("soft_plus_text", POCKET)
    assert trial.translator.arm == trial.headline.arm == "bridged_with_text"
    assert trial.losses[0].name == "answer_beside_text"


def test_decodes_that_are_wrong_are_taught_the_worked_answer(batches, target):
    soft = soft_of(target, 3)
    bridge = bridge_of(batches, target, batches.problems[:3], soft)
    nll = [
        naive_nll(target, soft[i].detach(), bridge.before, bridge.after, row) / len(row)
        for i, row in enumerate(bridge.batch.answers)
    ]
    loss = DecodeAware(tokens=8, problems=3, supervision="answer")
    assert right(bridge, 8) == [False] * 3
    assert loss.total(bridge).item() == pytest.approx(sum(nll), rel=1e-4)
    loss.total(bridge).backward()
    assert soft.grad.norm() > 0


def test_a_decode_that_is_right_counts_a_share(batches, target, monkeypatch):
    bridge = bridge_of(batches, target, batches.problems[:3], soft_of(target, 3))
    loss = DecodeAware(tokens=8, problems=3, supervision="answer")
    wrong = loss.total(bridge).item()
    monkeypatch.setattr("raybridge.losses.on_policy.right", lambda bridge, tokens: [True] * len(bridge.soft_BKD))
    assert loss.total(bridge).item() == pytest.approx(RIGHT * wrong)


def test_the_question_as_soft_tokens_is_decoded_right(batches, target):
    """Its own embeddings in the question's place: the target answers as it does to the text."""
    problems = [one for one in batches.problems[:40] if len(batches.tokens([one]).target_questions[0]) == 24][:3]
    ids = torch.tensor(batches.tokens(problems).target_questions)
    bridge = bridge_of(batches, target, problems, target.embed(ids))
    text = replace(bridge, soft_BKD=target.embed(ids))
    assert any(right(text, 96))


def test_what_a_text_gives_as_its_answer():
    assert answered("It is 9+9=18.\n#### 18") == answered(" #### 18\nQuestion: and") == answered("18\nmore") == "18"
    assert answered("It is 9+9=18.") != "18"


def test_the_compression_sweep_compresses_and_marks_what_the_plan_alone_asks_for():
    """A question of GSM8K is 59 tokens of Llama's."""
    by_tokens: dict[int, set[bool]] = {}
    for trial in trials_of("compression"):
        by_tokens.setdefault(trial.translator.soft_tokens, set()).add("_planned_" in trial.name)
    assert {tokens for tokens, marked in by_tokens.items() if marked == {False}} == {4, 8, 12, 16, 24, 32, 48, 64}
    assert {tokens for tokens, marked in by_tokens.items() if marked == {True}} == {128, 256, 512}


def test_a_flow_is_judged_through_the_steps_that_the_sweep_trains_it_through():
    flows = [trial.translator for trial in trials_of("dit", POCKET)]
    found = {(flow.steps(training=True), flow.steps(training=False)) for flow in flows}
    assert found == {(1, 1), (2, 2), (4, 4)}
