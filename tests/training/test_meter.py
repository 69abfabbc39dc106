"""What soft tokens look like, a number a logged step."""

from __future__ import annotations

import pytest
import torch

from raybridge.training.meter import soft_token_rank


def by_singular_values(soft_BKD, problems=8):
    values = torch.linalg.svdvals(soft_BKD[:problems].flatten(0, 1).double())
    share = values / values.sum()
    return torch.special.entr(share).sum().exp().item()


@pytest.mark.parametrize(("B", "K", "D"), [(10, 8, 128), (3, 16, 32), (2, 4, 5), (8, 64, 96)])
def test_the_rank_is_that_of_the_singular_values(B, K, D):
    soft_BKD = torch.randn(B, K, D, generator=torch.Generator().manual_seed(0)) * torch.logspace(-3, 0, D)
    assert soft_token_rank(soft_BKD) == pytest.approx(by_singular_values(soft_BKD), rel=1e-6)


def test_one_vector_has_rank_one_and_as_many_that_are_at_right_angles_as_there_are():
    one_D = torch.randn(32, generator=torch.Generator().manual_seed(0))
    assert soft_token_rank(one_D.expand(2, 4, 32)) == pytest.approx(1.0, abs=1e-3)
    assert soft_token_rank(torch.eye(32)[:8].view(2, 4, 32)) == pytest.approx(8.0)


def test_of_many_soft_tokens_fewer_problems_are_looked_at():
    soft_BKD = torch.randn(8, 300, 16, generator=torch.Generator().manual_seed(0))
    assert soft_token_rank(soft_BKD) == pytest.approx(by_singular_values(soft_BKD, problems=1), rel=1e-6)
