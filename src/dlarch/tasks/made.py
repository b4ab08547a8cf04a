"""Metrics of examples that a model makes, beside real ones; sums add up over batches and ranks."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from dlarch.batches import Modes
from dlarch.nn.distances import WIDTHS, frechet_distance, median_distance, squared_mmd

REACH = 3.0
"""Standard deviations from a mode within which a point is good, as PacGAN counts (1712.04086)."""


class TwoSets(Metric):
    """A distance of all real from all made rows."""

    full_state_update = False
    real: list[Tensor] | Tensor
    made: list[Tensor] | Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("real", [], dist_reduce_fx="cat")
        self.add_state("made", [], dist_reduce_fx="cat")

    @abstractmethod
    def distance(self, real: Tensor, made: Tensor) -> Tensor:
        """Of rows (N, F) and (N, F), in double precision."""

    def update(self, real: Tensor, made: Tensor) -> None:
        """Add real and made rows, each (B, F)."""
        self.real.append(real.detach().float())  # type: ignore[union-attr]
        self.made.append(made.detach().float())  # type: ignore[union-attr]

    def compute(self) -> Tensor:
        """The distance; NaN of fewer than two rows."""
        found = torch.tensor(torch.nan)
        if len(self.real):
            # Differences of nearly equal sums: in a precision that not every device has.
            real, made = (dim_zero_cat(rows).cpu().double() for rows in (self.real, self.made))
            found = self.distance(real, made) if len(real) > 1 else found
        return found.float().to(self.device)


class SquaredMMD(TwoSets):
    """Squared maximum mean discrepancy of real and made rows, estimated without bias.

    The kernel is the mean of five Gaussians, whose widths are 1/4, 1/2, 1, 2 and 4 times the median
    distance between real rows, so that it is the same for all models of the same data.
    """

    def distance(self, real: Tensor, made: Tensor) -> Tensor:
        """The estimate; it may be a little below 0."""
        median = median_distance(real) or 1.0
        return squared_mmd(real, made, [median * width for width in WIDTHS])


class OfModes(Metric):
    """Counts the points that are good: near the Gaussian that is nearest to them.

    Args:
        modes: the Gaussians.
    """

    full_state_update = False
    counts: Tensor
    total: Tensor

    def __init__(self, modes: Modes) -> None:
        super().__init__()
        self.modes = modes
        self.add_state("counts", torch.zeros(len(modes.centres)), dist_reduce_fx="sum")
        self.add_state("total", torch.zeros(()), dist_reduce_fx="sum")

    def update(self, points: Tensor) -> None:
        """Add points (B, F)."""
        centres, deviation = (part.to(points.device) for part in self.modes)
        away = torch.cdist(points.float() / deviation, centres / deviation)
        nearest = away.min(1)
        good = nearest.indices[nearest.values < REACH]
        self.counts = self.counts + good.bincount(minlength=len(centres)).to(self.counts)
        self.total = self.total + len(points)


class ModesCovered(OfModes):
    """How many of the Gaussians have at least one good point."""

    def compute(self) -> Tensor:
        """0 to K."""
        return (self.counts > 0).sum().float()


class HighQuality(OfModes):
    """Share of the points that are good."""

    def compute(self) -> Tensor:
        """0 to 1."""
        return self.counts.sum() / self.total


class ModeKL(OfModes):
    """Divergence of the Gaussians' shares of good points from equal ones, in nats.

    The "reverse" one, KL(made || real): 0 if all are equally frequent, log K if all points belong
    to one; that of no good point at all is log K too.
    """

    def compute(self) -> Tensor:
        """0 to log K."""
        total = self.counts.sum()
        shares = self.counts / total.clamp(min=1)
        nats = torch.special.xlogy(shares, shares * len(shares)).sum()
        return torch.where(total > 0, nats, torch.tensor(float(len(shares))).log().to(nats))


class ClassifierFrechet(TwoSets):
    """Squared Frechet distance of what a classifier's last layer reads of real and made images.

    That of the Gaussians with their means and covariances. Not the FID: that is of the features of
    another network.
    """

    def distance(self, real: Tensor, made: Tensor) -> Tensor:
        """Of features, each (N, F)."""
        return frechet_distance(real.mean(0), real.T.cov(), made.mean(0), made.T.cov())


class RarestClass(Metric):
    """Share of the class that a classifier finds least often among images.

    Args:
        classes: K, number of classes.
    """

    full_state_update = False
    counts: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.add_state("counts", torch.zeros(classes), dist_reduce_fx="sum")

    def update(self, labels: Tensor) -> None:
        """Add the classes of images, (B,)."""
        self.counts = self.counts + labels.bincount(minlength=len(self.counts)).to(self.counts)

    def compute(self) -> Tensor:
        """0 to 1 / K."""
        return self.counts.min() / self.counts.sum()
