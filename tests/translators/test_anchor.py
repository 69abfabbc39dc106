"""What a translator starts with in closed form: which source positions its soft tokens stand for, and what it says of them."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raybridge.losses.alignment import PromptAlignment
from raybridge.models.prompts import frame
from raybridge.scales import POCKET
from raybridge.training.fitting import fit
from raybridge.training.step import build_trainer
from raybridge.translators.anchor import Anchor, Salience, one_hot, picks
from raybridge.translators.bottlenecked import Bottlenecked, evenly
from raybridge.translators.linear import Linear
from raybridge.translators.residual import Residual
from raybridge.translators.ridge import Moments
from raybridge.world import World


def test_ridge_is_least_squares_with_a_penalty_on_centred_features():
    torch.manual_seed(0)
    x, y = torch.randn(40, 3).double(), torch.randn(40, 2).double()
    weight, bias = Moments.of(x, y=y).ridge("y", penalty=0.1)
    centred = x - x.mean(0)
    strength = 0.1 * (centred.T @ centred).diagonal().mean()
    rows = torch.cat([centred, strength.sqrt() * torch.eye(3)])  # the penalty as three more rows that should map to zero
    naive = torch.linalg.lstsq(rows, torch.cat([y - y.mean(0), torch.zeros(3, 2)])).solution.T
    torch.testing.assert_close(weight, naive)
    torch.testing.assert_close(bias, y.mean(0) - x.mean(0) @ naive.T)


def test_a_ridge_of_parts_is_that_of_the_whole_far_from_zero_too():
    torch.manual_seed(0)
    x, y = torch.randn(90, 4) + 20, torch.randn(90, 3) - 7
    parts = Moments()
    for rows in (slice(0, 1), slice(1, 50), slice(50, 90)):
        parts.add(x[rows], {"y": y[rows], "first": y[rows, :1]})
    whole = Moments.of(x, y=y)
    for part, of_whole in zip(parts.ridge("y"), whole.ridge("y"), strict=True):
        torch.testing.assert_close(part, of_whole, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(parts.ridge("first")[0], whole.ridge("y")[0][:1], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(parts.rms("y"), y.double().square().mean().sqrt())


@given(st.lists(st.integers(1, 30), min_size=1, max_size=4), st.integers(1, 12), st.integers(0, 9))
def test_the_positions_that_tell_most_are_picked_in_their_order(lengths, K, pads):
    T = max(lengths) + pads
    mask = torch.arange(T) < torch.tensor(lengths).unsqueeze(1)
    states = torch.randn(len(lengths), T, 5)
    salience = Salience(5)
    salience.fit(Moments.of(torch.randn(50, 5), nll=torch.randn(50, 1)))
    chosen, real = salience.picks(states, mask, K)
    for row, n in enumerate(lengths):
        if n <= K:
            assert chosen[row].tolist() == [min(k, n - 1) for k in range(K)]
            assert real[row].tolist() == [k < n for k in range(K)]
        else:
            told = (states[row, :n] @ salience.weight_S).tolist()
            assert chosen[row].tolist() == sorted(sorted(range(n), key=told.__getitem__)[-K:])
            assert real[row].all()


def test_evenly_picked_positions_hold_the_first_and_the_last():
    chosen, real = picks(torch.tensor([9, 2]), 3)
    assert chosen.tolist() == [[0, 4, 8], [0, 1, 1]]
    assert real.tolist() == [[True, True, True], [True, True, False]]


@pytest.fixture
def trainer(source, target):
    translator = Bottlenecked(
        soft_tokens=8, layers=(0, 1, 2, 4), width=32, depth=1, heads=2, picking="salient", free_share=0.25
    )
    trial = replace(POCKET.trial, translator=translator)
    return build_trainer(trial, source=source, target=target, world=World(device=torch.device("cpu")))


def test_salience_is_fitted_to_the_nll_of_each_token(trainer, source, target):
    fit(trainer.module, trainer.batches, problems=200)
    held_out = trainer.batches.problems[300:340]
    around = frame(target, POCKET.trial.evaluator)
    told, guessed = [], []
    for problem in held_out:
        row = trainer.batches.source.question(problem.question)
        states, _ = source.hidden_states(trainer.batches.source.before, [row], trainer.trial.translator.layers)
        text = around.question(problem.question)
        with torch.no_grad():
            logits = target.model(torch.tensor([[*around.before, *text]])).logits[0, len(around.before) - 1 : -1]
        nll = torch.nn.functional.cross_entropy(logits, torch.tensor(text), reduction="none")
        ours, theirs = (side.question_ends([problem.question])[0] for side in (trainer.batches.source, trainer.batches.target))
        both = sorted(set(ours) & set(theirs))  # tokens that end at the same character
        told.append(nll[[theirs.index(end) for end in both]])
        guessed.append((states.flatten(2)[0] @ trainer.module.salience.weight_S)[[ours.index(end) for end in both]])
    assert torch.corrcoef(torch.stack([torch.cat(told), torch.cat(guessed)]))[0, 1] > 0.5


def test_free_soft_tokens_stand_for_no_position(trainer, source):
    module = trainer.module.eval()
    fit(trainer.module, trainer.batches, problems=64)
    torch.nn.init.zeros_(module.out.weight)  # what is left is what the anchor says
    states, mask = torch.randn(2, 20, 4, source.width), torch.ones(2, 20, dtype=torch.bool)
    with torch.no_grad():
        soft = module(states, mask)
    assert soft[:, 6:].eq(0).all()
    assert soft[:, :6].norm(dim=-1).gt(0).all()
    weights = module.standing(states.flatten(2), mask)
    assert weights.shape == (2, 6, 20)
    assert weights.sum(-1).eq(1).all()


@pytest.mark.parametrize("translator", [Linear(soft_tokens=4, layers=(0,)), Bottlenecked(soft_tokens=4, layers=(0,), width=8)])
def test_a_learning_rate_means_the_same_for_every_embedding_rms(translator):
    states, mask, embeddings = torch.randn(2, 9, 1, 5), torch.ones(2, 9, dtype=torch.bool), torch.randn(50, 6)
    features = torch.randn(50, 5)

    def trained(rms: float, steps: int = 3) -> torch.Tensor:
        torch.manual_seed(0)
        module = translator.build(5, 6, target_rms=rms)
        module.anchor.fit(Moments.of(features, embeddings=rms * embeddings))
        optimizer = torch.optim.AdamW(module.parameter_groups(learning_rate=0.01, weight_decay=0.1))
        for _ in range(steps):
            optimizer.zero_grad()
            (module(states, mask) / rms - 1).square().sum().backward()
            optimizer.step()
        return module(states, mask) / rms

    torch.testing.assert_close(trained(0.01), trained(1.0), rtol=1e-3, atol=1e-4)
    assert not trained(1.0).allclose(trained(1.0, steps=0), atol=0.1)


@given(st.integers(1, 30), st.integers(1, 12))
def test_a_resampler_of_means_starts_from_the_mapped_mean_of_each_window(length, P):
    torch.manual_seed(length)
    module = Bottlenecked(soft_tokens=P, layers=(0,), width=8, depth=1, heads=2, picking="mean").build(5, 6, target_rms=1.0)
    module.anchor.fit(Moments.of(torch.randn(50, 5), embeddings=torch.randn(50, 6)))
    torch.nn.init.zeros_(module.out.weight)  # what is left is what the anchor says
    states = torch.randn(1, length, 1, 5)
    with torch.no_grad():
        soft = module(states, torch.ones(1, length, dtype=torch.bool))[0]
        for k in range(P):
            inside = states[0, k * length // P : -(-(k + 1) * length // P), 0] if length > P else states[0, k : k + 1, 0]
            said = module.anchor.map(inside.mean(0)) if len(inside) else torch.zeros(6)
            torch.testing.assert_close(soft[k], torch.nn.functional.rms_norm(said, (6,), eps=1e-12), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fields", [dict(picking="salient"), dict(free_share=0.5)])
def test_soft_tokens_that_stand_elsewhere_are_not_placed_evenly(fields):
    translator = Bottlenecked(soft_tokens=4, layers=(0,), width=8, depth=1, heads=2, **fields)
    with pytest.raises(ValueError, match="adds soft token k at the k-th of evenly spaced tokens"):
        Residual(translator=translator).build(5, 6, target_rms=1.0)
    Residual(translator=evenly(translator)).build(5, 6, target_rms=1.0)


def test_prompt_alignment_refuses_soft_tokens_that_stand_elsewhere(trainer):
    losses = (PromptAlignment(),)
    batch = trainer.batches.tokens(trainer.batches.problems[:3])
    with pytest.raises(ValueError, match="loss prompt_alignment pulls soft token k towards the k-th"):
        losses[0].total(trainer.bridge(batch, 0, losses))


def test_an_anchor_that_is_not_fitted_says_nothing():
    chosen, real = picks(torch.tensor([5]), 3)
    mask = torch.ones(1, 5, dtype=torch.bool)
    assert Anchor(4, 6)(one_hot(chosen, real, mask), torch.randn(1, 5, 4)).eq(0).all()


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (dict(picking="salien"), "did you mean 'salient'"),
        (dict(anchored=False, picking="salient"), "picks nothing"),
        (dict(anchored=False, free_share=0.5), "picks nothing"),
        (dict(free_share=1.0), "below 1, not 1.0"),
    ],
)
def test_a_picking_that_cannot_be_is_refused(fields, sentence):
    with pytest.raises(ValueError, match=sentence):
        Bottlenecked(soft_tokens=4, layers=(0,), **fields)
