"""Losses that set soft tokens beside the question: contrast, alignment, the probe."""

import math
from dataclasses import replace

import pytest
import torch
from bridges import alone, bridge_of, naive_nll, soft_of

from raybridge.losses.alignment import SourceProbe, alignment, left_out_errors
from raybridge.losses.contrastive import InfoNCE, PromptContrast, info_nce
from raybridge.losses.next_token import AnswerNLL


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


def test_info_nce_starts_after_half_of_warm_up():
    assert InfoNCE().starts(warmup=100) == 50
    assert AnswerNLL().starts(warmup=100) == 0


def test_alignment_equals_the_naive_formula():
    torch.manual_seed(0)
    soft, embeds = torch.randn(2, 3, 4), torch.randn(2, 5, 4)
    mask = torch.tensor([[True] * 5, [True, True, False, False, False]])
    similar = torch.nn.functional.cosine_similarity
    long = [1 - similar(soft[0, k], embeds[0, t], dim=0) for k, t in ((0, 0), (1, 2), (2, 4))]
    short = [1 - similar(soft[1, k], embeds[1, k], dim=0) for k in range(2)]
    torch.testing.assert_close(alignment(soft, embeds, mask), torch.stack([sum(long) / 3, sum(short) / 2]))


def test_left_out_errors_equal_fitting_again_without_each_row():
    torch.manual_seed(0)
    x, y = torch.randn(6, 9).double(), torch.randn(6, 2).double()
    gram = (x - x.mean(0)) @ (x - x.mean(0)).T
    gram = gram / gram.diagonal().mean() + 10
    naive = []
    for i in range(6):
        rest = [j for j in range(6) if j != i]
        fitted = torch.linalg.solve(gram[rest][:, rest] + 0.1 * torch.eye(5), y[rest])
        naive.append((y[i] - gram[i, rest] @ fitted).pow(2).mean())
    torch.testing.assert_close(left_out_errors(x, y), torch.stack(naive))


def test_the_source_probe_knows_soft_tokens_that_say_something(batches, target):
    problems = batches.problems[:24]
    bridge = bridge_of(batches, target, problems, soft_of(target, 24))
    pooled = (bridge.states_BTLS.flatten(2) * bridge.mask_BT[..., None]).sum(1) / bridge.mask_BT.sum(1)[:, None]
    telling = alone(replace(bridge, soft_BKD=pooled.unsqueeze(1)))
    assert SourceProbe().total(telling).item() / 24 < 0.5
    assert SourceProbe().total(bridge).item() / 24 > 0.9


def test_prompt_contrast_equals_the_naive_formula(batches, target):
    soft = soft_of(target, 3)
    bridge = bridge_of(batches, target, batches.problems[:3], soft)
    naive = 0.0
    for i, row in enumerate(bridge.batch.answers):
        nll = [naive_nll(target, soft[j % 3], bridge.before, bridge.after, row[:10]) / 10 for j in (i, i + 1)]
        naive += math.log1p(math.exp(0.5 - (nll[1] - nll[0])))
    assert PromptContrast(margin=0.5, max_tokens=10).total(bridge).item() == pytest.approx(naive, rel=1e-4)


def test_a_text_without_an_answer_is_contrasted_with_nothing(batches, target):
    bridge = bridge_of(batches, target, batches.problems[:3], soft_of(target, 3))
    batch = replace(bridge.batch, answers=[*bridge.batch.answers[:2], []])
    without = replace(bridge, batch=batch)
    loss = PromptContrast(max_tokens=10)
    assert loss.count(batch) == 2
    naive = 0.0
    for i, row in enumerate(batch.answers[:2]):
        own, other = (naive_nll(target, bridge.soft_BKD[j], bridge.before, bridge.after, row[:10]) / 10 for j in (i, i + 1))
        naive += math.log1p(math.exp(1 - (other - own)))
    assert loss.total(without).item() == pytest.approx(naive, rel=1e-4)
