"""Every loss: parity with a naive formula, masks, gradients, weights; then the trap each is built around."""

import math
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import pairwise
from unittest import mock

import pytest
import torch

from raybridge.config import rebuild, resolve
from raybridge.decode import greedy
from raybridge.losses import SHARED_TOKENS, Bridge, active, period
from raybridge.losses.alignment import PromptAlignment, SourceProbe, alignment, left_out_errors
from raybridge.losses.contrastive import InfoNCE, PromptContrast, info_nce
from raybridge.losses.distillation import HiddenStates, TextKL, kl
from raybridge.losses.next_token import AnswerNLL, FadingText, FirstTokens, Format, Reconstruction, ResidualAnswer, mark_places
from raybridge.losses.on_policy import DecodeAware, decoded
from raybridge.step import Batches
from raybridge.translators.injection import Injection
from raybridge.translators.prompt_tuning import PromptTuning
from raybridge.translators.residual import Residual
from raybridge.world import World

ALONE = [  # terms that do not compare problems with each other
    AnswerNLL(),
    Reconstruction(),
    FirstTokens(),
    Format(),
    FadingText(steps=4),
    TextKL(),
    HiddenStates(),
    PromptAlignment(),
    DecodeAware(tokens=6),
    ResidualAnswer(),
]
ACROSS = [InfoNCE(), PromptContrast(), SourceProbe()]
LOSSES = [*ALONE, *ACROSS]
all_losses = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)


@pytest.fixture
def batches(trial, source, target):
    return Batches(trial, source, target)


