"""Where in its sequence a vector stands, for networks that cannot tell by themselves."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dlarch.errors import DataError


class LearnedPositions(nn.Module):
    """Adds a learned vector to each position.

    Args:
        count: longest sequence.
        size: of a vector, E.
    """

    def __init__(self, count: int, size: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.empty(count, size).normal_(std=size**-0.5))

    def forward(self, x: Tensor, at: Tensor | None = None) -> Tensor:
        """Add to vectors (..., T, E), at positions 0 to T - 1 or at those given, (..., T).

        Raises:
            DataError: there are more positions than were learned.
        """
        if at is not None:
            return x + self.vectors[at]
        length, count = x.shape[-2], len(self.vectors)
        if length > count:
            raise DataError(
                f"A sequence of {length} tokens is longer than the {count} positions that this "
                "model has learned: shorten it, or train a model with more --model.positions."
            )
        return x + self.vectors[:length]


class SinusoidalPositions(nn.Module):
    r"""Adds sines and cosines of many wavelengths, for sequences of any length (1706.03762).

    $$p_{t,2i} = \sin(t / 10000^{2i / E}) \qquad p_{t,2i+1} = \cos(t / 10000^{2i / E})$$

    Args:
        size: of a vector, E; even.
    """

    rates: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        places = torch.arange(0, size, 2, dtype=torch.float32)
        rates = torch.exp(places * (-math.log(10000.0) / size))
        self.register_buffer("rates", rates, persistent=False)

    def forward(self, x: Tensor, at: Tensor | None = None) -> Tensor:
        """Add to vectors (..., T, E), at positions 0 to T - 1 or at those given, (..., T)."""
        if at is None:
            at = torch.arange(x.shape[-2], device=x.device)
        angles = at[..., None] * self.rates
        waves = torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)
        return x + waves.to(x.dtype)
