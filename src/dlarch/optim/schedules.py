"""Learning-rate schedules with a warm-up."""

from __future__ import annotations

import math
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from dlarch.errors import OptionError


class WarmupCosine(LRScheduler):
    r"""Rise linearly to the optimizer's learning rate, then fall along a half cosine.

    With w warm-up steps of T in all and the floor f, the rate is multiplied at step t by

    $$\frac{t + 1}{w} \;\text{for}\; t < w, \qquad
      f + (1 - f) \, \frac{1 + \cos(\pi (t - w) / (T - w))}{2} \;\text{after}$$

    and stays at f beyond T (1608.03983, without restarts).

    Args:
        optimizer: whose learning rates are the peaks.
        warmup_steps: optimizer steps of the rise.
        total_steps: optimizer steps in all; when not given, those of the training (a task fills
            them in from the Trainer's `max_steps` or `max_epochs`).
        final_share: share of the peak at the end, f.

    Raises:
        OptionError: the training has no known length, or an argument cannot be used.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        warmup_steps: int = 100,
        total_steps: int | None = None,
        final_share: float = 0.0,
    ) -> None:
        if warmup_steps < 0 or not 0 <= final_share <= 1:
            raise OptionError(
                f"WarmupCosine needs warmup_steps >= 0 and final_share between 0 and 1, not "
                f"{warmup_steps} and {final_share}."
            )
        self.warmup_steps = warmup_steps
        self.total_steps = total_steps
        self.final_share = final_share
        super().__init__(optimizer)

    def get_lr(self) -> list[Any]:
        """The learning rates of the parameter groups at the step `last_epoch`."""
        return [float(rate) * self.factor(self.last_epoch) for rate in self.base_lrs]

    def factor(self, step: int) -> float:
        """Share of the peak at a step, from 0."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        if self.total_steps is None:
            if step == 0:  # asked by the constructor, before the length is filled in
                return 1.0
            raise OptionError(
                "WarmupCosine does not know the length of the training: set "
                "--trainer.max_epochs or --trainer.max_steps, or give it total_steps."
            )
        fall = max(1, self.total_steps - self.warmup_steps)
        done = min(1.0, (step - self.warmup_steps) / fall)
        return self.final_share + (1 - self.final_share) * (1 + math.cos(math.pi * done)) / 2

    def state_dict(self) -> dict[str, Any]:
        """Where the schedule stands; its length is that of the training that goes on."""
        return {
            name: value for name, value in super().state_dict().items() if name != "total_steps"
        }


class WarmupInverseSqrt(LRScheduler):
    r"""Rise linearly to the optimizer's learning rate, then fall with the square root of time.

    With w warm-up steps the rate is multiplied at step t by

    $$\min\left(\frac{t + 1}{w}, \; \sqrt{\frac{w}{t + 1}}\right)$$

    The length of the training plays no part. It is the schedule of "Attention is all you need"
    (1706.03762), whose peak for width d is 1 / sqrt(d w).

    Args:
        optimizer: whose learning rates are the peaks.
        warmup_steps: optimizer steps of the rise.

    Raises:
        OptionError: warmup_steps is less than 1.
    """

    def __init__(self, optimizer: Optimizer, warmup_steps: int = 4000) -> None:
        if warmup_steps < 1:
            raise OptionError(f"WarmupInverseSqrt needs warmup_steps >= 1, not {warmup_steps}.")
        self.warmup_steps = warmup_steps
        super().__init__(optimizer)

    def get_lr(self) -> list[Any]:
        """The learning rates of the parameter groups at the step `last_epoch`."""
        step = self.last_epoch + 1
        factor = min(step / self.warmup_steps, math.sqrt(self.warmup_steps / step))
        return [float(rate) * factor for rate in self.base_lrs]
