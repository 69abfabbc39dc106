"""Do more questions help? Those of train again with other numbers, answered by the target itself.

The pocket benchmark makes as many questions as one wants: there it has few, so that there is something to lack.
"""

from dataclasses import replace
from typing import Any

from raybridge.trial import OwnAnswers, Trial
from sweeps import longer

axes: dict[str, dict[str, list[Any]]] = {
    "pocket": dict(varied=[0, 3], soft_tokens=[8], seed=[1234], few=[500]),
    "small": dict(varied=[1, 3], soft_tokens=[16], seed=[1234]),
    "full": dict(varied=[0, 3], soft_tokens=[16], seed=[1234]),
}


def trial(base: Trial, *, varied: int, soft_tokens: int, seed: int, few: int | None = None) -> Trial:
    longest = longer.trial(base, soft_tokens=soft_tokens, seed=seed)
    return replace(
        longest,
        name=f"19_varied{varied}_s{seed}_{soft_tokens}tok",
        own_answers=OwnAnswers(right=False, varied=varied),
        evaluator=base.evaluator if few is None else replace(base.evaluator, train=few),
    )
