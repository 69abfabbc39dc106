import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raybridge.decode import greedy
from raybridge.prompts import frame
from raybridge.scales import POCKET

EVALUATOR = POCKET.trial.evaluator


def questions(count: int) -> list[str]:
    return [problem.question for problem in EVALUATOR.problems("dev")[:count]]


def by_transformers(target, prompt: list[int], length: int) -> str:
    out = target.model.generate(
        torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), max_new_tokens=length, do_sample=False
    )
    return target.text(out[0, len(prompt) :])


def test_greedy_writes_what_transformers_generate_writes(target):
    around = frame(target, EVALUATOR)
    texts = questions(6)
    rows = [around.question(text) for text in texts]
    ours = greedy(
        target, [target.text_piece(rows), target.text_piece([around.after] * 6)], max_new_tokens=40, shared=around.before
    )
    for text, completion in zip(texts, ours, strict=True):
        assert completion.text == by_transformers(target, around.prompt(text), 40)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_row_decodes_alone_as_in_a_batch(target, side):
    around = frame(target, EVALUATOR)
    rows = [around.question(text) for text in questions(5)]

    def run(rows: list[list[int]]) -> list[str]:
        pieces = [target.text_piece(rows, side=side), target.text_piece([around.after] * len(rows))]
        return [c.text for c in greedy(target, pieces, max_new_tokens=30, shared=around.before)]

    assert run(rows) == [text for row in rows for text in run([row])]


def test_a_shared_prompt_computed_once_changes_nothing(target):
    around = frame(target, EVALUATOR)
    rows = [around.question(text) for text in questions(4)]
    after = target.text_piece([around.after] * 4)
    once = greedy(target, [target.text_piece(rows), after], max_new_tokens=24, shared=around.before)
    each = greedy(target, [target.text_piece([[*around.before, *row] for row in rows]), after], max_new_tokens=24)
    assert once == each


@settings(max_examples=5, deadline=None)
@given(st.integers(1, 20))
def test_a_completion_has_at_most_as_many_tokens_as_allowed(target_limit):
    from raybridge import lm

    target = lm.load("pocket:target", device="cpu")
    around = frame(target, EVALUATOR)
    done = greedy(target, [target.text_piece([around.prompt(questions(1)[0])])], max_new_tokens=target_limit)
    assert done[0].tokens <= target_limit


def test_the_trap_a_completion_that_runs_on_is_cut_at_a_stop_string(target):
    around = frame(target, EVALUATOR)
    pieces = [target.text_piece([around.prompt(questions(1)[0])])]
    whole = greedy(target, pieces, max_new_tokens=60)[0]
    assert "####" in whole.text
    cut = greedy(target, pieces, max_new_tokens=60, stop=("####",))[0]
    assert cut.text == whole.text[: whole.text.index("####")]
    assert not cut.truncated
    assert not whole.truncated
    assert greedy(target, pieces, max_new_tokens=4)[0].truncated
