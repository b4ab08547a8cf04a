"""Fixed basis functions: what a model that is linear in its weights may see of its inputs."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Basis = Literal["linear", "polynomial", "gaussian"]
"""The inputs themselves, their powers, or bumps along each of them."""

REACH = 2.0
"""Deviations from the mean that basis functions are made for; inputs are normalised."""


class Polynomial(nn.Module):
    """Powers 1 to `degree` of each input: (B, F) -> (B, F * degree).

    Inputs are halved first, so that powers of what lies within two deviations stay within 1.
    """

    def __init__(self, degree: int) -> None:
        super().__init__()
        self.degree = degree

    def forward(self, inputs: Tensor) -> Tensor:
        """The first power of all inputs, then the second, and so on."""
        scaled = inputs / REACH
        return torch.cat([scaled**power for power in range(1, self.degree + 1)], dim=1)


class GaussianBumps(nn.Module):
    """Bell curves of height 1 along each input: (B, F) -> (B, F * count).

    Their centres lie evenly within two deviations of the mean, as far apart as they are wide.
    """

    centres: Tensor

    def __init__(self, count: int) -> None:
        super().__init__()
        self.width = 2 * REACH / max(count - 1, 1)
        centres = torch.linspace(-REACH, REACH, count) if count > 1 else torch.zeros(1)
        self.register_buffer("centres", centres, persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """All bumps of the first input, then those of the second, and so on."""
        distance = (inputs[:, :, None] - self.centres) / self.width
        return (-0.5 * distance.square()).exp().flatten(1)


def make_basis(basis: Basis, size: int, in_features: int) -> tuple[nn.Module, int]:
    """Basis functions of inputs (B, F), and how many there are.

    Args:
        basis: their kind.
        size: of each input: the degree of the polynomial, or the number of bumps.
        in_features: F.
    """
    if basis == "linear":
        return nn.Identity(), in_features
    kinds: dict[str, type[Polynomial] | type[GaussianBumps]] = {
        "polynomial": Polynomial,
        "gaussian": GaussianBumps,
    }
    return kinds[basis](size), in_features * size
