"""How a question is put to a model: the same instruction in every arm, and the model's chat template where it has one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from raybridge.data import Evaluator, Problem
from raybridge.models.lm import FrozenLM

REPEAT_CUE = "\nRepeat:"  # what asks the target to write its question again
PLACE = "\N{OBJECT REPLACEMENT CHARACTER}"  # stands for the question while a chat template is rendered


@dataclass(frozen=True, kw_only=True)
class Frame:
    """Everything around a question, for one model: what stands before it and after it, as text and as tokens.

    The question's place may be taken by text, by soft tokens, by both or by nothing.
    """

    lm: FrozenLM
    before_text: str
    after_text: str
    before: tuple[int, ...]
    after: tuple[int, ...]
    answer_gap: str  # what separates the prompt from the answer: a space after "Answer:", nothing in a chat

    def question(self, text: str) -> list[int]:
        """Tokens of a question in its place."""
        return self.questions([text])[0]

    def questions(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of several questions, tokenized together: that takes a tenth of the time."""
        return _continued(self.lm, self.before_text, [" " + text for text in texts])

    def question_ends(self, text: str) -> list[int]:
        """For each token of a question, the offset in the text at which it ends."""
        left = "." + self.before_text
        offsets = self.lm.tokenizer(left + " " + text, add_special_tokens=False, return_offsets_mapping=True).offset_mapping
        return [end - len(left) for _, end in offsets[-len(self.question(text)) :]]

    def answer(self, text: str) -> list[int]:
        """Tokens of an answer after the prompt, with the end token that teaches the model to stop."""
        return self.answers([text])[0]

    def answers(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of several answers, tokenized together."""
        rows = _continued(self.lm, self.after_text, [self.answer_gap + text for text in texts])
        return [[*row, self.lm.tokenizer.eos_token_id] for row in rows]

    def anchored(self, anchor: str) -> Frame:
        """The frame of answers that all begin with `anchor`, which stands at the end of the prompt."""
        if not anchor:
            return self
        after_text = self.after_text + self.answer_gap + anchor
        return replace(self, after_text=after_text, after=tuple(_continue(self.lm, "", after_text)), answer_gap=" ")

    def prompt(self, question: str | None) -> list[int]:
        """Tokens of the whole prompt with the question as text; None leaves it out."""
        return [*self.before, *(self.question(question) if question is not None else ()), *self.after]


def frame(lm: FrozenLM, evaluator: Evaluator, *, exemplars: Sequence[Problem] = (), after: str | None = None) -> Frame:
    """The frame of an evaluator's questions for a model; `after` replaces the evaluator's own cue."""
    cue = evaluator.after if after is None else after
    ask = evaluator.before.rstrip() + PLACE + cue
    opening = evaluator.instruction + "\n\n" if evaluator.instruction else ""
    if getattr(lm.tokenizer, "chat_template", None):
        turns = [turn for shot in exemplars for turn in _turns(ask.replace(PLACE, " " + shot.question), shot.rationale)]
        turns.append({"role": "user", "content": ask})
        turns[0] = {"role": "user", "content": opening + turns[0]["content"]}
        whole = lm.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        gap = ""
    else:
        shots = "".join(f"{ask.replace(PLACE, ' ' + shot.question)} {shot.rationale}\n\n" for shot in exemplars)
        whole = opening + shots + ask
        gap = " "
    before_text, _, after_text = whole.partition(PLACE)
    bos = [lm.tokenizer.bos_token_id] if lm.adds_bos and not before_text.startswith(lm.tokenizer.bos_token) else []
    return Frame(
        lm=lm,
        before_text=before_text,
        after_text=after_text,
        before=(*bos, *lm.tokenize(before_text)),
        after=tuple(_continue(lm, "", after_text)),
        answer_gap=gap,
    )


def template_hash(around: Frame) -> str:
    """Sixteen hex digits that identify what stands around every question: instruction, exemplars, template, anchor."""
    return hashlib.sha256(f"{around.before_text}\0{around.after_text}".encode()).hexdigest()[:16]


def prompt_hash(ids: Sequence[int]) -> str:
    """Sixteen hex digits that identify a prompt by its tokens."""
    return hashlib.sha256(" ".join(map(str, ids)).encode()).hexdigest()[:16]


def _turns(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _continue(lm: FrozenLM, left: str, right: str) -> list[int]:
    """Tokens of `right` where it follows `left`. The seam must lie between two tokens."""
    return _continued(lm, left, [right])[0]


def _continued(lm: FrozenLM, left: str, rights: Sequence[str]) -> list[list[int]]:
    """Tokens of each of `rights` where it follows `left`."""
    if not rights:
        return []
    anchored = "." + left  # some tokenizers put a space in front of what they take for the start of a text
    head = _tokens(lm, anchored)
    wholes = lm.tokenizer([anchored + right for right in rights], add_special_tokens=False).input_ids
    if any(tuple(whole[: len(head)]) != head for whole in wholes):
        raise ValueError(
            f"model {lm.name!r}: its tokenizer merges across the end of {left[-20:]!r}; soft tokens have no clean place there"
        )
    return [whole[len(head) :] for whole in wholes]


@lru_cache(maxsize=64)
def _tokens(lm: FrozenLM, text: str) -> tuple[int, ...]:
    """Tokens of what stands around every question: asked for at each of them."""
    return tuple(lm.tokenize(text))
