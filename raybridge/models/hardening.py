"""Decode hardening: what an evaluation may change about greedy decoding, off unless it is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, kw_only=True)
class Hardening:
    """Changes to greedy decoding. They are told in the names of the arms and in the keys of what is kept.

    top_p, temperature: draw the first token out of its nucleus, seeded by problem; None takes the likeliest.
    ban_end: the first so many tokens cannot be end tokens. repetition_penalty: divides the positive logits of tokens that
    were written before, and multiplies the negative ones (Keskar et al. 2019, arXiv:1909.05858); 1 is none.
    anchor: text that every answer starts with. bos: a BOS behind the soft tokens.
    """

    VERSION: ClassVar[int] = 1

    top_p: float | None = None
    temperature: float = 0.7
    seed: int = 0
    ban_end: int = 0
    repetition_penalty: float = 1.0
    anchor: str = ""
    bos: bool = False

    def __post_init__(self) -> None:
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"hardening: top_p must lie above 0 and at most at 1, not {self.top_p}")
        if not self.temperature > 0:
            raise ValueError(f"hardening: temperature must be above 0, not {self.temperature}")
        if self.ban_end < 0:
            raise ValueError(f"hardening: ban_end must be at least 0, not {self.ban_end}")
        if not self.repetition_penalty >= 1:
            raise ValueError(f"hardening: repetition_penalty must be at least 1, not {self.repetition_penalty}")
        if self.anchor != self.anchor.strip():
            raise ValueError(f"hardening: anchor {self.anchor!r} must not begin or end with space; a space stands around it")

    @property
    def plain(self) -> bool:
        """Whether decoding is greedy and nothing else; an anchor and a BOS change the prompt, not the decoding."""
        return self.top_p is None and not self.ban_end and self.repetition_penalty == 1.0

    @property
    def label(self) -> str:
        """What the names of hardened arms end in, such as "+p0.95t0.7+ban4"; empty where nothing is on."""
        parts = [
            f"p{self.top_p:g}t{self.temperature:g}s{self.seed}" if self.top_p is not None else "",
            f"ban{self.ban_end}" if self.ban_end else "",
            f"rep{self.repetition_penalty:g}" if self.repetition_penalty != 1.0 else "",
            f"anchor({self.anchor})" if self.anchor else "",
            "bos" if self.bos else "",
        ]
        return "".join(f"+{part}" for part in parts if part)


PLAIN = Hardening()
