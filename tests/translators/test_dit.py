"""The diffusion translators and their loss: noise, steps, guidance, conditioning, and what must not leak."""

from dataclasses import replace

import pytest
import torch

from raybridge.losses.bridge import Bridge
from raybridge.losses.flow import Flow, flow_error
from raybridge.losses.next_token import AnswerNLL
from raybridge.training.batches import Batches
from raybridge.training.step import build_trainer
from raybridge.translators.dit import DiT
from raybridge.translators.hybrid_dit import HybridDiT
from raybridge.translators.noise import NoiseField
from raybridge.translators.prompt_tuning import PromptTuning
from raybridge.world import World

SMALL = DiT(soft_tokens=5, layers=(0, 2), width=32, depth=2, heads=4)
both = pytest.mark.parametrize("config", [SMALL, HybridDiT(**vars(SMALL))], ids=lambda config: type(config).__name__)


def asleep(config, source, target):
    torch.manual_seed(0)
    return config.build(source.width, target.width, target_rms=target.embedding_rms)


def awake(config, source, target):
    module = asleep(config, source, target)
    for p in module.parameters():
        if not p.any():
            torch.nn.init.normal_(p, std=0.2)
    return module


@pytest.fixture
def batches(trial, source, target):
    return Batches(trial, source, target)


def read(batches, problems):
    rows = batches.tokens(problems).source_questions
    return batches.source.lm.hidden_states(batches.source.before, rows, SMALL.layers)


def bridge_of(batches, target, module, problems, *, step: int = 1, soft=None) -> Bridge:
    states, mask = read(batches, problems)
    return Bridge(
        module=module,
        states_BTLS=states,
        mask_BT=mask,
        soft_BKD=module(states, mask) if soft is None else soft,
        target=target,
        before=batches.target.before,
        after=batches.target.after,
        after_repeat=batches.repeat.after,
        batch=batches.tokens(problems),
        world=World(),
        seed=7,
        step=step,
    )


@both
def test_the_trap_sampling_noise_without_a_seed(config, batches, source, target):
    """The same weights score the same: whatever torch's random state, alone or in a padded batch, read through the model."""
    module = awake(config, source, target).eval()
    problems = sorted(batches.problems[:30], key=lambda p: len(p.question))[::6]
    torch.manual_seed(1)
    together = module(*read(batches, problems))
    torch.manual_seed(2)
    assert torch.equal(together, module(*read(batches, problems)))
    rebuilt = config.build(source.width, target.width, target_rms=target.embedding_rms).eval()
    rebuilt.load_state_dict(module.state_dict())
    assert torch.equal(together, rebuilt(*read(batches, problems)))
    for i, problem in enumerate(problems):
        torch.testing.assert_close(module(*read(batches, [problem]))[0], together[i], rtol=1e-4, atol=1e-5)


def test_noise_is_standard_normal_and_another_one_for_every_question(batches, source, target):
    field = NoiseField(2 * source.width, 8, target.width, seed=0)
    states, mask = read(batches, batches.problems[:60])
    noise = field(states.flatten(2), mask).flatten(1)
    assert noise.mean().abs() < 0.02
    assert abs(noise.std() - 1) < 0.05
    correlation = torch.corrcoef(noise) - torch.eye(60)
    assert correlation.abs().mean() < 0.3
    assert correlation.max() < 0.98
    other = NoiseField(2 * source.width, 8, target.width, seed=1)(states.flatten(2), mask).flatten(1)
    assert torch.corrcoef(torch.stack([noise[0], other[0]]))[0, 1].abs() < 0.2


@both
def test_blocks_start_closed_and_the_flow_at_rest(config, batches, source, target):
    module = asleep(config, source, target)
    states, mask = read(batches, batches.problems[:4])
    noise = module.noise(states.flatten(2), mask)
    assert not module.velocity(noise, torch.zeros(4), module.condition(states, mask)).any()
    x = torch.randn(4, 5, config.width)
    assert torch.equal(module.blocks[0](x, torch.randn(4, config.width), module.condition(states, mask)), x)


