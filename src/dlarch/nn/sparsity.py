"""What keeps most units of a code silent."""

from __future__ import annotations

import torch
from torch import Tensor


def keep_largest(code: Tensor, count: int) -> Tensor:
    """Codes (B, D) with all but their `count` largest numbers set to 0 (1312.5663)."""
    kept = code.topk(count, dim=1)
    return torch.zeros_like(code).scatter(1, kept.indices, kept.values)


def bernoulli_kl(target: float, mean: Tensor) -> Tensor:
    r"""How far units that are on with probability `mean` are from those of `target`, in nats.

    $$KL(\rho \,\|\, \hat\rho) = \rho \log \frac{\rho}{\hat\rho} +
      (1 - \rho) \log \frac{1 - \rho}{1 - \hat\rho}$$

    Args:
        target: rho, between 0 and 1.
        mean: of any shape, 0 to 1.

    Returns:
        Of the same shape.
    """
    rho = torch.full_like(mean, target)
    tiny = torch.finfo(mean.dtype).eps
    mean = mean.clamp(tiny, 1 - tiny)  # a unit that is always on or off costs much, not infinity
    return rho * (rho / mean).log() + (1 - rho) * ((1 - rho) / (1 - mean)).log()
