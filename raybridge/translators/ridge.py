"""Ridge regression in closed form, from sums that are added up part by part: no more than a part is in memory at one time.

Shapes: N positions of a part, S features of a position, D wanted values of one.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class Moments:
    """Sums, in float64, over positions: of their features, of what is wanted of them, by name, and of products of the two."""

    def __init__(self) -> None:
        self.count = 0
        self._sum_S = torch.zeros(())
        self._gram_SS: Tensor | None = None
        self._wanted_D: dict[str, Tensor] = {}
        self._cross_SD: dict[str, Tensor] = {}
        self._squares: dict[str, Tensor] = {}

    @classmethod
    def of(cls, features_NS: Tensor, **wanted: Tensor) -> Moments:
        """Those of a single part; wanted: by name (N, D)."""
        moments = cls()
        moments.add(features_NS, wanted)
        return moments

    def add(self, features_NS: Tensor, wanted: Mapping[str, Tensor]) -> None:
        """Count a part; wanted: by name (N, D)."""
        x_NS = features_NS.double()
        self.count += len(x_NS)
        self._sum_S = self._sum_S + x_NS.sum(0)
        if self._gram_SS is None:
            self._gram_SS = x_NS.T @ x_NS
        else:
            self._gram_SS.addmm_(x_NS.T, x_NS)
        for name, values_ND in wanted.items():
            y_ND = values_ND.double()
            for sums, more in (
                (self._wanted_D, y_ND.sum(0)),
                (self._cross_SD, x_NS.T @ y_ND),
                (self._squares, y_ND.square().sum()),
            ):
                sums[name] = sums[name] + more if name in sums else more

    def rms(self, name: str) -> Tensor:
        """Root of the mean square of wanted values."""
        return (self._squares[name] / (self.count * len(self._wanted_D[name]))).sqrt()

    def ridge(self, name: str, *, penalty: float = 1e-3) -> tuple[Tensor, Tensor]:
        """Weight (D, S) and bias (D) that minimise the squared error plus `penalty` x mean feature variance."""
        assert self._gram_SS is not None, "no position was counted"
        x_mean_S, y_mean_D = self._sum_S / self.count, self._wanted_D[name] / self.count
        gram_SS = torch.addr(self._gram_SS, x_mean_S, x_mean_S, alpha=-self.count)
        gram_SS.diagonal().add_(penalty * gram_SS.diagonal().mean())
        cross_SD = torch.addr(self._cross_SD[name], x_mean_S, y_mean_D, alpha=-self.count)
        weight_SD = torch.linalg.solve(gram_SS, cross_SD)
        return weight_SD.T, y_mean_D - x_mean_S @ weight_SD