@both
def test_training_and_evaluation_have_their_own_steps(config, batches, source, target):
    module = awake(replace(config, train_steps=3, eval_steps=5), source, target)
    states, mask = read(batches, batches.problems[:2])
    asked = []
    velocity = module.velocity
    module.velocity = lambda x, time, condition: (asked.append(time[0].item()), velocity(x, time, condition))[1]
    module.train()(states, mask)
    assert asked == pytest.approx([0, 1 / 3, 2 / 3])
    asked.clear()
    module.eval()(states, mask)
    assert asked == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])


@both
def test_soft_tokens_are_judged_through_the_steps_that_they_were_trained_through(config, batches, source, target):
    module = awake(replace(config, train_steps=3, eval_steps=None), source, target)
    states, mask = read(batches, batches.problems[:2])
    assert torch.equal(module.eval()(states, mask), module.train()(states, mask))
    assert type(config)(soft_tokens=4, layers=(0,)).eval_steps is None


@both
def test_guidance_extrapolates_from_the_dropped_condition(config, batches, source, target):
    module = awake(replace(config, eval_steps=1, guidance=3.0), source, target).eval()
    states, mask = read(batches, batches.problems[:3])
    noise, condition, start = module.noise(states.flatten(2), mask), module.condition(states, mask), torch.zeros(3)
    told = module.velocity(noise, start, condition)
    untold = module.velocity(noise, start, module.dropped(condition, torch.ones(3, dtype=torch.bool)))
    x = noise + untold + 3 * (told - untold)
    expected = x / x.pow(2).mean(-1, keepdim=True).sqrt() * target.embedding_rms
    torch.testing.assert_close(module(states, mask), expected, rtol=1e-4, atol=1e-5)


@both
def test_a_dropped_condition_knows_nothing_of_the_question(config, batches, source, target):
    module = awake(config, source, target)
    x, time, gone = torch.randn(1, 5, target.width), torch.tensor([0.3]), torch.tensor([True])
    velocities = []
    for problem in batches.problems[:2]:
        condition = module.condition(*read(batches, [problem]))
        velocities.append(module.velocity(x, time, module.dropped(condition, gone)))
    torch.testing.assert_close(velocities[0], velocities[1])


def test_only_the_hybrid_tells_questions_apart_that_pool_alike(batches, source, target):
    states, mask = read(batches, batches.problems[:1])
    x, time = torch.randn(1, 5, target.width), torch.tensor([0.3])
    differences = []
    for config in (SMALL, HybridDiT(**vars(SMALL))):
        module = awake(config, source, target)
        condition = module.condition(states, mask)
        other = replace(condition, memory_BTW=torch.randn_like(condition.memory_BTW))
        differences.append((module.velocity(x, time, condition) - module.velocity(x, time, other)).abs().max().item())
    assert differences[0] == 0
    assert differences[1] > 1e-3


def test_flow_error_equals_the_naive_formula():
    torch.manual_seed(0)
    velocity, teacher, noise = (torch.randn(2, 3, 4).double() for _ in range(3))
    real = torch.tensor([[True, True, True], [True, False, False]])
    naive = []
    for b, count in ((0, 3), (1, 1)):
        errors = [((velocity[b, k, d] - teacher[b, k, d] + noise[b, k, d]) ** 2).item() for k in range(count) for d in range(4)]
        naive.append(sum(errors) / (4 * count))
    assert flow_error(velocity, teacher, noise, real).tolist() == pytest.approx(naive)


@pytest.mark.parametrize("teacher", ["prompt", "answer"])
@both
def test_the_flow_loss_reaches_the_weights_and_is_the_naive_one(config, teacher, batches, source, target):
    module, problems = awake(config, source, target), batches.problems[:3]
    loss = Flow(teacher=teacher, condition_dropout=0.5)
    bridge = bridge_of(batches, target, module, problems)
    value = loss.total(bridge)
    value.backward()
    for name in ("out.weight", "read_tokens.weight", "null_W", "reader.read.weight", "time.0.weight"):
        assert module.get_parameter(name).grad.abs().sum() > 0, name
    noise, times, withheld = loss.draws(bridge)
    naive = 0.0
    for i in range(3):
        row = (bridge.batch.target_questions if teacher == "prompt" else bridge.batch.answers)[i]
        picked = [row[int(k * (len(row) - 1) / 4 + 0.5)] for k in range(5)]
        tokens = target.embed(torch.tensor(picked))
        tokens = tokens / tokens.pow(2).mean(-1, keepdim=True).sqrt()
        x = (1 - times[i]) * noise[i] + times[i] * tokens
        condition = module.condition(*read(batches, [problems[i]]))
        condition = module.dropped(condition, withheld[i : i + 1])
        velocity = module.velocity(x[None], times[i : i + 1], condition)[0]
        naive += (velocity - (tokens - noise[i])).pow(2).mean().item()
    assert value.item() == pytest.approx(naive, rel=1e-3)


