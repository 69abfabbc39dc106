"""What graphs give on a card, beside what passes give there and in fp32."""

import pytest
import torch

from raybridge.models import lm as lms
from raybridge.models import recording
from raybridge.models.prefill import lend

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="a GPU")
ROWS = [[5, 6, 7, 8, 9], [10, 11], [], [12, 13, 14]]
CUE = [3, 4]


def of_rows(lm, lent, asked):
    """The NLL of each soft prompt's rows, and the gradients of two of them."""
    return [of_one(lm, lent, soft, rows) for soft, rows in asked]


def of_one(lm, lent, soft, rows):
    """Of one soft prompt; a pass whose gradient may still be asked for would hold the place of the next."""
    nll = lm.answer_nll([lm.soft_piece(soft), lm.text_piece([CUE] * 4)], rows, lent=lent)
    return [nll.detach(), *(torch.autograd.grad(nll[row].sum(), soft, retain_graph=True)[0] for row in (0, 3))]


def asked_of(lm, exemplars):
    """What is lent to a model on a GPU, and soft prompts with rows of two lengths."""
    torch.manual_seed(0)
    lent = lend(lm, list(range(5, 60)), longest=64) if exemplars else None
    softs = [(torch.randn(4, 3, lm.width, device="cuda") * lm.embedding_rms).requires_grad_() for _ in range(4)]
    return lent, list(zip(softs, (ROWS, [row * 30 for row in ROWS]) * 2, strict=True))


def replayed(lm, lent, asked):
    """The same from recordings."""
    with lm.recording():
        for _ in range(2):
            found = of_rows(lm, lent, asked)
        assert len(lm._recorder.recordings) == 2
        assert not lm._recorder.refused
    return found


@pytest.mark.parametrize("exemplars", [False, True])
def test_on_a_gpu_graphs_give_what_passes_give(exemplars, monkeypatch):
    monkeypatch.setattr(recording, "RUNS", 0)
    lm = lms.load("pocket:target", device="cuda")
    assert lm.packs
    monkeypatch.setattr(lm, "_run_in_few", lm._run_packed)
    lent, asked = asked_of(lm, exemplars)
    wanted = of_rows(lm, lent, asked)
    for one, other in zip(replayed(lm, lent, asked), wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=0.05, atol=0.02)


@pytest.mark.parametrize("exemplars", [False, True])
def test_on_a_gpu_few_kernels_are_as_near_to_fp32_as_many(exemplars, monkeypatch):
    monkeypatch.setattr(recording, "RUNS", 0)
    lm, exact = (lms.load("pocket:target", device="cuda", dtype=dtype) for dtype in (torch.bfloat16, torch.float32))
    lent, asked = asked_of(lm, exemplars)
    wanted = of_rows(exact, asked_of(exact, exemplars)[0], asked)
    many, few = [distances(found, wanted) for found in (of_rows(lm, lent, asked), replayed(lm, lent, asked))]
    for one, other in zip(few, many, strict=True):
        assert one <= 1.5 * other


def test_on_a_gpu_a_pass_that_asks_the_device_is_run_as_it_is_and_what_it_met_is_said(monkeypatch, caplog):
    monkeypatch.setattr(recording, "RUNS", 0)
    lm = lms.load("pocket:target", device="cuda")
    run, stream = lm._run_packed, torch.cuda.current_stream()

    def asking(given, wanted):
        found = run(given, wanted)
        assert found[0].sum().isfinite().item()
        return found

    lent, asked = asked_of(lm, False)
    wanted = of_rows(lm, lent, asked)
    with lm.recording():
        lm._recorder.run = lm._recorder.recorded = asking
        found = of_rows(lm, lent, asked)
        assert "capturing" in lm._recorder.refused
    assert torch.cuda.current_stream() == stream
    assert caplog.text.count("passes are run as they are from here on") == 1
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=0.05, atol=0.02)


def distances(found, wanted):
    """How far, relative to their norm, values and gradients are, each over all that was asked."""
    each = [[torch.cat([one.flatten() for one in of_all]) for of_all in zip(*said, strict=True)] for said in (found, wanted)]
    return [((one - other).norm() / other.norm()).item() for one, other in zip(*each, strict=True)]
