"""What a row wrote, and where it ends: at an end token, before a stop string, or at the most tokens that it may have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from raybridge.models.frozen import FrozenLM

BLOCK = 8  # tokens between two looks of the host


@dataclass(frozen=True, kw_only=True)
class Completion:
    """What a model answered. truncated: it reached the token limit without ending; ended: it wrote an end token."""

    text: str
    tokens: int
    truncated: bool
    ended: bool
    first: int  # the first token, whatever it is


@dataclass(frozen=True, kw_only=True)
class Limit:
    """Where completions end. most: tokens of one; stop: strings."""

    most: int
    stop: Sequence[str] = ()

    def reached(self, lm: FrozenLM, tokens: Sequence[int], *, new: int) -> bool:
        """Whether a row is over: all its tokens are there, an end token is new, or a stop string reaches into what is new."""
        if len(tokens) >= self.most or not lm.end_ids.isdisjoint(tokens[-new:]):
            return True
        reach = new + max((len(text.encode()) for text in self.stop), default=0)  # a token is at least a byte
        tail = lm.text(tokens[-reach:]) if self.stop else ""
        return any(text in tail for text in self.stop)

    def completion(self, lm: FrozenLM, tokens: Sequence[int]) -> Completion:
        """A row, which may have run on, cut at its first end token and before its first stop string."""
        tokens = tokens[: self.most]
        length = next((i for i, token in enumerate(tokens) if token in lm.end_ids), len(tokens))
        ended = length < len(tokens)
        text = lm.text(tokens[:length])
        cut = min((at for at in (text.find(string) for string in self.stop) if at >= 0), default=len(text))
        truncated = not ended and cut == len(text) and len(tokens) >= self.most
        count = min(length + ended, len(tokens))
        return Completion(text=text[:cut], tokens=count, truncated=truncated, ended=ended and cut == len(text), first=tokens[0])
