"""Answers in completions: how they are found and compared, where several benchmarks do it in the same way."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation

STRICT = re.compile(r"#### (-?[0-9.,]+)")  # the first one counts
FLEXIBLE = re.compile(r"-?[$0-9.,]{2,}|-?[0-9]+")  # the last one counts
NUMBER = re.compile(r"-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)")
MINUS = str.maketrans(dict.fromkeys("\u2212\ufe63\uff0d", "-"))  # the minus sign, the small and the fullwidth hyphen-minus
NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def read_numbers(completion: str) -> dict[str, str | None]:
    """An answer by the two filters of lm-evaluation-harness's gsm8k (see `evaluators.gsm8k`), as plain numbers.

    strict: what follows the first marker; flexible: the last thing that looks like a number. What is none after all, such as
    the dots of "in total...", is no answer. A minus is a minus in every script; the filters know the ASCII one alone.
    """
    plain = with_minus(completion)
    marked, numbers = STRICT.search(plain), FLEXIBLE.findall(plain)
    found = {"strict": marked[1] if marked else None, "flexible": numbers[-1] if numbers else None}
    return {reading: plain_number(number) if number else None for reading, number in found.items()}


def with_minus(text: str) -> str:
    """The text with every minus sign as the one that a keyboard has."""
    return text.translate(MINUS)


def plain_number(number: str) -> str | None:
    """The number without thousands separators, currency and a sentence's full stop; None for what is no number."""
    plain = number.replace(",", "").replace("$", "").removesuffix(".")
    return plain if NUMBER.fullmatch(plain) else None


def same_number(answer: str | None, gold: str | None, *, within: Decimal = Decimal(0)) -> bool:
    """Whether both are numbers and equal as such: 18, 18. and 18.0 are one number. An absent answer equals nothing."""
    if answer is None or gold is None:
        return False
    try:
        left, right = Decimal(answer), Decimal(gold)
    except InvalidOperation:
        return False
    return left.is_finite() and right.is_finite() and abs(left - right) <= within


def plain_words(text: str) -> list[str]:
    """Words as official SQuAD grading sees them: lower case, no ASCII punctuation, no English articles."""
    return re.sub(r"\b(?:a|an|the)\b", " ", text.lower().translate(NO_PUNCTUATION)).split()


def word_f1(answer: Sequence[str], gold: Sequence[str]) -> float:
    """F1 of two bags of words; 0 where they share none."""
    shared = (Counter(answer) & Counter(gold)).total()
    return 2 * shared / (len(answer) + len(gold)) if shared else 0.0


def first_line(completion: str) -> str | None:
    """The first line that is not blank: a short answer, without what a model may write after it."""
    return next((line.strip() for line in completion.splitlines() if line.strip()), None)
