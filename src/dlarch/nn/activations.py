"""Activations by name, and what each asks of the weights before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from dlarch.errors import OptionError, did_you_mean


class Maxout(nn.Module):
    r"""The largest of k linear pieces, $\max_j x_j$ (1302.4389): (B, k N, ...) to (B, N, ...).

    Args:
        pieces: k; the layer before has k times as many units.
    """

    def __init__(self, pieces: int = 2) -> None:
        super().__init__()
        self.pieces = pieces

    def forward(self, inputs: Tensor) -> Tensor:
        """The largest of each `pieces` neighbours along the first dimension after the batch."""
        largest: Tensor = inputs.unflatten(1, (-1, self.pieces)).amax(2)
        return largest


Activation = Literal[
    "identity", "sigmoid", "tanh", "relu", "leaky_relu", "prelu", "elu", "selu", "silu", "softplus",
    "gelu", "maxout", "softmax",
]  # fmt: skip
"""Names of activations; silu is also called swish."""

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "identity": nn.Identity,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "prelu": nn.PReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "gelu": nn.GELU,
    "maxout": Maxout,
    "softmax": lambda: nn.Softmax(dim=1),
}
"""Makers of activations by name."""


def make_activation(name: str) -> nn.Module:
    """An activation by name.

    Raises:
        OptionError: there is none of that name.
    """
    if name not in ACTIVATIONS:
        raise OptionError(
            f"There is no activation '{name}'.{did_you_mean(name, ACTIVATIONS)} "
            f"Activations: {', '.join(ACTIVATIONS)}."
        )
    return ACTIVATIONS[name]()


def units_before(activation: nn.Module) -> int:
    """How many units before the activation make one after it."""
    return activation.pieces if isinstance(activation, Maxout) else 1
