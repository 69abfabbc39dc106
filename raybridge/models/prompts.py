"""How a question is put to a model: the same instruction in every arm, and the model's chat template where it has one.

    without a chat template   instruction, exemplars, `before` + question + `after`, answer
    with one                  user: instruction, `before` + question; assistant: answer. Exemplars are earlier turns.

In a chat the assistant's turn is itself the cue to answer; another cue, such as the one to repeat, opens that turn. So the
question is the last thing of the user's turn and a special token follows it: soft tokens have a clean place. Text is tokenized
whole, as a user's prompt would be; `before` and `after` are the fixed sequences between which soft tokens stand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any, NamedTuple

from raybridge.data import Evaluator, Problem
from raybridge.errors import reason_of
from raybridge.models.frozen import FrozenLM

REPEAT_CUE = "\nRepeat:"  # what asks the target to write its question again
PLACE = "\N{OBJECT REPLACEMENT CHARACTER}"  # stands for the question while a chat template is rendered
LETTER = "x"  # stands there while the seams are looked at: a letter merges with no line break and no special token
TODAY = date(2024, 7, 26)  # for templates that print it: a prompt is the same on every day
FIXED: dict[str, Any] = {
    "enable_thinking": False,
    "date_string": TODAY.strftime("%d %b %Y"),
    "strftime_now": TODAY.strftime,
}


class Behind(NamedTuple):
    """What follows `before` in a prompt: the question's tokens and those after it.

    A token that holds the question's last character and the line break behind it is the question's.
    """

    question: list[int]
    after: list[int]


@dataclass(frozen=True, kw_only=True)
class Frame:
    """Everything around a question, for one model: what stands before it and after it, as text and as tokens.

    The question's place may be taken by text, by soft tokens, by both or by nothing. chat: a template made the texts, which
    then hold their special tokens themselves.
    """

    lm: FrozenLM
    before_text: str
    after_text: str
    chat: bool
    answer_gap: str  # what separates the prompt from the answer: a space after a cue, nothing in a turn of its own
    before: tuple[int, ...]
    after: tuple[int, ...]

    def whole(self, text: str) -> str:
        """The prompt with a text in the question's place; an empty one leaves nothing there."""
        return f"{self.before_text}{_spaced(text)}{self.after_text}"

    def prompts(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of whole prompts, as the tokenizer makes them of the whole text."""
        return [ids for ids, _ in self._tokens([self.whole(text) for text in texts])]

    def prompt(self, text: str) -> list[int]:
        """Token ids of a whole prompt."""
        return self.prompts([text])[0]

    def behind(self, texts: Sequence[str]) -> list[Behind]:
        """Whole prompts without `before`, cut where each question ends."""
        found = []
        for text, (ids, starts) in zip(texts, self._tokens([self.whole(text) for text in texts]), strict=True):
            rest = self._behind_before(ids)
            end = len(self.before_text) + len(_spaced(text))
            count = sum(start < end for start in starts[len(self.before) :])
            found.append(Behind(rest[:count], rest[count:]))
        return found

    def questions(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of several questions in their place, with nothing behind them."""
        return [self._behind_before(ids) for ids, _ in self._tokens([self.before_text + _spaced(text) for text in texts])]

    def question(self, text: str) -> list[int]:
        """Tokens of a question in its place, with nothing behind it."""
        return self.questions([text])[0]

    def question_ends(self, texts: Sequence[str]) -> list[list[int]]:
        """For each token of each of several questions, the offset in its text at which it ends."""
        if not texts:
            return []
        left = len(self.before_text) + 1
        whole = [self.before_text + _spaced(text) for text in texts]
        told = self.lm.tokenizer(whole, add_special_tokens=not self.chat, return_offsets_mapping=True)
        rows = zip(told.offset_mapping, map(self._behind_before, told.input_ids), strict=True)
        return [[end - left for _, end in ends[len(ends) - len(row) :]] for ends, row in rows]

    def answers(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of several answers after the prompt, with the end token that teaches the model to stop."""
        if not texts:
            return []
        prompt = LETTER + self.after_text
        head = self.lm.tokenize(prompt)
        rows = self.lm.tokenizer([prompt + self.answer_gap + text for text in texts], add_special_tokens=False).input_ids
        if any(row[: len(head)] != head for row in rows):
            raise self._merged(self.after_text)
        return [[*row[len(head) :], self.lm.tokenizer.eos_token_id] for row in rows]

    def answer(self, text: str) -> list[int]:
        """Tokens of an answer after the prompt, with the end token."""
        return self.answers([text])[0]

    def anchored(self, anchor: str) -> Frame:
        """The frame of answers that all begin with `anchor`, which stands at the end of the prompt."""
        if not anchor:
            return self
        return _framed(self.lm, self.before_text, self.after_text + self.answer_gap + anchor, gap=" ", chat=self.chat)

    def _tokens(self, texts: Sequence[str]) -> list[tuple[list[int], list[int]]]:
        """(token ids, offsets at which each token starts) of texts that begin as the prompt does.

        A text that comes again is tokenized once, and so are exemplars, of which there may be thousands of tokens.
        """
        if not texts:
            return []
        cut, begun, begun_starts = _begun(self.lm.tokenizer, self.before_text) if self.chat else (0, (), ())
        several = list(dict.fromkeys(texts))
        behind = [text[cut:] for text in several]
        told = self.lm.tokenizer(behind, add_special_tokens=not self.chat, return_offsets_mapping=True)
        found = dict(zip(several, zip(told.input_ids, told.offset_mapping, strict=True), strict=True))
        return [
            ([*begun, *ids], [*begun_starts, *(cut + start for start, _ in pairs)])
            for ids, pairs in (found[text] for text in texts)
        ]

    def _behind_before(self, ids: list[int]) -> list[int]:
        if tuple(ids[: len(self.before)]) != self.before:
            raise self._merged(self.before_text)
        return ids[len(self.before) :]

    def _merged(self, text: str) -> ValueError:
        return ValueError(
            f"model {self.lm.name!r}: its tokenizer merges across the end of {text[-20:]!r}; soft tokens have no clean place "
            "there"
        )


def frame(lm: FrozenLM, evaluator: Evaluator, *, exemplars: Sequence[Problem] = (), after: str | None = None) -> Frame:
    """The frame of an evaluator's questions for a model; `after` replaces the evaluator's own cue."""
    opening = evaluator.instruction + "\n\n" if evaluator.instruction else ""
    ask = evaluator.before.rstrip()
    if not getattr(lm.tokenizer, "chat_template", None):
        shots = "".join(f"{ask} {shot.question.strip()}{evaluator.after} {shot.rationale}\n\n" for shot in exemplars)
        return _framed(lm, opening + shots + ask, evaluator.after if after is None else after, gap=" ", chat=False)
    turns = []
    for shot in exemplars:
        turns += [_turn("user", f"{ask} {shot.question.strip()}"), _turn("assistant", shot.rationale)]
    turns.append(_turn("user", ask + PLACE))
    turns[0] = _turn("user", opening + turns[0]["content"])
    before, _, behind = rendered(lm, turns, thinking=getattr(evaluator, "thinking", False)).partition(PLACE)
    cue = (after or "").strip()
    return _framed(lm, before, behind + cue, gap=" " if cue else "", chat=True)


def around(lm: FrozenLM, before_text: str, after_text: str, *, chat: bool = False) -> Frame:
    """The frame of a text from elsewhere in which a question stands, behind a space or nothing. chat: a template made it."""
    return _framed(lm, before_text.removesuffix(" "), after_text, gap="", chat=chat)


def _framed(lm: FrozenLM, before_text: str, after_text: str, *, gap: str, chat: bool) -> Frame:
    before, after = _seams(lm.tokenizer, lm.name, before_text, after_text, chat)
    return Frame(lm=lm, before_text=before_text, after_text=after_text, chat=chat, answer_gap=gap, before=before, after=after)


@lru_cache(maxsize=64)
def _seams(tokenizer: Any, name: str, before_text: str, after_text: str, chat: bool) -> tuple[tuple[int, ...], ...]:
    """The tokens before and after a question's place, as they are where a letter stands in it. name: of the model.

    Remembered by the tokenizer: what is remembered by a model would keep its weights in memory.
    """
    text = f"{before_text} {LETTER}{after_text}"
    told = tokenizer(text, add_special_tokens=not chat, return_offsets_mapping=True)
    start, end = len(before_text), len(before_text) + 1 + len(LETTER)
    before = [token for token, (_, last) in zip(told.input_ids, told.offset_mapping, strict=True) if last <= start]
    after = [token for token, (first, _) in zip(told.input_ids, told.offset_mapping, strict=True) if first >= end]
    letter = told.input_ids[len(before) : len(told.input_ids) - len(after)]
    if [*before, *letter, *after] != told.input_ids or tokenizer.decode(letter, skip_special_tokens=True).strip() != LETTER:
        raise ValueError(
            f"model {name!r}: its tokenizer leaves no clean place between {before_text[-20:]!r} and {after_text[:20]!r}; "
            f"a letter in it becomes {tokenizer.convert_ids_to_tokens(letter)}"
        )
    return tuple(before), tuple(after)


@lru_cache(maxsize=64)
def _begun(tokenizer: Any, text: str) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    """Up to which character the tokens of a text are what they are whatever follows it, those tokens, and where they start.

    That is before its last special token: tokenizers cut a text at these before anything else.
    """
    told = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids, starts = told.input_ids, [start for start, _ in told.offset_mapping]
    known = tokenizer.added_tokens_decoder
    cuts = {token for token, added in known.items() if added.special and not (added.normalized or added.lstrip)}
    last = max((place for place, token in enumerate(ids) if token in cuts), default=0)
    alone = tokenizer(text[starts[last] :], add_special_tokens=False).input_ids if last else []
    if not last or alone != ids[last:]:
        return 0, (), ()
    return starts[last], tuple(ids[:last]), tuple(starts[:last])


def rendered(lm: FrozenLM, turns: Sequence[dict[str, Any]], *, thinking: bool = False) -> str:
    """A chat as the model's template writes it, up to where the assistant's answer begins.

    The date of a template that prints one is fixed. thinking: whether one that can lets the model think. Content is given as
    text, or as a list of parts where the template wants that.
    """
    parts = [turn | {"content": [{"type": "text", "text": turn["content"]}]} for turn in turns]
    said = []
    for form in (list(turns), parts):
        try:
            text = lm.tokenizer.apply_chat_template(
                form, tokenize=False, add_generation_prompt=True, **FIXED | {"enable_thinking": thinking}
            )
        except Exception as error:  # a template is a program of the model's author: it may raise anything
            said.append(reason_of(error))
            continue
        if text.count(PLACE) == 1 and all(turn["content"].strip() in text for turn in turns):
            return text
        said.append("it does not write the question where it was put")
    raise ValueError(f"model {lm.name!r}: its chat template cannot be used: {said[0]}")


def template_hash(around: Frame) -> str:
    """Sixteen hex digits that identify what stands around every question: instruction, exemplars, template, anchor."""
    return hashlib.sha256(f"{around.before_text}\0{around.after_text}".encode()).hexdigest()[:16]


def prompt_hash(ids: Sequence[int]) -> str:
    """Sixteen hex digits that identify a prompt by its tokens."""
    return hashlib.sha256(" ".join(map(str, ids)).encode()).hexdigest()[:16]


def _turn(role: str, content: str) -> dict[str, Any]:
    return {"role": role, "content": content}


def _spaced(text: str) -> str:
    """A question as it stands behind the word that announces it; nothing for none."""
    return f" {text.strip()}" if text.strip() else ""
