"""Numbers that are read off logits: values and gradients as by the whole table of logits, kept and differentiated at once."""

import pytest
import torch
import torch.nn.functional as F

from raybridge.losses.distillation import kl
from raybridge.models import vocabulary
from raybridge.models.vocabulary import per_row, token_nll

N, D, V = 11, 6, 23


def rows_of(seed: int = 0) -> tuple[torch.Tensor, ...]:
    """States, a teacher's, a head's weights and ids."""
    told = torch.Generator().manual_seed(seed)
    states, teacher = torch.randn(2, N, D, generator=told, dtype=torch.float64).unbind(0)
    weights = torch.randn(V, D, generator=told, dtype=torch.float64)
    return states.clone().requires_grad_(), teacher, weights, torch.randint(V, (N,), generator=told)


@pytest.mark.parametrize("chunk", [4, N, 100])
def test_nll_and_kl_have_the_values_and_gradients_of_all_logits_at_once(chunk, monkeypatch):
    monkeypatch.setattr(vocabulary, "CHUNK", chunk)
    monkeypatch.setattr(vocabulary, "LOGITS", 0)
    states, teacher, weights, ids = rows_of()
    shares = torch.linspace(-1, 2, N, dtype=torch.float64)  # each row counts otherwise: a gradient by rows must stay in its row
    nll = per_row(lambda some, of: F.cross_entropy(some @ weights.T, of, reduction="none"), states, ids, vocabulary=V)
    loss = per_row(
        lambda some, taught: kl(taught @ weights.T, some @ weights.T, temperature=2.0), states, teacher, vocabulary=V
    )
    ((nll + 0.5 * loss) * shares).sum().backward()
    plain = states.detach().clone().requires_grad_()
    logits, taught = plain @ weights.T, teacher @ weights.T
    q, p = (logits / 2).softmax(-1), (taught / 2).softmax(-1)
    wanted = F.cross_entropy(logits, ids, reduction="none"), 4 * (p * (p / q).log()).sum(-1)
    torch.testing.assert_close((nll, loss), wanted)
    ((wanted[0] + 0.5 * wanted[1]) * shares).sum().backward()
    torch.testing.assert_close(states.grad, plain.grad)


def test_each_of_two_objectives_goes_back_by_itself(monkeypatch):
    monkeypatch.setattr(vocabulary, "CHUNK", 4)
    monkeypatch.setattr(vocabulary, "LOGITS", 0)
    states, _, weights, ids = rows_of()
    nll = per_row(lambda some, of: F.cross_entropy(some @ weights.T, of, reduction="none"), states, ids, vocabulary=V)
    (once,) = torch.autograd.grad(nll.sum(), states, retain_graph=True)
    (twice,) = torch.autograd.grad(2 * nll.sum(), states)
    torch.testing.assert_close(2 * once, twice)


def test_nothing_is_differentiated_where_no_gradient_is_wanted():
    states, _, weights, ids = rows_of()
    seen = []

    def found(some, of):
        seen.append(torch.is_grad_enabled())
        return token_nll(some @ weights.T, of)

    with torch.no_grad():
        assert not per_row(found, states, ids, vocabulary=V).requires_grad
    assert not per_row(found, states.detach(), ids, vocabulary=V).requires_grad
    assert seen == [False, False]


def test_no_rows_have_no_values_and_a_gradient_of_nothing():
    states, _, weights, ids = rows_of()
    none = states[:0]
    nll = per_row(lambda some, of: token_nll(some @ weights.T, of), none, ids[:0], vocabulary=V)
    assert nll.shape == (0,)
    nll.sum().backward()
    assert states.grad.abs().sum() == 0


def test_half_precision_is_read_in_single():
    states, _, weights, ids = rows_of()
    logits = (states.detach() @ weights.T).bfloat16()
    nll = token_nll(logits, ids)
    assert nll.dtype == torch.float32
    torch.testing.assert_close(nll, F.cross_entropy(logits.float(), ids, reduction="none"))
    assert kl(logits, logits.flip(0), temperature=1.0).dtype == torch.float32


def test_a_chunk_has_as_many_rows_as_its_logits_have_room_for():
    assert [vocabulary.rows_at_once(V) for V in (262_144, 128_256, 49_152, 32_768)] == [2048, 2048, 5376, 8192]
