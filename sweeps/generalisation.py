"""Does the same recipe carry other questions than grade-school ones?

Each trial is then evaluated on the others' benchmarks, and on MATH-500, which has no train split:
`python -m raybridge.evaluate TRIAL --on math`.
"""

from dataclasses import replace
from typing import Any

from evaluators.gsm8k import GSM8K
from evaluators.hotpotqa import HotpotQA
from evaluators.pocket import Pocket
from evaluators.squad import Squad
from raybridge.trial import Trial

TESTED = {"squad": 1000}  # problems of test, of the ten thousand that there are
BENCHMARKS: dict[str, tuple[Any, int]] = {  # benchmark, problems a step: contexts of reading comprehension are long
    "gsm8k": (GSM8K(shots=0), 32),
    "squad": (Squad(), 32),
    "hotpotqa": (HotpotQA(), 16),
    "pocket": (Pocket(), 32),
    "pocket_few": (Pocket(train=500), 32),
}

axes = {
    "pocket": dict(benchmark=["pocket", "pocket_few"], soft_tokens=[32], seed=[1234]),
    "small": dict(benchmark=["gsm8k", "squad", "hotpotqa"], soft_tokens=[32], seed=[1234]),
    "full": dict(benchmark=["gsm8k", "squad", "hotpotqa"], soft_tokens=[128], seed=[1234, 1235, 1236]),
}


def trial(base: Trial, *, benchmark: str, soft_tokens: int, seed: int) -> Trial:
    evaluator, batch = BENCHMARKS[benchmark]
    letter = "abcde"[list(BENCHMARKS).index(benchmark)]
    return replace(
        base,
        name=f"8{letter}_{benchmark}_s{seed}_{soft_tokens}tok",
        seed=seed,
        evaluator=evaluator,
        batch=batch,
        test_problems=TESTED.get(benchmark, base.test_problems),
        own_answers=None,  # of a small train split too few would be right
        translator=replace(base.translator, soft_tokens=soft_tokens),
    )
