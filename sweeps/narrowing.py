"""Does it help to begin with more soft tokens? Four times K, twice K from a quarter of the steps on, K from half of them."""

from dataclasses import replace
from typing import Any

from raybridge.translators.bottlenecked import Bottlenecked
from raybridge.translators.narrowing import Narrowing
from raybridge.trial import Trial
from sweeps import longer

axes: dict[str, dict[str, list[Any]]] = {
    "pocket": dict(times=[1, 4], soft_tokens=[8], seed=[1234]),
    "small": dict(times=[4], soft_tokens=[16], seed=[1234]),
    "full": dict(times=[4], soft_tokens=[16], seed=[1234]),
}


def trial(base: Trial, *, times: int, soft_tokens: int, seed: int) -> Trial:
    longest = longer.trial(base, soft_tokens=soft_tokens, seed=seed)
    translator = longest.translator
    assert isinstance(translator, Bottlenecked), f"{longest.name} has no queries"
    narrowing = Narrowing(times=times) if times > 1 else None
    return replace(
        longest,
        name=f"20_narrowing{times}_s{seed}_{soft_tokens}tok",
        translator=replace(translator, narrowing=narrowing),
    )