def bridge_of(batches, target, problems, soft, *, step: int = 1) -> Bridge:
    batch = batches.tokens(problems)
    states, mask = batches.source.lm.hidden_states(batches.source.before, batch.source_questions, (0, 2))
    return Bridge(
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


@pytest.mark.parametrize("loss", ALONE, ids=lambda loss: loss.name)
def test_padding_changes_nothing(batches, target, loss):
    """Terms that do not compare across problems: the batch's sum is the sum of the problems alone."""
    problems = sorted(batches.problems[:40], key=lambda p: len(p.question))[::13]
    soft = soft_of(target, len(problems))
    together = loss.total(bridge_of(batches, target, problems, soft)).item()
    alone = [loss.total(bridge_of(batches, target, [p], soft[i : i + 1])).item() for i, p in enumerate(problems)]
    assert together == pytest.approx(sum(alone), rel=1e-5)


@pytest.mark.parametrize("loss", ACROSS, ids=lambda loss: loss.name)
def test_padding_changes_nothing_where_problems_are_compared(batches, target, loss):
    """A longer question at the end pads the others; the pads may hold anything."""
    problems = sorted(batches.problems[:6], key=lambda p: len(p.question))
    soft = soft_of(target, 6)
    bridge = bridge_of(batches, target, problems, soft)
    filled = replace(bridge, states_BTLS=torch.where(bridge.mask_BT[..., None, None], bridge.states_BTLS, 1e3))
    assert loss.total(filled).item() == pytest.approx(loss.total(bridge).item(), rel=1e-6)


@all_losses
def test_the_trap_a_loss_that_trains_nothing(batches, target, loss):
    soft = soft_of(target, 4)
    loss.total(bridge_of(batches, target, batches.problems[:4], soft)).backward()
    assert soft.grad.flatten(1).norm(dim=1).min() > 0


@all_losses
def test_a_loss_checks_itself_and_comes_back_from_json(loss):
    assert rebuild(resolve(loss)) == loss
    with pytest.raises(ValueError, match=f"loss {loss.name}: weight"):
        replace(loss, weight=0.0)


@all_losses
def test_the_trap_a_weight_applied_twice(batches, target, loss):
    """The value does not know its weight: the step applies it, once."""
    soft = soft_of(target, 3)
    value = [
        one.total(bridge_of(batches, target, batches.problems[:3], soft)).item() for one in (loss, replace(loss, weight=7.0))
    ]
    assert value[0] == value[1]


def test_a_question_is_repeated_with_its_end(batches, target):
    batch = batches.tokens(batches.problems[:2])
    for row, question in zip(batch.repeats, batch.target_questions, strict=True):
        assert row == [*question, target.tokenizer.eos_token_id]


def test_info_nce_starts_after_half_of_warm_up():
    assert InfoNCE().starts(warmup=100) == 50
    assert AnswerNLL().starts(warmup=100) == 0


def test_first_tokens_equal_the_naive_formula(batches, target):
    problems, soft = batches.problems[:4], soft_of(target, 4)
    bridge = bridge_of(batches, target, problems, soft)
    loss = FirstTokens(tokens=3, first_weight=4.0)
    naive = 0.0
    for i, row in enumerate(bridge.batch.answers):
        nll = [naive_nll(target, soft[i], bridge.before, bridge.after, row[: k + 1]) for k in range(3)]
        naive += 4.0 * nll[0] + nll[2] - nll[0]
    assert loss.total(bridge).item() == pytest.approx(naive, rel=1e-4)
    assert loss.count(bridge.batch) == 4 * (4.0 + 2)


def test_format_is_the_nll_of_the_mark_where_it_stands(batches, target):
    problems, soft = batches.problems[:4], soft_of(target, 4)
    bridge = bridge_of(batches, target, problems, soft)
    naive, count = 0.0, 0
    for i, row in enumerate(bridge.batch.answers):
        places = [k for k, token in enumerate(row) if "#" in target.text([token])]
        assert "".join(target.text([row[k]]) for k in places).strip() == "####"
        count += len(places)
        for k in places:
            naive += naive_nll(target, soft[i], bridge.before, bridge.after, row[: k + 1])
            naive -= naive_nll(target, soft[i], bridge.before, bridge.after, row[:k]) if k else 0.0
    assert Format().total(bridge).item() == pytest.approx(naive, rel=1e-3)
    assert Format().count(bridge.batch) == count


def test_the_mark_is_the_last_one_and_may_be_spread_over_tokens():
    assert mark_places(["a", "##", "##", "b", " #", "###x", "c"], "####") == [4, 5]
    with pytest.raises(ValueError, match=r"the mark '####' does not occur in the answer 'a b'"):
        mark_places(["a", "b"], "####")


def naive_states(target, *parts) -> torch.Tensor:
    """Last hidden states of one sequence without padding; ids or embeddings."""
    embeds = [part if part.is_floating_point() else target.embed(part) for part in parts]
    with torch.no_grad():
        return target.model.base_model(inputs_embeds=torch.cat(embeds)[None]).last_hidden_state[0]


def student_and_teacher(bridge, target, i: int, most: int) -> tuple[torch.Tensor, torch.Tensor]:
    """States that predict the first answer tokens of problem i, with soft tokens and with the question as text."""
    before, after = torch.tensor(bridge.before), torch.tensor(bridge.after)
    answer = torch.tensor(bridge.batch.answers[i][:most])
    question = torch.tensor(bridge.batch.target_questions[i])
    soft = naive_states(target, before, bridge.soft_BKD[i], after, answer)
    text = naive_states(target, before, question, after, answer)
    return soft[-len(answer) - 1 : -1], text[-len(answer) - 1 : -1]


def test_the_trap_kl_against_a_teacher_without_the_question(batches, target):
    """Parity with a naive float64 KL whose teacher reads the question as text."""
    problems, soft = batches.problems[:4], soft_of(target, 4)
    bridge = bridge_of(batches, target, problems, soft)
    naive = 0.0
    for i in range(4):
        student, teacher = student_and_teacher(bridge, target, i, 6)
        p = torch.softmax(target.model.get_output_embeddings()(teacher).double() / 2, -1)
        q = torch.softmax(target.model.get_output_embeddings()(student).double() / 2, -1)
        naive += 4 * (p * (p.log() - q.log())).sum().item()
    loss = TextKL(temperature=2.0, max_tokens=6)
    assert loss.total(bridge).item() == pytest.approx(naive, rel=1e-3)
    assert loss.count(bridge.batch) == 24
    exact = replace(
        bridge, soft_BKD=target.embed(torch.tensor([bridge.batch.target_questions[0]])), batch=batches.tokens([problems[0]])
    )
    assert loss.total(exact).item() == pytest.approx(0, abs=1e-3)


def test_kl_equals_the_naive_formula():
    torch.manual_seed(0)
    teacher, student = torch.randn(3, 7).double(), torch.randn(3, 7).double()
    p, q = torch.softmax(teacher / 3, -1), torch.softmax(student / 3, -1)
    torch.testing.assert_close(kl(teacher, student, temperature=3.0), 9 * (p * (p / q).log()).sum(-1))


def test_kl_in_chunks_is_the_same_with_its_gradient(batches, target):
    values = []
    for chunk in (1024, 5):
        soft = soft_of(target, 3)
        with mock.patch("raybridge.losses.distillation.CHUNK", chunk):
            value = TextKL().total(bridge_of(batches, target, batches.problems[:3], soft))
            value.backward()
        values.append((value.item(), soft.grad))
    assert values[0][0] == pytest.approx(values[1][0], rel=1e-5)
    torch.testing.assert_close(values[0][1], values[1][1], rtol=1e-3, atol=1e-5)


def test_hidden_states_equal_the_naive_formula(batches, target):
    soft = soft_of(target, 3)
    bridge = bridge_of(batches, target, batches.problems[:3], soft)
    naive = 0.0
    for i in range(3):
        student, teacher = (s.double() for s in student_and_teacher(bridge, target, i, 4))
        for s, t in zip(student, teacher, strict=True):
            naive += (s / s.pow(2).mean().sqrt() - t / t.pow(2).mean().sqrt()).pow(2).mean().item()
    assert HiddenStates(tokens=4).total(bridge).item() == pytest.approx(naive, rel=1e-3)


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
    telling = replace(bridge, soft_BKD=pooled.unsqueeze(1))
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


def test_fading_text_starts_with_the_whole_question_and_ends_without_it(batches, target):
    problems, soft = batches.problems[:3], soft_of(target, 3)
    loss = FadingText(steps=10)
    kept = [[len(row) for row in loss.kept([range(20), range(7)], step)] for step in range(12)]
    assert kept[0] == [20, 7]
    assert kept[10] == kept[11] == [0, 0]
    assert all(a >= b for one, other in pairwise(kept) for a, b in zip(one, other, strict=True))
    assert all(one != other for one, other in pairwise(kept[:11]))
    bridge = bridge_of(batches, target, problems, soft, step=0)
    naive = sum(
        naive_nll(target, torch.cat([soft[i], target.embed(torch.tensor(q))]), bridge.before, bridge.after, row)
        for i, (q, row) in enumerate(zip(bridge.batch.target_questions, bridge.batch.answers, strict=True))
    )
    assert loss.total(bridge).item() == pytest.approx(naive, rel=1e-4)
    after = replace(bridge, step=10)
    assert loss.total(after).item() == AnswerNLL().total(after).item()


def test_losses_of_a_step_share_one_pass_of_student_and_teacher(batches, target):
    bridge = bridge_of(batches, target, batches.problems[:3], soft_of(target, 3))
    with mock.patch.object(
        type(target), "continuation_states", autospec=True, side_effect=type(target).continuation_states
    ) as read:
        for loss in (AnswerNLL(), FirstTokens(), Format(), TextKL(), HiddenStates(), FadingText(steps=1)):
            loss.total(bridge)
    assert read.call_count == 2


def test_answers_and_repetitions_read_in_one_pass_are_what_two_passes_read(batches, target):
    losses = (AnswerNLL(), Reconstruction(), Reconstruction(max_tokens=5), TextKL())
    found = []
    for together in (False, True):
        soft = soft_of(target, 5)
        bridge = replace(bridge_of(batches, target, batches.problems[:5], soft), together=together)
        with mock.patch.object(
            type(target), "continuation_states", autospec=True, side_effect=type(target).continuation_states
        ) as read:
            totals = torch.stack([loss.total(bridge) for loss in losses])
        assert read.call_count == (2 if together else 3)  # the teacher's pass is its own
        (gradient,) = torch.autograd.grad(totals.sum(), soft)
        found.append((totals.detach(), gradient))
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)


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


