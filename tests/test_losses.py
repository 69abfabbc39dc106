import math

import pytest
import torch

from raybridge.losses import Bridge
from raybridge.losses.contrastive import InfoNCE, info_nce
from raybridge.losses.next_token import AnswerNLL, Reconstruction
from raybridge.step import Batches
from raybridge.world import World

LOSSES = [AnswerNLL(), Reconstruction(), InfoNCE()]


@pytest.fixture
def batches(trial, source, target):
    return Batches(trial, source, target)


def bridge_of(batches, target, problems, soft) -> Bridge:
    return Bridge(
        target=target,
        before=batches.target.before,
        after=batches.target.after,
        after_repeat=batches.repeat.after,
        batch=batches.tokens(problems),
        soft_BKD=soft,
        world=World(),
    )


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


def test_next_token_losses_equal_the_naive_formula(batches, target):
    problems = batches.problems[:5]
    soft = soft_of(target, 5)
    bridge = bridge_of(batches, target, problems, soft)
    for loss, after, rows in (
        (AnswerNLL(), bridge.after, bridge.batch.answers),
        (Reconstruction(), bridge.after_repeat, bridge.batch.repeats),
    ):
        naive = sum(naive_nll(target, soft[i], bridge.before, after, row) for i, row in enumerate(rows))
        assert loss.total(bridge).item() == pytest.approx(naive, rel=1e-4)
        assert loss.count(bridge.batch) == sum(len(row) for row in rows)


def test_only_the_first_tokens_count_where_the_loss_says_so(batches, target):
    problems = batches.problems[:3]
    soft = soft_of(target, 3)
    bridge = bridge_of(batches, target, problems, soft)
    short = AnswerNLL(max_tokens=4)
    naive = sum(naive_nll(target, soft[i], bridge.before, bridge.after, row[:4]) for i, row in enumerate(bridge.batch.answers))
    assert short.total(bridge).item() == pytest.approx(naive, rel=1e-4)
    assert short.count(bridge.batch) == 12


def test_info_nce_equals_the_naive_formula():
    torch.manual_seed(0)
    queries, keys = torch.randn(4, 6).double(), torch.randn(7, 6).double()
    labels = torch.tensor([3, 0, 6, 2])
    naive = 0.0
    for query, label in zip(queries, labels.tolist(), strict=True):
        similar = [(query @ key / query.norm() / key.norm()).item() / 0.07 for key in keys]
        naive += math.log(sum(math.exp(s) for s in similar)) - similar[label]
    assert info_nce(queries, keys, labels, temperature=0.07).item() == pytest.approx(naive, rel=1e-4)


def test_the_trap_a_shared_prefix_makes_all_contrastive_keys_equal(batches, target):
    """Keys pool the question alone, so soft tokens that sit on their own question's mean are told apart."""
    problems = batches.problems[:8]
    bridge = bridge_of(batches, target, problems, soft_of(target, 8))
    pooled = torch.stack([target.embed(torch.tensor(row)).mean(0) for row in bridge.batch.target_questions])
    right = bridge_of(batches, target, problems, pooled[:, None].expand(-1, 5, -1))
    wrong = bridge_of(batches, target, problems, pooled.roll(1, 0)[:, None].expand(-1, 5, -1))
    assert InfoNCE().total(right).item() / 8 < 0.01
    assert InfoNCE().total(wrong).item() / 8 > math.log(8)


@pytest.mark.parametrize("loss", LOSSES[:2], ids=lambda loss: loss.name)
def test_padding_changes_nothing(batches, target, loss):
    """Terms that do not compare across problems: the batch's sum is the sum of the problems alone."""
    problems = sorted(batches.problems[:40], key=lambda p: len(p.question))[::13]
    soft = soft_of(target, len(problems))
    together = loss.total(bridge_of(batches, target, problems, soft)).item()
    alone = [loss.total(bridge_of(batches, target, [p], soft[i : i + 1])).item() for i, p in enumerate(problems)]
    assert together == pytest.approx(sum(alone), rel=1e-5)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_the_trap_a_loss_that_trains_nothing(batches, target, loss):
    soft = soft_of(target, 4)
    loss.total(bridge_of(batches, target, batches.problems[:4], soft)).backward()
    assert soft.grad.flatten(1).norm(dim=1).min() > 0


def test_a_question_is_repeated_with_its_end(batches, target):
    batch = batches.tokens(batches.problems[:2])
    for row, question in zip(batch.repeats, batch.target_questions, strict=True):
        assert row == [*question, target.tokenizer.eos_token_id]


def test_info_nce_starts_after_half_of_warm_up():
    assert InfoNCE().starts(warmup=100) == 50
    assert AnswerNLL().starts(warmup=100) == 0
