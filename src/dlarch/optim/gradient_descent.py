"""Gradient descent, plain and with momentum."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from dlarch.errors import OptionError
from dlarch.optim.rule import Rule, State


class SGD(Rule):
    r"""Go against the gradient; with momentum $\mu$, like a ball that keeps its speed.

    $$v_t = \mu v_{t-1} + g_t \qquad w_t = w_{t-1} - \eta v_t$$

    Without momentum v is the gradient. With it v adds up where gradients agree, to
    $g / (1 - \mu)$ where they are all equal, and gradients of changing sign cancel. Nesterov's form
    looks ahead: it uses the speed that the ball will have,

    $$w_t = w_{t-1} - \eta (g_t + \mu v_t)$$

    Stochastic because the gradient is that of a batch: H. Robbins, S. Monro (1951), A stochastic
    approximation method. Momentum: B. Polyak (1964), Some methods of speeding up the convergence of
    iteration methods. Y. Nesterov (1983), A method for solving the convex programming problem with
    convergence rate O(1/k^2), in the form of Sutskever et al. (2013), On the importance of
    initialization and momentum in deep learning.

    Args:
        params: parameters, or groups of them.
        lr: the learning rate, $\eta$.
        momentum: share of the speed that is kept, $\mu$.
        nesterov: look ahead.
        weight_decay: strength of the L2 penalty.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(
            params, lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay
        )
        if any(group["nesterov"] and not group["momentum"] for group in self.param_groups):
            raise OptionError("nesterov looks ahead by the momentum: give momentum, such as 0.9.")

    def start(self, parameter: Tensor) -> State:
        """At rest."""
        return {"speed": torch.zeros_like(parameter)}

    def update(
        self, parameter: Tensor, gradient: Tensor, state: State, group: dict[str, Any]
    ) -> None:
        """Take a step for one parameter."""
        momentum, speed = group["momentum"], state["speed"]
        speed.mul_(momentum).add_(gradient)
        direction = gradient + momentum * speed if group["nesterov"] else speed
        parameter.sub_(group["lr"] * direction)
