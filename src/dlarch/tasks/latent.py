"""What tasks with a latent code share: posterior, bound, and noise of an example's own."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor


class Posterior(NamedTuple):
    """What is thought of the code once the input was seen: mean and log variance, each (B, D)."""

    mean: Tensor
    log_variance: Tensor

    def code(self, noise: Tensor) -> Tensor:
        """Codes from standard normal numbers of the same shape."""
        return self.mean + (0.5 * self.log_variance).exp() * noise


class Bound(NamedTuple):
    """The two terms of the negative evidence lower bound, in nats.

    Attributes:
        reconstruction: (B,), -log p(input | code), summed over the tokens or pixels of the input.
        kl: (B, D), what each dimension of the code tells of the input.
        posterior: that the code was drawn from.
    """

    reconstruction: Tensor
    kl: Tensor
    posterior: Posterior


def noise_of(places: Iterable[int], *shape: int) -> Tensor:
    """Standard normal numbers (B, ...) that depend on the places of the examples alone."""
    rows = [torch.randn(shape, generator=torch.Generator().manual_seed(place)) for place in places]
    return torch.stack(rows)


def generator_of(seed: int | None) -> torch.Generator:
    """Draws that a seed repeats, or others each time."""
    generator = torch.Generator()
    generator.manual_seed(seed) if seed is not None else generator.seed()
    return generator


def walked(codes: Tensor, steps: int) -> Tensor:
    r"""Codes (N * steps, D) on the way through standard normal ones (N, D), back to the first.

    From a to b the way is $a \cos t + b \sin t$: each code on it is standard normal too, which on a
    straight line it would not be.
    """
    angles = (torch.arange(steps) / steps * math.pi / 2)[:, None]
    ways = codes[:, None] * angles.cos() + codes.roll(-1, 0)[:, None] * angles.sin()
    return ways.flatten(0, 1)
