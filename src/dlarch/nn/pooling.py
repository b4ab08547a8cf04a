"""Sequences of different lengths to one vector each, without their padding."""

from __future__ import annotations

import torch
from torch import Tensor


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """The mean over real positions: (B, T, N) to (B, N).

    Args:
        x: one vector per position.
        mask: (B, T), True on real positions, of which each row has one at least.
    """
    total = (mask[:, None].to(x.dtype) @ x)[:, 0]
    return total / mask.sum(1, keepdim=True)


def masked_max(x: Tensor, mask: Tensor) -> Tensor:
    """The largest value of each dimension over real positions: (B, T, N) to (B, N).

    Args:
        x: one vector per position.
        mask: (B, T), True on real positions, of which each row has one at least.
    """
    return x.masked_fill(~mask[..., None], -torch.inf).amax(1)
