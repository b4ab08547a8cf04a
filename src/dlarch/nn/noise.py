"""Noise that training must learn to see through."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from dlarch.errors import OptionError

Corruption = Literal["gaussian", "salt_and_pepper", "masking"]
"""What is done to the pixels of an image; see `corrupted`."""


class GaussianNoise(nn.Module):
    """Adds noise of mean 0 in training; nothing afterwards.

    Args:
        std: its standard deviation.

    Raises:
        OptionError: a negative deviation.
    """

    def __init__(self, std: float) -> None:
        super().__init__()
        if std < 0:
            raise OptionError(f"The standard deviation of noise must be at least 0, not {std}.")
        self.std = std

    def forward(self, x: Tensor) -> Tensor:
        """Inputs (B, ...) with their own noise each."""
        if self.training and self.std > 0:
            return torch.add(x, torch.randn_like(x), alpha=self.std)
        return x

    def extra_repr(self) -> str:
        """What stands in the layer table."""
        return f"std={self.std}"


def corrupted(image: Tensor, normal: Tensor, corruption: Corruption, amount: float) -> Tensor:
    """Images (B, C, H, W), 0 to 1, with noise that is decided by standard normal numbers.

    - gaussian: `amount` times the numbers is added; pixels may leave the scale.
    - salt_and_pepper: the share `amount` of the pixels turns black or white, half of it each.
    - masking: the share `amount` of the pixels turns black.

    Args:
        image: the images.
        normal: standard normal numbers of the same shape.
        corruption: which of them.
        amount: deviation, or share of the pixels.
    """
    if corruption == "gaussian":
        return image + amount * normal
    uniform = torch.special.ndtr(normal)
    if corruption == "masking":
        return image.masked_fill(uniform < amount, 0.0)
    return image.masked_fill(uniform < amount / 2, 0.0).masked_fill(uniform > 1 - amount / 2, 1.0)
