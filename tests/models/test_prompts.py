"""Prompts by real tokenizers: every text arm's tokens are those of the whole prompt, and soft tokens have a clean place.

RAYBRIDGE_TOKENIZERS names a folder of tokenizers as AutoTokenizer loads them; without it only the shipped ones are tried.
"""

from __future__ import annotations

import os
from copy import copy
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from raybridge.evaluation.benchmarks import load_evaluator
from raybridge.models.names import POCKET
from raybridge.models.prompts import FIXED, PLACE, REPEAT_CUE, frame, rendered

FOLDER = os.environ.get("RAYBRIDGE_TOKENIZERS")
REAL = sorted(path.name for path in Path(FOLDER).iterdir() if path.is_dir() and not path.suffix) if FOLDER else []
BENCHMARKS = ("gsm8k", "svamp", "squad", "math", "hotpotqa")
MERGING = ("llama31", "qwen3", "gptoss", "deepseek3")  # their tokenizers make one token of "?\n"
ASKED, FEW = 40, 12  # problems a case; behind exemplars, of which every prompt is full and whose end is the same to all

needs_data = pytest.mark.skipif(not os.environ.get("RAYBRIDGE_DATA"), reason="RAYBRIDGE_DATA is not set")
needs_tokenizers = pytest.mark.skipif(not REAL, reason="RAYBRIDGE_TOKENIZERS is not set")


class Model(SimpleNamespace):
    """What a frame asks of a model: its name and its tokenizer."""

    def tokenize(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False).input_ids

    def text(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=True)

    __hash__ = object.__hash__


@cache
def tokenizer_of(name: str) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(Path(FOLDER or "") / name)


@cache
def model(name: str, chat: bool) -> Model:
    tokenizer = copy(tokenizer_of(name))
    if not chat:
        tokenizer.chat_template = None
    elif not tokenizer.chat_template:
        pytest.skip(f"{name} has no chat template")
    return Model(name=name, tokenizer=tokenizer)


@cache
def exemplars_of(benchmark: str) -> tuple:
    """Eight: those of the benchmark, or its last problems."""
    evaluator = load_evaluator(benchmark)
    return tuple((evaluator.exemplars() or evaluator.problems("test")[-8:])[:8])


@cache
def asked_of(benchmark: str) -> tuple:
    return tuple(load_evaluator(benchmark).problems("test")[:ASKED])


def by_hand(one: Model, evaluator, exemplars, question: str) -> list[int]:
    """The whole prompt written out, and tokenized as transformers does it for a user."""
    opening, ask = (evaluator.instruction + "\n\n" if evaluator.instruction else ""), evaluator.before.rstrip()
    if not one.tokenizer.chat_template:
        shots = "".join(f"{ask} {s.question.strip()}{evaluator.after} {s.rationale}\n\n" for s in exemplars)
        return one.tokenizer(f"{opening}{shots}{ask} {question.strip()}{evaluator.after}").input_ids
    turns = []
    for shot in exemplars:
        turns.append({"role": "user", "content": f"{ask} {shot.question.strip()}"})
        turns.append({"role": "assistant", "content": shot.rationale})
    turns.append({"role": "user", "content": f"{ask} {question.strip()}"})
    turns[0] = {"role": "user", "content": opening + turns[0]["content"]}
    return one.tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=True, return_dict=False, **FIXED)


@needs_data
@needs_tokenizers
@pytest.mark.parametrize("shots", [0, 8])
@pytest.mark.parametrize("benchmark", BENCHMARKS)
@pytest.mark.parametrize("chat", [True, False], ids=["chat", "text"])
@pytest.mark.parametrize("name", REAL)
def test_a_prompts_tokens_are_those_of_the_whole_text(name, chat, benchmark, shots):
    one, evaluator = model(name, chat), load_evaluator(benchmark)
    exemplars = exemplars_of(benchmark)[:shots]
    around = frame(one, evaluator, exemplars=exemplars)
    questions = [problem.question for problem in asked_of(benchmark)[: FEW if shots else ASKED]]
    for question, row, behind in zip(questions, around.prompts(questions), around.behind(questions), strict=True):
        assert row == by_hand(one, evaluator, exemplars, question)
        assert row == [*around.before, *behind.question, *behind.after]
    rationales = [problem.rationale for problem in asked_of(benchmark)]
    assert len(around.answers(rationales)) == len(rationales)


