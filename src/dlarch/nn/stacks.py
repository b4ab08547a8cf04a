"""Plain stacks of layers that several architectures are built around."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from dlarch.nn.activations import Activation, make_activation, units_before


def dense_stack(
    sizes: Sequence[int], activation: Activation = "relu", ends_active: bool = False
) -> nn.Sequential:
    """Linear layers of the sizes, the first that of the input, with the activation between them.

    Args:
        sizes: two or more.
        activation: of the hidden layers.
        ends_active: the last layer has the activation too.
    """
    layers: list[nn.Module] = []
    for place, (width, size) in enumerate(pairwise(sizes), start=2):
        if place == len(sizes) and not ends_active:
            layers.append(nn.Linear(width, size))
        else:
            active = make_activation(activation)
            layers += [nn.Linear(width, size * units_before(active)), active]
    return nn.Sequential(*layers)
