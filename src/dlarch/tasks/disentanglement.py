"""How far each number of a code tells one factor of the data, where the factors are known."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

BINS = 20
"""Equal parts that the range of a number is divided into, to count how often it lies in each."""


def mutual_information_gap(codes: Tensor, factors: Tensor, bins: int = BINS) -> Tensor:
    r"""How much better the best number of a code tells a factor than the second best (1802.04942).

    $$\frac{I(z_{(1)}; v) - I(z_{(2)}; v)}{H(v)}$$

    for each factor v: 1 if one number tells all of it and no other number anything, 0 if two
    numbers tell equally much. Mutual information is that of counts in equal bins, which is a little
    too high where examples are few, for all numbers alike.

    Args:
        codes: (N, D).
        factors: (N, F).
        bins: of each number and factor.

    Returns:
        (F,), without factors that are always the same.
    """
    places, values = _binned(codes, bins), _binned(factors, bins)
    gaps = []
    for factor in values.unbind(1):
        entropy = _entropy(factor.bincount(minlength=bins))
        if entropy <= 0:
            continue
        told = torch.stack([_information(place, factor, bins) for place in places.unbind(1)])
        best = torch.cat((told, told.new_zeros(1))).topk(2).values
        gaps.append((best[0] - best[1]) / entropy)
    return torch.stack(gaps) if gaps else codes.new_zeros(0)


def _binned(values: Tensor, bins: int) -> Tensor:
    """In which part of its column's range each value lies, 0 to bins - 1."""
    low, high = values.aminmax(dim=0)
    span = torch.where(high > low, high - low, 1)
    return ((values - low) / span * bins).long().clamp(max=bins - 1)


def _entropy(counts: Tensor) -> Tensor:
    shares = counts[counts > 0].double() / counts.sum()
    return -(shares * shares.log()).sum()


def _information(one: Tensor, other: Tensor, bins: int) -> Tensor:
    """I(one; other) of bins (N,), in nats."""
    table = (one * bins + other).bincount(minlength=bins**2).view(bins, bins)
    return _entropy(table.sum(0)) + _entropy(table.sum(1)) - _entropy(table.flatten())


class MutualInformationGap(Metric):
    """The mean of the gaps of all factors, over the whole epoch and all ranks."""

    full_state_update = False
    codes: list[Tensor]
    factors: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("codes", [], dist_reduce_fx="cat")
        self.add_state("factors", [], dist_reduce_fx="cat")

    def update(self, codes: Tensor, factors: Tensor) -> None:
        """Add codes (B, D) and the factors (B, F) behind them."""
        self.codes.append(codes)
        self.factors.append(factors)

    def compute(self) -> Tensor:
        """The mean."""
        gaps = mutual_information_gap(dim_zero_cat(self.codes), dim_zero_cat(self.factors))
        return gaps.mean().float()