@needs_data
@needs_tokenizers
@pytest.mark.parametrize("chat", [True, False], ids=["chat", "text"])
@pytest.mark.parametrize("name", REAL)
def test_soft_tokens_stand_between_two_fixed_sequences(name, chat):
    """What stands around them is what stands around a word, whatever the cue, and decodes to the frame's own text."""
    one, evaluator = model(name, chat), load_evaluator("gsm8k")
    for cue in (None, REPEAT_CUE):
        around = frame(one, evaluator, after=cue)
        whole = around.prompt("x")
        assert tuple(whole[: len(around.before)]) == around.before
        assert tuple(whole[len(whole) - len(around.after) :]) == around.after
        question = asked_of("gsm8k")[0].question
        assert one.text(around.question(question)).strip() == question.strip()
        assert around.question_ends([question])[0][-1] == len(question.strip())
    assert not chat or frame(one, evaluator).after[0] in one.tokenizer.added_tokens_decoder  # no text merges with it


@needs_tokenizers
@pytest.mark.parametrize("name", [name for name in MERGING if name in REAL])
def test_the_trap_a_line_break_that_merges_with_what_stands_before_it(name):
    one, evaluator = model(name, chat=False), load_evaluator("gsm8k")
    around = frame(one, evaluator)
    (merged,), (clean,) = around.behind(["How many?"]), around.behind(["How many"])
    assert one.text([merged.question[-1]]) == "?\n"
    assert tuple(clean.after) == around.after
    assert tuple(merged.after) == around.after[1:]


class Template:
    """A tokenizer whose chat template is a function of the turns."""

    def __init__(self, write):
        self.write = write

    def apply_chat_template(self, turns, *, tokenize, add_generation_prompt, **options):
        return self.write(turns, options)


TURNS = [{"role": "user", "content": f"Question:{PLACE}"}]


def test_a_template_that_prints_the_date_prints_a_fixed_one_and_thinking_is_off():
    def write(turns, options):
        return (
            f"{options['strftime_now']('%Y-%m-%d')} {options['date_string']} {options['enable_thinking']} {turns[0]['content']}"
        )

    assert rendered(Model(name="m", tokenizer=Template(write)), TURNS) == f"2024-07-26 26 Jul 2024 False Question:{PLACE}"


def test_a_template_that_wants_parts_gets_them():
    def write(turns, options):
        return "".join(part["text"] for part in turns[0]["content"])

    assert rendered(Model(name="m", tokenizer=Template(write)), TURNS) == f"Question:{PLACE}"


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (lambda turns, options: "nothing of it", "it does not write the question where it was put"),
        (lambda turns, options: turns[0]["content"] * 2, "it does not write the question where it was put"),
        (lambda turns, options: 1 / 0, "division by zero"),
    ],
)
def test_a_template_that_swallows_doubles_or_raises_is_refused_by_name(write, says):
    with pytest.raises(ValueError, match=f"model 'm': its chat template cannot be used: .*{says}"):
        rendered(Model(name="m", tokenizer=Template(write)), TURNS)


@cache
def shipped(member: str) -> Model:
    return Model(name=member, tokenizer=AutoTokenizer.from_pretrained(POCKET / member))


@pytest.mark.parametrize("member", ["source", "target"])
@given(text=st.text(st.characters(max_codepoint=0x2FF, blacklist_categories=["Cs", "Cc"]), max_size=40))
def test_any_question_is_cut_out_of_its_prompt_whole(member, text):
    one = shipped(member)
    around = frame(one, load_evaluator("pocket"))
    (behind,) = around.behind([text])
    assert [*around.before, *behind.question, *behind.after] == around.prompt(text)
    assert around.prompt(text) == one.tokenizer(around.whole(text)).input_ids
    assert bool(behind.question) == bool(text.strip())


@needs_data
@needs_tokenizers
@pytest.mark.parametrize("name", [name for name in REAL if name in ("qwen3", "llama31", "gemma3")])
def test_exemplars_of_a_chat_are_tokenized_once_for_all_questions(name):
    one, evaluator, handed = model(name, chat=True), load_evaluator("gsm8k"), []

    class Counting:
        """The tokenizer, which remembers what it was handed."""

        added_tokens_decoder = one.tokenizer.added_tokens_decoder

        def __call__(self, text, **told):
            handed.append(text)
            return one.tokenizer(text, **told)

    around = frame(one, evaluator, exemplars=exemplars_of("gsm8k"))
    counted = replace(around, lm=Model(name=name, tokenizer=Counting()))
    questions = ["How many?", "How much?", "How many?"]
    assert counted.prompts(questions) == around.prompts(questions)
    assert [text.partition("Question: ")[2][:9] for text in handed[-1]] == ["How many?", "How much?"]
    assert all(len(text) < len(around.before_text) / 8 for text in handed[-1])