def test_padding_changes_nothing_in_the_flow_loss(batches, source, target):
    module = awake(SMALL, source, target)
    problems = sorted(batches.problems[:20], key=lambda p: len(p.question))[::6]
    bridge = bridge_of(batches, target, module, problems)
    filled = replace(bridge, states_BTLS=torch.where(bridge.mask_BT[..., None, None], bridge.states_BTLS, 1e3))
    assert Flow().total(filled).item() == pytest.approx(Flow().total(bridge).item(), rel=1e-6)


def test_draws_differ_by_step_and_seed_and_not_by_worker(batches, source, target):
    bridge = bridge_of(batches, target, awake(SMALL, source, target), batches.problems[:4])
    whole = Flow().draws(bridge)
    shares = [[3, 0], [1, 2]]  # whichever of them a worker has
    halves = [
        Flow().draws(
            replace(bridge, soft_BKD=bridge.soft_BKD[:2], batch=bridge.batch.only(rows), world=World(rank=rank, size=2))
        )
        for rank, rows in enumerate(shares)
    ]
    for one, parts in zip(whole, zip(*halves, strict=True), strict=True):
        assert torch.equal(one[[place for rows in shares for place in rows]], torch.cat(parts))
    assert not torch.equal(Flow().draws(replace(bridge, step=2))[0], whole[0])
    assert not torch.equal(Flow().draws(replace(bridge, seed=8))[0], whole[0])


@both
def test_the_trap_teacher_answers_leak_into_the_soft_tokens_that_are_judged(config, trial, source, target):
    """In a step that trains on answer embeddings, soft tokens are the same whatever the answers are."""
    whole = replace(trial, translator=config, losses=(AnswerNLL(), Flow(teacher="answer")))
    trainer = build_trainer(whole, source=source, target=target, world=World())
    problems = trainer.batches.problems[:4]
    batch = trainer.batches.tokens(problems)
    other = replace(batch, answers=list(reversed(batch.answers)), repeats=list(reversed(batch.repeats)))
    assert torch.equal(
        trainer.bridge(batch, 0, trainer.trial.losses).soft_BKD, trainer.bridge(other, 0, trainer.trial.losses).soft_BKD
    )
    assert Flow(teacher="answer").total(trainer.bridge(batch, 0, trainer.trial.losses)) != Flow(teacher="answer").total(
        trainer.bridge(other, 0, trainer.trial.losses)
    )


def test_what_is_no_flow_is_refused_by_name(batches, target):
    module = PromptTuning(soft_tokens=5).build(1, target.width, target_rms=1.0)
    with pytest.raises(ValueError, match=r"loss flow needs a translator that is a flow \(DiT, HybridDiT\), not PromptTuning"):
        Flow().total(bridge_of(batches, target, module, batches.problems[:2]))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: Flow(teacher="answers"),
            r"teacher must be one of 'prompt', 'answer' \(did you mean 'answer'\?\), not 'answers'",
        ),
        (lambda: Flow(condition_dropout=1.0), "condition_dropout must lie in 0..1"),
        (lambda: replace(SMALL, guidance=0.5), "guidance must be at least 1"),
        (lambda: replace(SMALL, eval_steps=0), "eval_steps must be at least 1"),
        (
            lambda: replace(SMALL, pooling="max"),
            r"pooling must be one of 'mean', 'attention' \(did you mean 'mean'\?\), not 'max'",
        ),
        (lambda: replace(SMALL, width=33), "width 33 must be a multiple of heads 4"),
    ],
)
def test_a_flow_checks_itself(make, said):
    with pytest.raises(ValueError, match=said):
        make()
