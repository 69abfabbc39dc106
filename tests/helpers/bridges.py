"""A bridge over made-up soft tokens, and the NLL of an answer without batches: what the tests of losses share."""

from dataclasses import replace

import torch

from raybridge.losses.bridge import Bridge
from raybridge.losses.everyone import Everyone, mean_of_real
from raybridge.translators.prompt_tuning import PromptTuning
from raybridge.translators.residual import Residual
from raybridge.world import World


def bridge_of(batches, target, problems, soft, *, step: int = 1) -> Bridge:
    batch = batches.tokens(problems)
    states, mask = batches.source.lm.hidden_states(batches.source.before, batch.source_questions, (0, 2))
    bridge = Bridge(
        module=Residual(translator=PromptTuning(soft_tokens=5)).build(1, target.width, target_rms=1.0),
        states_BTLS=states,
        mask_BT=mask,
        target=target,
        before=batches.target.before,
        after=batches.target.after,
        after_repeat=batches.repeat.after,
        batch=batch,
        soft_BKD=soft,
        world=World(),
        seed=7,
        step=step,
    )
    return alone(bridge)


def alone(bridge: Bridge) -> Bridge:
    """The bridge of a batch that is one worker's: its problems are everyone."""
    questions = bridge.target.text_piece(bridge.batch.target_questions)
    everyone = Everyone(
        soft_NKD=bridge.soft_BKD,
        questions_ND=mean_of_real(questions.embeds_BTD, questions.mask_BT),
        states_NY=mean_of_real(bridge.states_BTLS.flatten(2), bridge.mask_BT),
    )
    return replace(bridge, gathered=everyone)


def soft_of(target, count: int) -> torch.Tensor:
    torch.manual_seed(3)
    return (torch.randn(count, 5, target.width) * target.embedding_rms).requires_grad_()


def naive_nll(target, soft, before, after, row) -> float:
    """One problem, no padding, fp64 softmax."""
    with torch.no_grad():
        embeds = torch.cat([target.embed(torch.tensor(before)), soft, target.embed(torch.tensor([*after, *row]))])
        logits = target.model(inputs_embeds=embeds[None]).logits[0].double()
    predictions = logits[-len(row) - 1 : -1]
    return -sum(torch.log_softmax(p, 0)[token].item() for p, token in zip(predictions, row, strict=True))
