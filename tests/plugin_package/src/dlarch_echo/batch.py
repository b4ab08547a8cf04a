"""The batch of the echo problem."""

from typing import NamedTuple

from torch import Tensor


class EchoBatch(NamedTuple):
    """A vector and the vector it should become, both (B, in_features)."""

    vector: Tensor
    echo: Tensor
