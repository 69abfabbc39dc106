"""Problems: what one is (`problems`), where its row comes from (`origin`), how an answer is read and compared (`answers`).

Further texts to learn from, made of problems: `texts`.

Evaluators import this package and no other, so what they need of configs is handed on here.
"""

from raybridge.config import later, typed
from raybridge.data.answers import first_line, plain_number, plain_words, read_numbers, same_number, with_minus, word_f1
from raybridge.data.origin import (
    HERE,
    UnreachableError,
    check_surrogates,
    data_folder,
    data_state,
    from_here,
    read_jsonl,
    rows,
    text,
    writes_surrogates,
)
from raybridge.data.problems import SPLITS, Evaluator, Problem, Split, check_split, check_unique, draw, rank

__all__ = [
    "HERE",
    "SPLITS",
    "Evaluator",
    "Problem",
    "Split",
    "UnreachableError",
    "check_split",
    "check_surrogates",
    "check_unique",
    "data_folder",
    "data_state",
    "draw",
    "first_line",
    "from_here",
    "later",
    "plain_number",
    "plain_words",
    "rank",
    "read_jsonl",
    "read_numbers",
    "rows",
    "same_number",
    "text",
    "typed",
    "with_minus",
    "word_f1",
    "writes_surrogates",
]
