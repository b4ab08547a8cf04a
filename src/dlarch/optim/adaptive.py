"""Rules that give each weight a learning rate by the size of its gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from dlarch.optim.rule import Rule, State


class Adagrad(Rule):
    r"""Divide by the root of the sum of all squared gradients so far.

    $$s_t = s_{t-1} + g_t^2 \qquad w_t = w_{t-1} - \eta \frac{g_t}{\sqrt{s_t} + \epsilon}$$

    Weights that rarely get a gradient take large steps when they do: for sparse inputs, such as
    words. The sum only grows, so the steps only shrink, as $1 / \sqrt{t}$ for gradients of equal
    size.

    J. Duchi, E. Hazan, Y. Singer (2011), Adaptive subgradient methods for online learning and
    stochastic optimization.

    Args:
        params: parameters, or groups of them.
        lr: the learning rate, $\eta$.
        eps: keeps the divisor from 0, $\epsilon$.
        weight_decay: strength of the L2 penalty.
    """

    def __init__(
        self, params: ParamsT, lr: float = 1e-2, eps: float = 1e-10, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, lr=lr, eps=eps, weight_decay=weight_decay)

    def start(self, parameter: Tensor) -> State:
        """No gradients yet."""
        return {"sum": torch.zeros_like(parameter)}

    def update(
        self, parameter: Tensor, gradient: Tensor, state: State, group: dict[str, Any]
    ) -> None:
        """Take a step for one parameter."""
        state["sum"].add_(gradient**2)
        parameter.sub_(group["lr"] * gradient / (state["sum"].sqrt() + group["eps"]))


class RMSprop(Rule):
    r"""Divide by the root of a running mean of squared gradients: Adagrad that forgets.

    $$s_t = \alpha s_{t-1} + (1 - \alpha) g_t^2 \qquad
      w_t = w_{t-1} - \eta \frac{g_t}{\sqrt{s_t} + \epsilon}$$

    The mean is over about the last $1 / (1 - \alpha)$ gradients, so the steps do not die out, and
    have about the size $\eta$ whatever the scale of the loss.

    T. Tieleman, G. Hinton (2012), Lecture 6.5 of Neural networks for machine learning, Coursera.

    Args:
        params: parameters, or groups of them.
        lr: the learning rate, $\eta$.
        alpha: share of the mean that is kept, $\alpha$.
        eps: keeps the divisor from 0, $\epsilon$.
        weight_decay: strength of the L2 penalty.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay)

    def start(self, parameter: Tensor) -> State:
        """No gradients yet."""
        return {"mean_square": torch.zeros_like(parameter)}

    def update(
        self, parameter: Tensor, gradient: Tensor, state: State, group: dict[str, Any]
    ) -> None:
        """Take a step for one parameter."""
        state["mean_square"].lerp_(gradient**2, 1 - group["alpha"])
        root = state["mean_square"].sqrt()
        parameter.sub_(group["lr"] * gradient / (root + group["eps"]))


class Adadelta(Rule):
    r"""Like RMSprop, but the learning rate is the size of the steps so far.

    $$s_t = \rho s_{t-1} + (1 - \rho) g_t^2 \qquad
      \Delta_t = \frac{\sqrt{d_{t-1} + \epsilon}}{\sqrt{s_t + \epsilon}} g_t$$

    $$d_t = \rho d_{t-1} + (1 - \rho) \Delta_t^2 \qquad w_t = w_{t-1} - \eta \Delta_t$$

    A step has the unit of the weight, as in Newton's method, and there is no rate to tune: $\eta$
    is 1. The first steps have the size $\sqrt{\epsilon}$ and grow from there, so it starts slowly.

    M. Zeiler (2012), ADADELTA: an adaptive learning rate method, 1212.5701.

    Args:
        params: parameters, or groups of them.
        lr: factor of each step, $\eta$; 1 in the paper.
        rho: share of the means that is kept, $\rho$.
        eps: size of the first steps, squared, $\epsilon$.
        weight_decay: strength of the L2 penalty.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr=lr, rho=rho, eps=eps, weight_decay=weight_decay)

    def start(self, parameter: Tensor) -> State:
        """No gradients and no steps yet."""
        return {
            "mean_square": torch.zeros_like(parameter),
            "mean_square_step": torch.zeros_like(parameter),
        }

    def update(
        self, parameter: Tensor, gradient: Tensor, state: State, group: dict[str, Any]
    ) -> None:
        """Take a step for one parameter."""
        rho, eps = group["rho"], group["eps"]
        state["mean_square"].lerp_(gradient**2, 1 - rho)
        step = gradient * ((state["mean_square_step"] + eps) / (state["mean_square"] + eps)).sqrt()
        state["mean_square_step"].lerp_(step**2, 1 - rho)
        parameter.sub_(group["lr"] * step)
