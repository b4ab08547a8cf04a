"""What weights add to a loss, so that they stay small or few."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from dlarch.errors import OptionError


class ElasticNet:
    r"""The penalty $\alpha (r \sum |w| + \tfrac{1 - r}{2} \sum w^2)$ over weights.

    H. Zou, T. Hastie (2005), Regularization and variable selection via the elastic net.

    Args:
        alpha: strength; 0 for none.
        l1_ratio: r, the share of L1: 0 is L2 alone, 1 is L1 alone.

    Raises:
        OptionError: one of them cannot be.
    """

    def __init__(self, alpha: float = 0.0, l1_ratio: float = 0.0) -> None:
        if alpha < 0:
            raise OptionError(f"alpha must be 0 or more, not {alpha}.")
        if not 0.0 <= l1_ratio <= 1.0:
            raise OptionError(f"l1_ratio must be 0 to 1, not {l1_ratio}.")
        self.alpha, self.l1_ratio = alpha, l1_ratio

    def __call__(self, weights: Iterable[Tensor]) -> Tensor | None:
        """The penalty of all weights together, a scalar; None where `alpha` is 0."""
        if not self.alpha:
            return None
        flat = torch.cat([weight.flatten() for weight in weights])
        norms = self.l1_ratio * flat.abs().sum() + (1 - self.l1_ratio) / 2 * flat.square().sum()
        penalty: Tensor = self.alpha * norms
        return penalty
