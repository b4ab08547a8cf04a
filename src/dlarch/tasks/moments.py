"""What least squares needs of rows: their number, their means and their second moments."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Moments:
    """Moments of rows (x, y), in float64 on the CPU; those of two sets of rows add up.

    The second moments are kept around the mean, since a difference of large sums would lose digits.

    Attributes:
        count: number of rows, n.
        mean: (F + O,) of x and y.
        scatter: (F + O, F + O), sum over the rows of the products of their distances from the mean.
        in_features: F.
    """

    count: float
    mean: Tensor
    scatter: Tensor
    in_features: int

    @classmethod
    def of(cls, inputs: Tensor, targets: Tensor) -> Moments:
        """Those of some rows, x (B, F) and y (B, O)."""
        rows = torch.cat((inputs.detach().cpu().double(), targets.detach().cpu().double()), dim=1)
        mean = rows.mean(0)
        centred = rows - mean
        return cls(float(len(rows)), mean, centred.T @ centred, inputs.shape[1])

    def __add__(self, other: Moments) -> Moments:
        """Those of the rows of both."""
        count = self.count + other.count
        between = other.mean - self.mean
        apart = between.outer(between) * (self.count * other.count / count)
        mean = self.mean + between * (other.count / count)
        return Moments(count, mean, self.scatter + other.scatter + apart, self.in_features)

    @property
    def x_mean(self) -> Tensor:
        """(F,)."""
        return self.mean[: self.in_features]

    @property
    def y_mean(self) -> Tensor:
        """(O,)."""
        return self.mean[self.in_features :]

    @property
    def xx(self) -> Tensor:
        """X'X of centred rows, (F, F)."""
        return self.scatter[: self.in_features, : self.in_features]

    @property
    def xy(self) -> Tensor:
        """X'Y of centred rows, (F, O)."""
        return self.scatter[: self.in_features, self.in_features :]

    @property
    def yy(self) -> Tensor:
        """Y'Y of centred rows, (O, O)."""
        return self.scatter[self.in_features :, self.in_features :]