def test_an_answer_loss_that_looks_beyond_the_shared_pass_reads_on_its_own(batches, target):
    bridge = bridge_of(batches, target, batches.problems[:2], soft_of(target, 2))
    beyond = AnswerNLL(max_tokens=SHARED_TOKENS + 1).total(bridge)
    assert beyond.item() == pytest.approx(AnswerNLL().total(bridge).item(), rel=1e-6)
    with pytest.raises(ValueError, match=r"loss text_kl: it can look at 1..256 answer tokens, not 257"):
        TextKL(max_tokens=SHARED_TOKENS + 1)


@dataclass(frozen=True, kw_only=True)
class Seldom(AnswerNLL):
    every: int = 3


def test_a_periodic_loss_is_on_at_each_nth_step():
    assert [active(Seldom(), step, warmup=0) for step in range(7)] == [True, False, False, True, False, False, True]
    assert period(Seldom()) == 3
    assert [active(InfoNCE(), step, warmup=4) for step in range(4)] == [False, False, True, True]


def test_decode_aware_teaches_along_what_the_bridge_really_decodes(batches, target):
    problems, soft = batches.problems[:3], soft_of(target, 3)
    bridge = bridge_of(batches, target, problems, soft)
    written = decoded(bridge, 7)
    completions = greedy(target, bridge.prompt(target.soft_piece(soft.detach()), after=bridge.after), max_new_tokens=7)
    assert [target.text(row) for row in written] == [completion.text for completion in completions]
    free = replace(bridge, batch=replace(bridge.batch, answers=written))
    naive = 0.0
    for i, row in enumerate(written):
        student, teacher = student_and_teacher(free, target, i, len(row))
        p = torch.softmax(target.model.get_output_embeddings()(teacher).double(), -1)
        q = torch.softmax(target.model.get_output_embeddings()(student).double(), -1)
        naive += (p * (p.log() - q.log())).sum().item() / len(row)
    assert DecodeAware(tokens=7).total(bridge).item() == pytest.approx(naive, rel=1e-3)
    other = replace(bridge, batch=replace(bridge.batch, answers=list(reversed(bridge.batch.answers))))
    assert DecodeAware(tokens=7).total(other).item() == DecodeAware(tokens=7).total(bridge).item()  # gold is never read


