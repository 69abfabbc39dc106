"""Losses that follow the target which reads the question: KL, hidden states, decode-aware supervision."""

from dataclasses import replace
from unittest import mock

import pytest
import torch
from bridges import bridge_of, soft_of

from raybridge.losses import active
from raybridge.losses.distillation import HiddenStates, TextKL, kl
from raybridge.losses.on_policy import DecodeAware, decoded
from raybridge.models.decode import greedy


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
        with mock.patch.multiple("raybridge.models.vocabulary", CHUNK=chunk, LOGITS=0):
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


def test_decode_aware_teaches_along_what_the_bridge_really_decodes(batches, target):
    problems, soft = batches.problems[:3], soft_of(target, 3)
    bridge = bridge_of(batches, target, problems, soft)
    written = decoded(bridge, 7)
    completions = greedy(target, bridge.behind(target.soft_piece(soft.detach())), max_new_tokens=7, shared=bridge.before)
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
    assert loss.count(replace(bridge.batch, places=range(1, 9))) == 1
    assert loss.count(replace(bridge.batch, places=range(6, 14))) == 0
    assert [step + 1 for step in range(30) if active(loss, step, warmup=12)] == [15, 20, 25, 30]


def test_decode_aware_at_256_soft_tokens(batches, target):
    torch.manual_seed(0)
    soft = (torch.randn(2, 256, target.width) * target.embedding_rms).requires_grad_()
    DecodeAware(problems=1, tokens=4).total(bridge_of(batches, target, batches.problems[:2], soft)).backward()
    assert soft.grad[0].norm(dim=1).min() > 0
