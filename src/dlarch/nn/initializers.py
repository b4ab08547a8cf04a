"""How weights start: with the variance that keeps signals of the same size through the layers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from dlarch.nn.attention import MultiHeadAttention

Distribution = Literal["uniform", "normal"]


class Initializer:
    r"""Draws weights with mean 0 and the variance $g / n$.

    n counts the connections of a unit: `fan_in` those that come in, `fan_out` those that go out. A
    subclass decides g and n.

    Args:
        distribution: uniform between $\pm\sqrt{3 g / n}$, or normal.
    """

    def __init__(self, distribution: Distribution = "uniform") -> None:
        self.distribution = distribution

    def variance(self, fan_in: int, fan_out: int) -> float:
        """Variance of the weights of a layer."""
        raise NotImplementedError

    @torch.no_grad()
    def __call__(self, weight: Tensor) -> None:
        """Draw a weight (outputs, inputs, ...) anew, in place."""
        receptive = weight[0, 0].numel()  # places of a filter
        variance = self.variance(weight.shape[1] * receptive, weight.shape[0] * receptive)
        if self.distribution == "normal":
            weight.normal_(0.0, math.sqrt(variance))
        else:
            bound = math.sqrt(3 * variance)
            weight.uniform_(-bound, bound)


class Glorot(Initializer):
    """Variance 2 / (fan_in + fan_out): for activations that are linear around 0, such as tanh.

    X. Glorot, Y. Bengio (2010), Understanding the difficulty of training deep feedforward networks.
    """

    def variance(self, fan_in: int, fan_out: int) -> float:
        """2 / (fan_in + fan_out)."""
        return 2 / (fan_in + fan_out)


class He(Initializer):
    """Variance 2 / fan_in: for ReLU, which passes on half of the signal's power (1502.01852)."""

    def variance(self, fan_in: int, fan_out: int) -> float:  # noqa: ARG002
        """2 / fan_in."""
        return 2 / fan_in


class LeCun(Initializer):
    """Variance 1 / fan_in: for SELU, whose derivation asks for it (1706.02515).

    Y. LeCun et al. (1998), Efficient backprop.
    """

    def variance(self, fan_in: int, fan_out: int) -> float:  # noqa: ARG002
        """1 / fan_in."""
        return 1 / fan_in


class Constant(Initializer):
    """The same standard deviation in all layers, whatever their size.

    Args:
        std: standard deviation; 0 makes all weights equal, so that units never differ.
        distribution: uniform or normal.
    """

    def __init__(self, std: float = 0.01, distribution: Distribution = "normal") -> None:
        super().__init__(distribution)
        self.std = std

    def variance(self, fan_in: int, fan_out: int) -> float:  # noqa: ARG002
        """The square of `std`."""
        return self.std**2


def default_initializer(activation: str) -> Initializer:
    """The initializer whose derivation holds for an activation."""
    if activation in ("relu", "leaky_relu", "prelu", "elu", "silu", "gelu", "softplus", "maxout"):
        return He()
    if activation == "selu":
        return LeCun("normal")
    return Glorot()


def initialize(module: nn.Module, initializer: Callable[[Tensor], None]) -> None:
    """Draw the weights of all linear, convolutional, recurrent and attention layers anew.

    The gates of a recurrent layer and the projections of attention are drawn one by one, and so are
    the filters of which a transposed convolution with a stride is made. Biases
    and embeddings, a layer tied to one among them, stay as they are: with all biases 0, the bends
    of all units would lie in one point at first.
    """
    embeddings = [each.weight for each in module.modules() if isinstance(each, nn.Embedding)]
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d):
            if not any(layer.weight is embedding for embedding in embeddings):
                initializer(_drawn_weight(layer))
        elif isinstance(layer, nn.ConvTranspose2d):
            down, right = map(min, layer.stride, layer.kernel_size)
            for place in range(down * right):  # each draws other places of the output
                weights = _drawn_weight(layer).transpose(0, 1)  # (outputs, inputs, ...)
                initializer(weights[:, :, place // right :: down, place % right :: right])
        elif isinstance(layer, nn.RNNBase | nn.RNNCellBase):
            for name, weight in layer.named_parameters():
                for gate in weight.split(layer.hidden_size) if "weight" in name else ():
                    initializer(gate)
        elif isinstance(layer, MultiHeadAttention):
            for projection in layer.in_parts():
                initializer(projection)


def _drawn_weight(layer: nn.Module) -> Tensor:
    """The parameter that a weight is, or is computed from, as with spectral normalisation."""
    computed = getattr(layer, "parametrizations", None)
    weight: Tensor = layer.weight if computed is None else computed["weight"].original  # type: ignore[assignment]
    return weight