def test_decode_aware_is_bounded_by_its_problems_and_on_at_its_steps(batches, target):
    bridge = bridge_of(batches, target, batches.problems[:6], soft_of(target, 6))
    loss = DecodeAware(problems=2, tokens=3, every=5)
    with mock.patch.object(
        type(target), "continuation_states", autospec=True, side_effect=type(target).continuation_states
    ) as read:
        loss.total(bridge).backward()
    assert {len(call.args[2]) for call in read.call_args_list} == {2}
    assert max(len(row) for call in read.call_args_list for row in call.args[2]) == 3
    assert bridge.soft_BKD.grad[:2].abs().sum() > 0
    assert not bridge.soft_BKD.grad[2:].any()
    assert loss.count(bridge.batch) == 2
    assert loss.count(replace(bridge.batch, offset=1)) == 1
    assert loss.count(replace(bridge.batch, offset=6)) == 0
    assert [step + 1 for step in range(30) if active(loss, step, warmup=12)] == [15, 20, 25, 30]


def test_decode_aware_at_256_soft_tokens(batches, target):
    torch.manual_seed(0)
    soft = (torch.randn(2, 256, target.width) * target.embedding_rms).requires_grad_()
    DecodeAware(problems=1, tokens=4).total(bridge_of(batches, target, batches.problems[:2], soft)).backward()
    assert soft.grad[0].norm(dim=1).min() > 0


