"""What Lightning does around each hook, made cheaper; a step has some eighty (checked with 2.6.6).

With a small network on a CPU the hooks of a step cost as much as the step itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import lightning as L  # noqa: N812
from lightning.pytorch.profilers import PassThroughProfiler
from torch.optim import Optimizer
from typing_extensions import override

HOOKS_OF_A_STEP = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)
"""Hooks that Lightning calls in each training step, of each callback."""

_NOTHING: AbstractContextManager[Any] = nullcontext()


class NoProfiler(PassThroughProfiler):
    """Measures nothing, as Lightning's own does, but without a new generator for each hook."""

    @override
    def profile(self, action_name: str) -> AbstractContextManager[Any]:  # type: ignore[override]
        """A context that does nothing."""
        return _NOTHING


class QuickHooks(L.LightningModule):
    """A LightningModule whose hooks cost less."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        step = vars(cls).get("training_step")
        if inspect.isfunction(step):  # Lightning asks for its arguments in each step
            step.__signature__ = inspect.signature(step)  # type: ignore[attr-defined]

    def __setattr__(self, name: str, value: Any) -> None:
        # Set before and after each hook; torch would look each time whether it is the name of a
        # parameter, a buffer or a module.
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Any) -> None:
        """Forget the gradients; without the marks for a profiler that torch makes on the way."""
        if type(optimizer).zero_grad is not Optimizer.zero_grad:
            super().optimizer_zero_grad(epoch, batch_idx, optimizer)
            return
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None


def skip_idle_hooks(callbacks: Iterable[L.Callback]) -> None:
    """Let Lightning pass by the hooks of a step that a callback does not define.

    It calls all that are callable, of ten callbacks sixty in a step.
    """
    for callback in callbacks:
        for name in HOOKS_OF_A_STEP:
            if getattr(callback, name) == getattr(L.Callback, name).__get__(callback):
                setattr(callback, name, None)
