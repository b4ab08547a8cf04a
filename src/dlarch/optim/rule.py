"""What all update rules share: the walk over the parameters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from dlarch.errors import OptionError

State = dict[str, Any]
"""What a rule remembers of one parameter: tensors of its shape, and numbers."""


class Rule(Optimizer, ABC):
    """An optimizer written out: for each parameter, one after the other, `update` is called.

    Written for reading. Those of `torch.optim` give the same weights; they update all parameters of
    a group at once (foreach, fused), which is faster. In the formulas t counts steps from 1, w is
    the parameter, g its gradient, and all operations are element by element.

    Args:
        params: parameters, or groups of them with settings of their own.
        settings: of all groups that do not say otherwise.
    """

    def __init__(self, params: ParamsT, **settings: Any) -> None:
        super().__init__(params, settings)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters, with settings of their own where the group has some.

        Raises:
            OptionError: a setting cannot be used.
        """
        super().add_param_group(param_group)
        _check(self.param_groups[-1])

    @abstractmethod
    def start(self, parameter: Tensor) -> State:
        """What is remembered before the first step."""

    @abstractmethod
    def update(
        self, parameter: Tensor, gradient: Tensor, state: State, group: dict[str, Any]
    ) -> None:
        """Change a parameter, and what is remembered of it, in place."""

    def decay(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> Tensor:
        """The gradient of the loss with an L2 penalty: g + weight_decay * w."""
        return gradient + group["weight_decay"] * parameter if group["weight_decay"] else gradient

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Take a step.

        Args:
            closure: computes loss and gradients anew.

        Returns:
            The closure's loss, if there is one.

        Raises:
            OptionError: a gradient is sparse.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                if parameter.grad.is_sparse:
                    name = type(self).__name__
                    raise OptionError(
                        f"dlarch.optim.{name} takes no sparse gradients: use "
                        "torch.optim.SparseAdam, or an embedding with sparse=False."
                    )
                state = self.state[parameter]
                if not state:
                    state.update(self.start(parameter))
                gradient = self.decay(parameter, parameter.grad, group)
                self.update(parameter, gradient, state, group)
        return loss


def _check(group: dict[str, Any]) -> None:
    """Refuse settings with which a rule cannot work.

    Raises:
        OptionError: a share is not between 0 and 1, or a size is negative.
    """
    for name, value in group.items():
        if name in ("lr", "eps", "weight_decay", "momentum_decay") and not value >= 0:
            raise OptionError(f"{name} must not be negative, but is {value}.")
        shares = value if name == "betas" else (value,) if name in _SHARES else ()
        if not all(0 <= share < 1 for share in shares):
            raise OptionError(f"{name} must be at least 0 and less than 1, not {value}.")


_SHARES = ("momentum", "alpha", "rho")
