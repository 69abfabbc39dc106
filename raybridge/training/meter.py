"""What a training step costs and what its soft tokens look like."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from raybridge.models.frozen import FrozenLM
from raybridge.training.step import Step

MOST = 512  # soft tokens whose rank is looked at
# Dense bf16 peak of one device, in FLOP/s, by the vendor's data sheet.
PEAK_FLOPS = {"A100": 312e12, "H100": 989e12, "H200": 989e12}


def peak_flops(device: torch.device) -> float | None:
    """Dense bf16 peak of a device; None where it is not known (then there is no MFU)."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for chip, peak in PEAK_FLOPS.items() if chip in name), None)


def flops_per_token(target: FrozenLM) -> float:
    """Forward through the target and back to its input: 4 FLOP a weight. The translator and the source are left out."""
    return 4.0 * target.model.num_parameters()


def soft_token_rank(soft_BKD: Tensor, *, problems: int = 8) -> float:
    """Effective rank of the soft tokens of the first problems: exp of the entropy of the normalised singular values
    (Roy and Vetterli 2007). 1 means that all soft tokens are one vector.

    Of at most MOST soft tokens, or of one problem's. The values are roots of eigenvalues: a GPU takes 3 s for those of eight
    problems of 512 directly, as long as for eight steps.
    """
    few = max(1, min(problems, MOST // soft_BKD.shape[1]))
    rows_ND = soft_BKD[:few].flatten(0, 1).double()
    gram = rows_ND @ rows_ND.T if len(rows_ND) <= rows_ND.shape[1] else rows_ND.T @ rows_ND
    values = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt()
    share = values / values.sum()
    return torch.special.entr(share).sum().exp().item()


def soft_token_rms(soft_BKD: Tensor) -> float:
    """Median RMS over soft tokens."""
    return soft_BKD.float().pow(2).mean(-1).sqrt().median().item()


class Meter:
    """Tokens a second, and their share of the hardware's peak, between two readings."""

    def __init__(self, *, flops_per_token: float, device: torch.device, devices: int) -> None:
        peak = peak_flops(device)
        self.flops_per_token = flops_per_token
        self.peak = None if peak is None else peak * devices
        self._tokens, self._since = 0, time.perf_counter()

    def count(self, tokens: int) -> None:
        """Add the tokens of a step."""
        self._tokens += tokens

    def read(self) -> tuple[float, float | None]:
        """(tokens a second, MFU) since the last reading."""
        now = time.perf_counter()
        rate = self._tokens / (now - self._since)
        self._tokens, self._since = 0, now
        return rate, None if self.peak is None else rate * self.flops_per_token / self.peak


def metrics_row(step: int, done: Step, rate: float, mfu: float | None, seconds: float) -> dict[str, Any]:
    """A line of metrics.jsonl."""
    row = {
        "step": step,
        "loss": done.loss,
        "learning_rate": done.learning_rate,
        "gradient_norm": done.gradient_norm,
        "tokens_per_second": rate,
        "mfu": mfu,
        "soft_rms": soft_token_rms(done.soft_BKD),
        "soft_rank": soft_token_rank(done.soft_BKD),
        "seconds": seconds,
    }
    for term in done.terms:
        row |= {
            f"loss/{term.loss.name}": term.value,
            f"weight/{term.loss.name}": term.loss.weight,
            f"gradient/{term.loss.name}": term.gradient,
        }
    return row
