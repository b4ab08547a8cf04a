"""Adam, which joins momentum and a learning rate per weight, and its relatives."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from dlarch.optim.rule import Rule, State


class Adam(Rule):
    r"""Divide a running mean of the gradients by the root of that of their squares.

    $$m_t = \beta_1 m_{t-1} + (1 - \beta_1) g_t \qquad v_t = \beta_2 v_{t-1} + (1 - \beta_2) g_t^2$$

    $$\hat m_t = \frac{m_t}{1 - \beta_1^t} \qquad \hat v_t = \frac{v_t}{1 - \beta_2^t} \qquad
      w_t = w_{t-1} - \eta \frac{\hat m_t}{\sqrt{\hat v_t} + \epsilon}$$

    The means start at 0 and would be too small at first; the divisors make up for it exactly. A
    step is at most about $\eta$, and smaller where gradients disagree.

    D. Kingma, J. Ba (2015), Adam: a method for stochastic optimization, 1412.6980.

    Args:
        params: parameters, or groups of them.
        lr: the learning rate, $\eta$.
        betas: shares of the two means that are kept, $\beta_1$ and $\beta_2$.
        eps: keeps the divisor from 0, $\epsilon$.
        weight_decay: strength of the L2 penalty.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def start(self, parameter: Tensor) -> State:
        """No gradients yet."""
        return {
            "step": 0,
            "mean": torch.zeros_like(parameter),
            "mean_square": torch.zeros_like(parameter),
        }

    def update(
        self, parameter: Tensor, gradient: Tensor, state: State, group: dict[str, Any]
    ) -> None:
        """Take a step for one parameter."""
        beta1, beta2 = group["betas"]
        state["step"] += 1
        state["mean"].lerp_(gradient, 1 - beta1)
        state["mean_square"].lerp_(gradient**2, 1 - beta2)
        mean = state["mean"] / (1 - beta1 ** state["step"])
        mean_square = state["mean_square"] / (1 - beta2 ** state["step"])
        parameter.sub_(group["lr"] * mean / (mean_square.sqrt() + group["eps"]))


class AdamW(Adam):
    r"""Adam that shrinks the weights themselves, instead of adding the shrinking to the gradient.

    $$w_t = (1 - \eta \lambda) w_{t-1} - \eta \frac{\hat m_t}{\sqrt{\hat v_t} + \epsilon}$$

    In Adam the divisor takes the penalty away from the weights with large gradients; here all
    shrink alike.

    I. Loshchilov, F. Hutter (2019), Decoupled weight decay regularization, 1711.05101.

    Args:
        params: parameters, or groups of them.
        lr: the learning rate, $\eta$.
        betas: shares of the two means that are kept, $\beta_1$ and $\beta_2$.
        eps: keeps the divisor from 0, $\epsilon$.
        weight_decay: strength of the shrinking, $\lambda$.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)

    def decay(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> Tensor:
        """Shrink the parameter; the gradient stays as it is."""
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        return gradient


class Adamax(Rule):
    r"""Adam with the largest recent gradient in place of the root of the mean square.

    $$m_t = \beta_1 m_{t-1} + (1 - \beta_1) g_t \qquad
      u_t = \max(\beta_2 u_{t-1}, |g_t| + \epsilon) \qquad
      w_t = w_{t-1} - \frac{\eta}{1 - \beta_1^t} \frac{m_t}{u_t}$$

    The limit of Adam when squares become ever higher powers. The maximum needs no correction for
    its start.

    D. Kingma, J. Ba (2015), section 7.1 of 1412.6980.

    Args:
        params: parameters, or groups of them.
        lr: the learning rate, $\eta$.
        betas: shares of the mean and of the maximum that are kept, $\beta_1$ and $\beta_2$.
        eps: keeps the divisor from 0, $\epsilon$.
        weight_decay: strength of the L2 penalty.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def start(self, parameter: Tensor) -> State:
        """No gradients yet."""
        return {
            "step": 0,
            "mean": torch.zeros_like(parameter),
            "largest": torch.zeros_like(parameter),
        }

    def update(
        self, parameter: Tensor, gradient: Tensor, state: State, group: dict[str, Any]
    ) -> None:
        """Take a step for one parameter."""
        beta1, beta2 = group["betas"]
        state["step"] += 1
        state["mean"].lerp_(gradient, 1 - beta1)
        state["largest"].mul_(beta2)
        torch.maximum(state["largest"], gradient.abs() + group["eps"], out=state["largest"])
        mean = state["mean"] / (1 - beta1 ** state["step"])
        parameter.sub_(group["lr"] * mean / state["largest"])


class NAdam(Rule):
    r"""Adam that looks ahead, as Nesterov's momentum does.

    The share $\mu_t$ of the mean that is kept rises from about $\beta_1 / 2$ to $\beta_1$:

    $$\mu_t = \beta_1 \left(1 - \tfrac{1}{2} \, 0.96^{t \psi}\right) \qquad
      m_t = \beta_1 m_{t-1} + (1 - \beta_1) g_t \qquad
      \hat v_t = \frac{\beta_2 v_{t-1} + (1 - \beta_2) g_t^2}{1 - \beta_2^t}$$

    $$\hat m_t = \frac{\mu_{t+1} \, m_t}{1 - \prod_{i=1}^{t+1} \mu_i}
      + \frac{(1 - \mu_t) \, g_t}{1 - \prod_{i=1}^{t} \mu_i} \qquad
      w_t = w_{t-1} - \eta \frac{\hat m_t}{\sqrt{\hat v_t} + \epsilon}$$

    T. Dozat (2016), Incorporating Nesterov momentum into Adam.

    Args:
        params: parameters, or groups of them.
        lr: the learning rate, $\eta$.
        betas: shares of the two means that are kept, $\beta_1$ and $\beta_2$.
        eps: keeps the divisor from 0, $\epsilon$.
        weight_decay: strength of the L2 penalty.
        momentum_decay: how fast $\mu_t$ rises, $\psi$.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            momentum_decay=momentum_decay,
        )

    def start(self, parameter: Tensor) -> State:
        """No gradients yet."""
        return {
            "step": 0,
            "product": 1.0,
            "mean": torch.zeros_like(parameter),
            "mean_square": torch.zeros_like(parameter),
        }

    def update(
        self, parameter: Tensor, gradient: Tensor, state: State, group: dict[str, Any]
    ) -> None:
        """Take a step for one parameter."""
        beta1, beta2 = group["betas"]
        state["step"] += 1

        def share(step: int) -> float:
            return float(beta1 * (1 - 0.5 * 0.96 ** (step * group["momentum_decay"])))

        now, ahead = share(state["step"]), share(state["step"] + 1)
        state["product"] *= now
        state["mean"].lerp_(gradient, 1 - beta1)
        state["mean_square"].lerp_(gradient**2, 1 - beta2)
        mean = state["mean"] * ahead / (1 - state["product"] * ahead)
        mean = mean + gradient * (1 - now) / (1 - state["product"])
        mean_square = state["mean_square"] / (1 - beta2 ** state["step"])
        parameter.sub_(group["lr"] * mean / (mean_square.sqrt() + group["eps"]))
