"""Training as it is written without raybridge: padded batches, both models in memory, a pass of the target for each text.

The translator is the same module, and so are the prompts, the learning rate and the weight decay. Where a process group is
there the translator is wrapped in DDP.

Shapes: B problems, T source positions, L source layers, S source width, K soft tokens, D target width, A answer tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from raybridge.losses.bridge import SHARED_TOKENS, Batch, cut
from raybridge.models.frozen import FrozenLM
from raybridge.models.prompts import REPEAT_CUE, frame
from raybridge.trial import Trial

IGNORED = -100  # a label that is not asked for


class PlainTrainer:
    """A translator, its optimizer and the two models. part: problems a pass of the target."""

    def __init__(self, trial: Trial, source: FrozenLM, target: FrozenLM, *, part: int) -> None:
        self.trial, self.source, self.target, self.part = trial, source, target, part
        self.read = frame(source, trial.evaluator)
        self.answer, self.repeat = frame(target, trial.evaluator), frame(target, trial.evaluator, after=REPEAT_CUE)
        torch.manual_seed(trial.seed)
        self.translator = trial.translator.build(source.width, target.width, target_rms=target.embedding_rms).to(target.device)
        self.module = DistributedDataParallel(self.translator) if dist.is_initialized() else self.translator
        self.optimizer = torch.optim.AdamW(
            self.translator.parameters(), lr=trial.learning_rate, weight_decay=trial.weight_decay
        )

    def step(self, batch: Batch) -> list[float]:
        """One optimizer step; the NLL a token of the answers and of the repetitions."""
        self.optimizer.zero_grad()
        size, losses = len(batch.answers), torch.zeros(2, device=self.target.device)
        answers, repeats = (cut(rows, SHARED_TOKENS) for rows in (batch.answers, batch.repeats))
        counts = [sum(map(len, rows)) for rows in (answers, repeats)]
        for start in range(0, size, self.part):
            rows = slice(start, start + self.part)
            last = start + self.part >= size
            with nullcontext() if last or not dist.is_initialized() else self.module.no_sync():
                losses += self._back(batch.source_questions[rows], (answers[rows], repeats[rows]), counts)
        torch.nn.utils.clip_grad_norm_(self.module.parameters(), self.trial.clip)
        self.optimizer.step()
        return losses.tolist()

    def _back(
        self, questions: Sequence[Sequence[int]], texts: Sequence[Sequence[Sequence[int]]], counts: Sequence[int]
    ) -> Tensor:
        """The losses of some problems, whose gradients are added to what is there."""
        states_BTLS, mask_BT = self.states(questions)
        with torch.autocast(self.target.device.type, dtype=torch.bfloat16, enabled=self.target.device.type == "cuda"):
            soft_BKD = self.module(states_BTLS, mask_BT).to(self.target.model.dtype)
        behind = zip((self.answer.after, self.repeat.after), texts, counts, strict=True)
        losses = [self._nll(soft_BKD, after, rows) / count for after, rows, count in behind]
        torch.stack(losses).sum().backward()
        return torch.stack(losses).detach()

    def states(self, questions: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """What the source makes of questions."""
        return states_of(self.source, self.read.before, questions, self.trial.translator.layers)

    def _nll(self, soft_BKD: Tensor, after: Sequence[int], rows: Sequence[Sequence[int]]) -> Tensor:
        """Summed NLL of texts behind the soft tokens and `after`."""
        B = len(rows)
        ids_BA, mask_BA = _padded(rows, self.target)
        front = [self.target.embed(torch.tensor([list(ids)], device=self.target.device)) for ids in (self.answer.before, after)]
        pieces = [front[0].expand(B, -1, -1), soft_BKD, front[1].expand(B, -1, -1), self.target.embed(ids_BA)]
        embeds_BTD = torch.cat(pieces, dim=1)
        start = embeds_BTD.shape[1] - ids_BA.shape[1]
        mask_BT = F.pad(mask_BA, (start, 0), value=True)
        logits_BTV = self.target.model(inputs_embeds=embeds_BTD, attention_mask=mask_BT.long(), use_cache=False).logits
        labels_BA = ids_BA.masked_fill(~mask_BA, IGNORED)
        return F.cross_entropy(
            logits_BTV[:, start - 1 : -1].flatten(0, 1).float(), labels_BA.flatten(), ignore_index=IGNORED, reduction="sum"
        )


@torch.no_grad()
def states_of(
    source: FrozenLM, before: Sequence[int], questions: Sequence[Sequence[int]], layers: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """States of questions (B, T, L, S) behind some tokens, in these layers, at unit RMS; and their mask."""
    ids, mask = _padded([[*before, *row] for row in questions], source)
    with source.as_written():
        hidden = source.model(input_ids=ids, attention_mask=mask.long(), output_hidden_states=True).hidden_states
    states_BTLS = torch.stack([hidden[layer][:, len(before) :] for layer in layers], dim=2).float()
    return F.rms_norm(states_BTLS, states_BTLS.shape[-1:]), mask[:, len(before) :]


def _padded(rows: Sequence[Sequence[int]], lm: FrozenLM) -> tuple[Tensor, Tensor]:
    """Token rows with pads behind them, and which are real."""
    longest = max(map(len, rows))
    ids = torch.tensor([[*row, *[lm.tokenizer.pad_token_id] * (longest - len(row))] for row in rows], device=lm.device)
    lengths = torch.tensor([len(row) for row in rows], device=lm.device).unsqueeze(1)
    return ids, torch.arange(longest, device=lm.device) < lengths
