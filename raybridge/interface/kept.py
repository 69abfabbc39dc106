"""What a bridge is made of, wherever it was found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from raybridge.trial import Trial


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A trained translator. name: of its trial's directory. step: of its checkpoint. result: what its trial came to."""

    name: str
    trial: Trial
    step: int
    weights: Mapping[str, Tensor]
    result: Mapping[str, Any] = field(default_factory=dict)
