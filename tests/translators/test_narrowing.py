"""From many soft tokens to few within one training."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from raybridge.training.footprint import footprint_of
from raybridge.training.micro_batches import Cut
from raybridge.training.step import build_trainer
from raybridge.training.workload import check
from raybridge.translators.bottlenecked import Bottlenecked
from raybridge.translators.narrowing import Narrowing
from raybridge.translators.options import Projected
from raybridge.world import World

FOUR = Narrowing(times=4, share=0.5)
NARROWING = Bottlenecked(
    soft_tokens=4, layers=(0, 2), width=32, depth=1, heads=4, picking="mean", free_share=0.25, narrowing=FOUR
)


@pytest.fixture
def states():
    torch.manual_seed(0)
    return torch.randn(2, 20, 2, 16), torch.arange(20) < torch.tensor([[20], [11]])


def test_it_is_halved_at_even_distances_and_ends_before_the_training_does():
    shares = [0.0, 0.24, 0.25, 0.49, 0.5, 0.999]
    assert [FOUR.times_at(done) for done in shares] == [4, 4, 2, 2, 1, 1]
    assert [Narrowing(times=8, share=0.75).times_at(done) for done in (0.0, 0.25, 0.5, 0.75, 1.0)] == [8, 4, 2, 1, 1]


@pytest.mark.parametrize(
    ("fields", "said"),
    [(dict(times=3), "power of two, not 3"), (dict(times=1), "power of two, not 1"), (dict(share=1.0), "below 1, not 1.0")],
)
def test_what_is_no_narrowing_is_refused(fields, said):
    with pytest.raises(ValueError, match=said):
        Narrowing(**fields)


@pytest.mark.parametrize("option", [False, True])
def test_the_module_writes_as_many_as_belong_there_and_k_where_nobody_trains_it(option, states):
    config = Projected(translator=NARROWING) if option else NARROWING
    assert (config.soft_tokens, config.most_soft_tokens) == (4, 16)
    module = config.build(16, 16, target_rms=1.0)
    assert module(*states).shape[1] == 4
    written = []
    for done in (0.0, 0.3, 0.6):
        module.trained_for(done)
        written.append(module(*states).shape[1])
    assert written == [16, 8, 4]


def test_fewer_soft_tokens_have_the_means_of_the_queries_of_those_that_they_were(states):
    module = NARROWING.build(16, 16, target_rms=1.0)
    plain = replace(NARROWING, narrowing=None).build(16, 16, target_rms=1.0)
    own = module.state_dict()
    queries_KW = torch.stack([own["queries_KW"][4 * k : 4 * k + 4].mean(0) for k in range(4)])
    plain.load_state_dict(own | {"queries_KW": queries_KW})
    torch.testing.assert_close(module(*states), plain(*states))


def test_each_step_of_a_trial_reads_as_many_as_belong_there(trial, source, target):
    translator = replace(trial.translator, narrowing=FOUR)
    trainer = build_trainer(
        replace(trial, translator=translator, steps=4, warmup=1), source=source, target=target, world=World()
    )
    read = [trainer.step(step, measure=False, interrupt=False).soft_BKD.shape[1] for step in range(4)]
    assert read == [32, 16, 8, 8]


def test_memory_is_predicted_for_the_most_that_it_writes(trial):
    narrowing, wide = (
        replace(trial, name="tiny", translator=replace(trial.translator, narrowing=one, soft_tokens=k))
        for one, k in ((FOUR, 8), (None, 32))
    )
    two = [footprint_of(one, workers=1, cards=1, states_on_disk=True).worker(Cut(problems=8)) for one in (narrowing, wide)]
    assert two[0]["activations"] == two[1]["activations"]


def test_a_target_must_have_positions_for_the_most_that_it_writes(trial):
    wide = replace(trial, name="tiny", translator=replace(trial.translator, soft_tokens=464, narrowing=FOUR))
    with pytest.raises(ValueError, match=r"soft_tokens 1,856 and .* are too many|positions"):
        check(wide, workers=1)
    check(replace(wide, translator=replace(wide.translator, narrowing=None)), workers=1)


def test_a_halving_comes_at_its_step_whatever_the_floating_point_says():
    sixteen = Narrowing(times=16, share=0.1)
    assert [sixteen.times_at(step / 1200) for step in (29, 30, 59, 60, 89, 90, 119, 120)] == [16, 8, 8, 4, 4, 2, 2, 1]