def test_residual_answer_equals_the_naive_formula_and_needs_its_translator(batches, target):
    torch.manual_seed(0)
    soft = torch.randn(3, 50, target.width)  # one for every token of a question, and some that stand for none
    module = Residual(translator=PromptTuning(soft_tokens=5), scale=0.5).build(1, target.width, target_rms=1.0)
    bridge = replace(bridge_of(batches, target, batches.problems[:3], soft), module=module)
    naive = 0.0
    for i, (question, row) in enumerate(zip(bridge.batch.target_questions, bridge.batch.answers, strict=True)):
        embeds = target.embed(torch.tensor(question))
        naive += naive_nll(target, embeds + 0.5 * soft[i, : len(question)], bridge.before, bridge.after, row)
    assert ResidualAnswer().total(bridge).item() == pytest.approx(naive, rel=1e-4)
    assert naive > 1
    with pytest.raises(
        ValueError, match="loss residual_answer needs the translator Residual or Injection, not PromptTuningModule"
    ):
        ResidualAnswer().total(replace(bridge, module=bridge.module.core))


def injected_bridge(batches, target, soft, *, gate: float) -> Bridge:
    torch.manual_seed(1)
    config = Injection(translator=PromptTuning(soft_tokens=5), target_layers=(3, 1), rank=4)
    module = config.build(1, target.width, target_rms=1.0)
    for adapter in module.adapters:
        adapter.gate.data.fill_(gate)
    return replace(bridge_of(batches, target, batches.problems[: len(soft)], soft), module=module)


def test_residual_answer_by_injection_equals_the_naive_formula(batches, target):
    torch.manual_seed(0)
    soft = torch.randn(3, 50, target.width)  # one for every token of a question, and some that stand for none
    bridge = injected_bridge(batches, target, soft, gate=0.8)
    wrong = bridge.batch.answers[1:] + bridge.batch.answers[:1]  # those that the text does not make near certain
    bridge = replace(bridge, batch=replace(bridge.batch, answers=wrong))
    total, naive, text = ResidualAnswer().total(bridge).item(), 0.0, 0.0
    layers = target.model.base_model.layers
    for i, (question, row) in enumerate(zip(bridge.batch.target_questions, bridge.batch.answers, strict=True)):
        first, embeds = len(bridge.before), target.embed(torch.tensor(question))
        text += naive_nll(target, embeds, bridge.before, bridge.after, row)
        with ExitStack() as patches:
            for number, adapter in zip(bridge.module.target_layers, bridge.module.adapters, strict=True):
                addend = adapter(soft[i, : len(question)])

                def changed(x, *args, forward=layers[number].forward, addend=addend, first=first, **kwargs):
                    x = x.clone()
                    part = x[0, first : first + len(addend)]
                    x[0, first : first + len(addend)] = part + part.pow(2).mean(-1, keepdim=True).sqrt() * addend
                    return forward(x, *args, **kwargs)

                patches.enter_context(mock.patch.object(layers[number], "forward", changed))
            naive += naive_nll(target, embeds, bridge.before, bridge.after, row)
    assert total == pytest.approx(naive, rel=1e-4)
    assert naive > 1
    assert abs(naive - text) > 1e-2 * text


def test_an_injection_trains_its_gates_first_and_then_the_translator(batches, target):
    soft = soft_of(target, 3)
    bridge = injected_bridge(batches, target, soft, gate=0.0)
    ResidualAnswer().total(bridge).backward()
    assert all(adapter.gate.grad.abs().sum() > 0 for adapter in bridge.module.adapters)
    assert not soft.grad.any()
    ResidualAnswer().total(injected_bridge(batches, target, soft, gate=0.1)).backward()
    assert soft.grad.norm(dim=-1).min() > 0


def test_an_injection_leaves_the_frozen_model_as_it_was(batches, target):
    soft = soft_of(target, 3)
    before = AnswerNLL().total(bridge_of(batches, target, batches.problems[:3], soft)).item()
    ResidualAnswer().total(injected_bridge(batches, target, soft, gate=0.8))
    assert not any(layer._forward_pre_hooks for layer in target.model.base_model.layers)
    assert AnswerNLL().total(bridge_of(batches, target, batches.problems[:3], soft)).item() == before


def test_an_injection_into_a_layer_that_is_not_there_is_refused(target):
    with pytest.raises(ValueError, match=r"no layer that reads hidden state 4; valid are 0\.\.3"), target.injecting({4: None}):
        pass
    assert not any(layer._forward_pre_hooks for layer in target.model.base_model.layers)
