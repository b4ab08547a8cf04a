"""Plain stacks of layers that several architectures are built around."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from dlarch.nn.activations import Activation, make_activation


def dense_stack(sizes: Sequence[int], activation: Activation = "relu") -> nn.Sequential:
    """Linear layers of the sizes, the first that of the input, with the activation between them.

    Nothing follows the last layer.
    """
    layers: list[nn.Module] = []
    for width, size in pairwise(sizes):
        layers += [nn.Linear(width, size), make_activation(activation)]
    return nn.Sequential(*layers[:-1])
