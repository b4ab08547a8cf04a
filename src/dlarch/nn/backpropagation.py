r"""Backpropagation written out: the gradients of a network of dense layers, by hand.

A network of L layers, with activation f after each but the last, is $h_0 = x$ and

$$z_l = h_{l-1} W_l^\top + b_l \qquad h_l = f(z_l) \qquad \hat y = z_L$$

The chain rule, from the last layer to the first, with $\delta_l = \partial E / \partial z_l$ for
the loss E:

$$\frac{\partial E}{\partial W_l} = \delta_l^\top h_{l-1} \qquad
  \frac{\partial E}{\partial b_l} = \sum_{\text{batch}} \delta_l \qquad
  \delta_{l-1} = (\delta_l W_l) \odot f'(z_{l-1})$$

A row of each matrix is an example. docs/backpropagation.md derives all of it step by step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dlarch.nn.activations import make_activation

DERIVATIVES: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": torch.ones_like,
    "sigmoid": lambda h: h * (1 - h),
    "tanh": lambda h: 1 - h**2,
    "relu": lambda h: (h > 0).to(h.dtype),
    "leaky_relu": lambda h: 0.99 * (h > 0).to(h.dtype) + 0.01,
    "elu": lambda h: torch.where(h > 0, 1.0, h + 1),
    "softplus": lambda h: 1 - torch.exp(-h),
}
"""f'(z) of activations h = f(z) by name, each as a function of h: z need not be kept."""


class Gradients(NamedTuple):
    """Of the loss, by what it depends on.

    Attributes:
        weights: of each layer, (outputs, inputs).
        biases: of each layer, (outputs,).
        inputs: (B, F).
    """

    weights: list[Tensor]
    biases: list[Tensor]
    inputs: Tensor


def forward(
    inputs: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], activation: str
) -> list[Tensor]:
    """Compute all layers: h_0, the inputs (B, F), to h_{L-1}, and the outputs (B, K).

    Args:
        inputs: (B, F).
        weights: of each layer, (outputs, inputs).
        biases: of each layer, (outputs,).
        activation: name of f.
    """
    f = make_activation(activation)
    layers = [inputs]
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        layers.append(f(layers[-1] @ weight.T + bias))
    layers.append(layers[-1] @ weights[-1].T + biases[-1])
    return layers


def backward(
    layers: Sequence[Tensor], weights: Sequence[Tensor], delta: Tensor, activation: str
) -> Gradients:
    """Compute all gradients by the chain rule.

    Args:
        layers: what `forward` returns.
        weights: of each layer, (outputs, inputs).
        delta: gradient by the outputs, (B, K).
        activation: name of f.
    """
    of_weights: list[Tensor] = []
    of_biases: list[Tensor] = []
    for number in reversed(range(len(weights))):
        below = layers[number]
        of_weights.insert(0, delta.T @ below)
        of_biases.insert(0, delta.sum(0))
        delta = delta @ weights[number]  # by the layer below
        if number > 0:
            delta = delta * DERIVATIVES[activation](below)  # by its weighted sum
    return Gradients(of_weights, of_biases, delta)


def cross_entropy_delta(logits: Tensor, labels: Tensor) -> Tensor:
    """Gradient of the mean cross-entropy by the logits (B, K): (predicted - right) / B."""
    right = torch.zeros_like(logits).scatter_(1, labels[:, None], 1.0)
    return (logits.softmax(1) - right) / len(logits)


def mse_delta(outputs: Tensor, targets: Tensor) -> Tensor:
    """Gradient of the mean squared error by the outputs (B, O)."""
    return 2 * (outputs - targets) / outputs.numel()


class WrittenOut(torch.autograd.Function):
    """The network as one operation, whose gradient autograd asks `backward` for.

    `WrittenOut.apply(inputs, activation, *weights, *biases)` gives the outputs. It computes in the
    precision of the weights.
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, activation: str, *parameters: Tensor) -> Tensor:
        """Compute the outputs; keep all layers."""
        weights = parameters[: len(parameters) // 2]
        biases = parameters[len(parameters) // 2 :]
        with torch.autocast(inputs.device.type, enabled=False):
            layers = forward(inputs.to(weights[0].dtype), weights, biases, activation)
        ctx.save_for_backward(*layers[:-1], *weights)
        ctx.activation, ctx.dtype = activation, inputs.dtype
        return layers[-1]

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, delta: Tensor) -> Any:
        """Compute the gradients of all arguments."""
        saved = ctx.saved_tensors
        layers, weights = saved[: len(saved) // 2], saved[len(saved) // 2 :]
        with torch.autocast(delta.device.type, enabled=False):
            found = backward(layers, weights, delta, ctx.activation)
        return found.inputs.to(ctx.dtype), None, *found.weights, *found.biases
