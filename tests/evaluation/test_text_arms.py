"""Arms whose texts are made with the models: the least predictable tokens, a message of the source, a second pass."""

from dataclasses import replace

import pytest
import torch
from asking import ask, requests_of, with_arms

from raybridge.arms import find
from raybridge.arms.relay import INSTRUCTION
from raybridge.arms.repair import CHECK
from raybridge.arms.selective import largest, lots
from raybridge.evaluation import consulted
from raybridge.evaluation.answering import answer
from raybridge.evaluation.setting import setting_of
from raybridge.models.decode import greedy
from raybridge.models.prompts import frame, prompt_hash

pytestmark = pytest.mark.usefixtures("short")
MADE = ("selective_text", "random_text", "text_relay")


@pytest.fixture
def request_(trial):
    (one,) = requests_of(trial, "dev", "target")
    return one


@pytest.fixture
def around(trial, models):
    return frame(models.load(trial.target), trial.evaluator)


def test_selective_text_is_the_tokens_of_the_highest_nll_one_question_at_a_time(trial, models, request_, around):
    target, K = models.load(trial.target), trial.translator.soft_tokens
    for problem, text in zip(request_.problems, ask(request_, models, "selective_text").texts, strict=True):
        row = around.question(problem.question)
        ids = torch.tensor([[*around.before, *row]])
        logits = target.model(ids).logits[0, len(around.before) - 1 : -1]
        nats = torch.nn.functional.cross_entropy(logits, torch.tensor(row), reduction="none").tolist()
        kept = sorted(sorted(range(len(row)), key=lambda i: -nats[i])[:K])
        wanted = target.text([row[i] for i in kept]).strip()
        assert target.text(around.question(wanted)[:K]).strip() == text
        assert len(row) > K


def test_random_text_is_drawn_by_the_problem_and_is_a_part_of_the_question(trial, models, request_, around):
    target, K = models.load(trial.target), trial.translator.soft_tokens
    texts = ask(request_, models, "random_text").texts
    turned = ask(with_arms(request_, "random_text", problems=request_.problems[::-1]), models, "random_text").texts
    assert turned[::-1] == texts
    for problem, text in zip(request_.problems, texts, strict=True):
        row = around.question(problem.question)
        places = largest(lots(problem.id, len(row)), K)
        assert len(set(places)) == K < len(row)
        assert text == target.text(around.question(target.text([row[i] for i in places]).strip())[:K]).strip()
    assert lots("a", 9) != lots("b", 9)
    assert largest([1.0, 3.0, 3.0, 2.0], 2) == [1, 2]
    assert largest([1.0], 5) == [0]


def test_text_relay_is_what_the_source_writes_cut_to_k_tokens_of_the_target(trial, models, request_, around):
    source, target, K = models.load(trial.source), models.load(trial.target), trial.translator.soft_tokens
    texts = ask(request_, models, "text_relay").texts
    assert any(texts)
    for problem, text in zip(request_.problems, texts, strict=True):
        told = INSTRUCTION.format(words=K * 3 // 4)
        prompt = f"{told}\n\n{trial.evaluator.before} {problem.question}{consulted.CUE}"
        (one,) = greedy(source, [source.text_piece([source.tokenizer(prompt).input_ids])], max_new_tokens=2 * K)
        line = next((line for line in one.text.splitlines() if line.strip()), "")
        assert text == target.text(around.question(line)[:K]).strip()


def test_a_message_is_asked_once_and_again_where_time_is_measured(models, request_, monkeypatch):
    asked = []

    def counted(*args, **told):
        asked.append(told["max_new_tokens"])
        return greedy(*args, **told)

    models.forget()
    monkeypatch.setattr(consulted, "greedy", counted)
    answer(with_arms(request_, "text_relay"), models)
    assert len(asked) == 1
    models.forget()
    ask(request_, models, "text_relay")
    assert len(asked) == 2


@pytest.mark.parametrize("arm", MADE)
def test_a_text_has_at_most_k_tokens_and_does_not_depend_on_the_batch(trial, models, request_, around, arm):
    texts = ask(request_, models, arm).texts
    assert all(len(around.question(text)) <= trial.translator.soft_tokens for text in texts if text)
    models.forget()
    alone = [ask(with_arms(request_, arm, problems=(one,)), models, arm).texts[0] for one in request_.problems]
    assert alone == list(texts)


def test_self_repair_shows_the_target_its_own_answer_and_asks_to_check_it(models, request_, around):
    said = (*(f"it is {i}" for i in range(1, len(request_.problems))), " ")
    rows = answer(replace(with_arms(request_, "self_repair"), answers={"target": said}), models)
    for problem, first, row in zip(request_.problems, said, rows, strict=True):
        text = CHECK.format(question=problem.question, answer=first.strip() or "(none)")
        assert row["prompt_hash"] == prompt_hash(around.prompt(text))


def test_gold_reaches_no_text_that_is_made(models, request_):
    """The trap: another gold for the same questions, the same prompts and completions."""
    forged = tuple(replace(p, gold="123456", rationale="nothing\n#### 123456") for p in request_.problems)
    said = tuple(f"#### {i}" for i in range(len(forged)))
    models.forget()
    plain = [answer(replace(with_arms(request_, arm), answers={"target": said}), models) for arm in (*MADE, "self_repair")]
    models.forget()
    asked = replace(request_, answers={"target": said})
    other = [answer(with_arms(asked, arm, problems=forged), models) for arm in (*MADE, "self_repair")]
    for column in ("prompt_hash", "completion"):
        assert [row[column] for part in plain for row in part] == [row[column] for part in other for row in part]


def test_frozen_rows_depend_on_the_models_that_they_were_made_with_and_on_k(trial):
    setting = setting_of(replace(trial, contents=None), "dev")
    wider = replace(setting, soft_tokens=setting.soft_tokens + 1)
    sources = replace(setting, source="pocket:target")
    for arm, of_source, of_k in (
        ("selective_text", False, True),
        ("random_text", False, True),
        ("text_relay", True, True),
        ("self_repair", False, False),
    ):
        assert (sources.key(find(arm)) != setting.key(find(arm))) == of_source
        assert (wider.key(find(arm)) != setting.key(find(arm))) == of_k
