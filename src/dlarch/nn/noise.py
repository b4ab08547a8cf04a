"""Noise that training must learn to see through."""

import torch
from torch import Tensor, nn

from dlarch.errors import OptionError


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
