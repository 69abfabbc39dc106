"""Texts from elsewhere: soft tokens stand where the question stood, and what is scored is what the pieces make likely."""

from __future__ import annotations

import pytest
import torch
from small_bridge import QUESTIONS

import raybridge
from raybridge.interface.placed import Text, completed, placed, scored
from raybridge.models.pieces import join

SHOTS = "Question: How many is 2 plus 2?\nAnswer: #### 4\n\nQuestion: {}\nAnswer:"


@pytest.fixture(scope="module")
def bridge(run):
    return raybridge.load(run.path, device="cpu")


@pytest.fixture
def texts():
    return [Text(whole=SHOTS.format(question), question=question) for question in QUESTIONS]


def test_soft_tokens_stand_where_the_question_stood(bridge, texts):
    here, lm, soft_BKD = placed(bridge, texts), bridge.reader, bridge.soft_tokens(QUESTIONS)
    whole = join([lm.text_piece([here.shared] * 3), *here.pieces])
    before, after = SHOTS.format("\0").split(" \0")
    naive_TD = [lm.embed(torch.tensor(lm.tokenizer(part).input_ids)) for part in (before,)]
    behind = lm.tokenizer(after, add_special_tokens=False).input_ids
    for row, (length, soft_KD) in enumerate(zip(whole.lengths, soft_BKD, strict=True)):
        naive = torch.cat([naive_TD[0], soft_KD, lm.embed(torch.tensor(behind))])
        torch.testing.assert_close(whole.embeds_BTD[row, :length], naive)


def test_in_the_bridges_own_frame_it_completes_what_the_bridge_answers(bridge):
    own = bridge.evaluator
    asked = f"{own.instruction}\n\n{own.before}{{}}{own.after}" if own.instruction else f"{own.before}{{}}{own.after}"
    texts = [Text(whole=asked.format(question), question=question) for question in QUESTIONS]
    assert completed(bridge, texts, max_new_tokens=own.max_new_tokens, stop=own.stop) == bridge.answer(QUESTIONS)


def test_scores_are_the_models_own_log_likelihoods(bridge, texts):
    lm = bridge.reader
    continuations = [" There are", " 51", completed(bridge, texts[2:], max_new_tokens=3, stop=())[0]]
    here = placed(bridge, texts)
    whole = join([lm.text_piece([here.shared] * 3), *here.pieces])
    for row, (likelihood, greedy) in enumerate(scored(bridge, texts, continuations)):
        ids = lm.tokenizer(SHOTS.format("") + continuations[row], add_special_tokens=False).input_ids
        ids = ids[len(lm.tokenizer(SHOTS.format(""), add_special_tokens=False).input_ids) :]
        told_TD = torch.cat([whole.embeds_BTD[row, : whole.lengths[row]], lm.embed(torch.tensor(ids))])
        logits_TV = lm.model(inputs_embeds=told_TD[None]).logits[0, whole.lengths[row] - 1 : -1].float()
        naive = logits_TV.log_softmax(-1).gather(1, torch.tensor(ids)[:, None]).sum()
        assert likelihood == pytest.approx(float(naive), rel=1e-4)
        assert greedy == (logits_TV.argmax(-1).tolist() == ids)
    assert scored(bridge, texts[2:], continuations[2:])[0][1]


def test_a_question_that_is_not_in_the_text_is_refused():
    with pytest.raises(ValueError, match="does not stand as it is in the text"):
        Text(whole="Question: How many?\nAnswer:", question="How much?")
    assert Text(whole="How many? How many?\n", question=" How many?").start == 10  # the last one
