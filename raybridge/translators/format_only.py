"""Format alone: K learned soft tokens in front of the question's text (prompt tuning, Lester et al. 2021, arXiv:2104.08691).

The fair ceiling of accuracy that a bridge keeps: the target reads the whole question and has learned, from the same data in as
many steps, how answers are written. What a bridge gains on the text without it may be that format.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from raybridge.translators.prompt_tuning import PromptTuning


@dataclass(frozen=True, kw_only=True)
class FormatOnly(PromptTuning):
    """K soft tokens, the same for every question, to be trained by `answer_beside_text` and judged beside the text."""

    VERSION: ClassVar[int] = 1

    @property
    def arm(self) -> str:
        """Beside the question as text."""
        return "bridged_with_text"
