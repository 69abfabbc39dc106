"""Texts from elsewhere with a bridge's soft tokens in the place of the question; what follows is completed or scored.

Shapes: B texts, A tokens of a continuation, D target width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from raybridge.evaluation.prompt import common_beginning
from raybridge.interface.bridge import TrainedBridge
from raybridge.models.decode import greedy
from raybridge.models.frozen import FrozenLM
from raybridge.models.pieces import Piece
from raybridge.models.prompts import Frame, around


@dataclass(frozen=True, kw_only=True)
class Text:
    """A text in which a question stands, last if it stands there several times. chat: a template made it."""

    whole: str
    question: str
    chat: bool = False

    def __post_init__(self) -> None:
        if not self.question.strip() or self.question.strip() not in self.whole:
            raise ValueError(
                f"the question {self.question[:60]!r} does not stand as it is in the text {self.whole[-120:]!r}; soft tokens "
                "have no place in it"
            )

    @property
    def start(self) -> int:
        """Where the question begins."""
        return self.whole.rindex(self.question.strip())

    def frame(self, lm: FrozenLM) -> Frame:
        """What stands around the question."""
        behind = self.whole[self.start + len(self.question.strip()) :]
        return around(lm, self.whole[: self.start], behind, chat=self.chat)


@dataclass(frozen=True, kw_only=True)
class Placed:
    """Texts as a target reads them: tokens that all share, and the pieces behind them."""

    lm: FrozenLM
    shared: tuple[int, ...]
    pieces: list[Piece]


def placed(bridge: TrainedBridge, texts: Sequence[Text]) -> Placed:
    """Soft tokens in the place of each question, or as the translator puts them beside it where it is trained for that."""
    lm, with_text = bridge.reader, bridge.arm.shows_question
    frames = [text.frame(lm) for text in texts]
    asked = [text.question.strip() for text in texts]
    if with_text and any(not text.whole[: text.start].endswith((" ", "\n")) for text in texts):
        raise ValueError("a question that is shown as well must stand behind a space or a line break")
    behind = [frame.behind([question if with_text else ""])[0] for frame, question in zip(frames, asked, strict=True)]
    before = [list(frame.before) for frame in frames]
    shared = common_beginning(before) if all(before) else ()
    middle = bridge.placed(asked, [row.question for row in behind] if with_text else None)
    first = lm.text_piece([row[len(shared) :] for row in before])
    return Placed(lm=lm, shared=shared, pieces=[first, *middle, lm.text_piece([row.after for row in behind])])


def completed(bridge: TrainedBridge, texts: Sequence[Text], *, max_new_tokens: int, stop: Sequence[str]) -> list[str]:
    """Greedy completions of the texts."""
    here = placed(bridge, texts)
    done = greedy(here.lm, here.pieces, max_new_tokens=max_new_tokens, stop=stop, shared=here.shared)
    return [one.text for one in done]


@torch.no_grad()
def scored(bridge: TrainedBridge, texts: Sequence[Text], continuations: Sequence[str]) -> list[tuple[float, bool]]:
    """(log-likelihood of a continuation behind its text, whether it is what greedy decoding would write)."""
    lm, with_text = bridge.reader, bridge.arm.shows_question
    rows = []
    for text, continuation in zip(texts, continuations, strict=True):
        prompt = text.frame(lm).whole(text.question if with_text else "")
        ids, longer = (lm.tokenizer(one, add_special_tokens=not text.chat).input_ids for one in (prompt, prompt + continuation))
        if longer[: len(ids)] != ids or len(longer) == len(ids):
            raise ValueError(f"model {lm.name!r}: its tokenizer merges {prompt[-20:]!r} with {continuation[:20]!r}")
        rows.append(longer[len(ids) :])
    here = placed(bridge, texts)
    pieces = [lm.text_piece([here.shared] * len(texts)), *here.pieces]
    hidden_BAD, ids_BA, mask_BA = lm.continuation_states(pieces, rows)
    nll_B = lm.states_nll(hidden_BAD, ids_BA, list(map(len, rows))).sum(1)
    likeliest = [lm.logits(hidden_AD).argmax(dim=-1) for hidden_AD in hidden_BAD]
    return [(-float(nll_B[row]), bool((likeliest[row] == ids_BA[row])[mask_BA[row]].all())) for row in range(len(texts))]
