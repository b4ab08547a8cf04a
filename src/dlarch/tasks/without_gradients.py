"""What tasks share whose models need no gradients: there is no backward pass and no step."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn, optim

from dlarch.errors import OptionError
from dlarch.tasks.base import Task


class WithoutGradients(Task):
    """A training step learns all there is to learn from its batch.

    There is no gradient to clip or to accumulate. With `learns_by = "gradients"` a task is trained
    as any other.
    """

    learns_by = "closed form"

    def on_fit_start(self) -> None:
        """Refuse options that have nothing to work on.

        Raises:
            OptionError: gradients are to be clipped or accumulated.
        """
        super().on_fit_start()
        clips = self.trainer.gradient_clip_val is not None
        if self.learns_by != "gradients" and (clips or self.trainer.accumulate_grad_batches != 1):
            raise OptionError(
                f"{type(self).__name__} computes its weights without gradients: leave out "
                "gradient_clip_val and accumulate_grad_batches."
            )

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Nothing, but for a model that is trained by gradients."""
        if self.learns_by == "gradients":
            super().backward(loss, *args, **kwargs)

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Any,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Take the training step, which has learnt all there is to learn."""
        if self.learns_by == "gradients":
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
            return
        assert optimizer_closure is not None
        optimizer_closure()
        self._step_count = None


def never_used(parameters: Iterable[nn.Parameter]) -> optim.Optimizer:
    """Lightning counts steps, and so saves checkpoints, only with an optimizer."""
    return optim.SGD(list(parameters) or [torch.zeros(1)], lr=0.0)
