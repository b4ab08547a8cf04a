"""The training loss: a mean over the whole optimizer step, logged as a mean since the last time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import LBFGS, Optimizer

from dlarch.callbacks.health import where_not_finite
from dlarch.callbacks.resume import KEY as RESUME_KEY
from dlarch.errors import NonFiniteLossError
from dlarch.tasks.facts import BuiltFromFacts

LOSS_UNIT = 1000.0
"""Examples or tokens that the summed loss of a part of an optimizer step is divided by at first."""


class TrainingLoss(BuiltFromFacts):
    """Makes one mean of the losses of an optimizer step, over ranks and accumulated batches.

    `training_step` returns what `mean_loss` makes of a sum and a count. The means go to the loggers
    as `train/loss`, with the learning rates; a loss that is not finite ends the training. Sums of
    the running step are part of the checkpoint.
    """

    learns_by: str = "gradients"
    """How the weights are found: "gradients", or "closed form" without an optimizer's steps."""

    def __init__(self) -> None:
        super().__init__()
        self._begin_sums()

    def _begin_sums(self) -> None:
        self._sum: Tensor | float = 0.0
        self._count: Tensor | float = 0.0
        self._step_count: Tensor | float | None = None  # of a step made of several parts
        self._finite: Tensor | bool = True
        self._logged_step = 0

    def setup(self, stage: str) -> None:
        """Begin anew: nothing of an earlier fit may count."""
        super().setup(stage)
        if stage == "fit":
            self._begin_sums()

    # ---- the mean

    def mean_loss(self, total: Tensor, count: Tensor | int) -> Tensor:
        """Turn a summed loss into what `training_step` returns.

        The divisor is the count of the whole optimizer step, over ranks and accumulated batches:
        never a mean of means. With several parts the gradient is scaled before the step.

        Args:
            total: loss summed over the batch.
            count: tokens or examples it was summed over.

        Raises:
            NonFiniteLossError: the loss is infinite or not a number.
        """
        self._sum = self._sum + self._finite_value(total)
        self._count = self._count + count
        if self._one_part():
            return total / count
        self._step_count = count if self._step_count is None else self._step_count + count
        return total / LOSS_UNIT

    def _one_part(self) -> bool:
        return self.trainer.world_size == 1 and self.trainer.accumulate_grad_batches == 1

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Any,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Take a step; right after backward, the gradients are those of the mean loss."""
        sums: tuple[Any, Any] | None = None

        def closure() -> Any:
            nonlocal sums
            assert optimizer_closure is not None
            loss = self._divide(optimizer, optimizer_closure())
            # An optimizer that searches looks at the same examples again: they count once.
            sums = sums or (self._sum, self._count)
            self._sum, self._count = sums
            return loss

        super().optimizer_step(epoch, batch_idx, optimizer, closure)

    def _divide(self, optimizer: Optimizer, loss: Any) -> Any:
        """Give gradients and loss of a step made of several parts their common divisor."""
        if self._step_count is None:
            return loss
        reduce = self.trainer.strategy.reduce
        count = torch.as_tensor(self._step_count, dtype=torch.float32, device=self.device)
        count = reduce(count, reduce_op="sum")
        parts = self.trainer.world_size * self.trainer.accumulate_grad_batches
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad.mul_(LOSS_UNIT * parts / count)
        self._step_count = None
        if isinstance(optimizer, LBFGS):  # goes by the loss: it must be the same on all ranks
            return reduce(loss.detach(), reduce_op="sum") * LOSS_UNIT / count
        return loss

    # ---- what is logged

    def on_train_batch_end(self, *_: Any) -> None:
        """Log the mean loss since the last time, every `log_every_n_steps` optimizer steps."""
        if not self._log_is_due():
            return
        step = self._logged_step = self.trainer.global_step
        self._check_finite_flag()
        means = self._means_since_log()
        self._forget_sums()
        for name, mean in means.items():
            self.log(name, mean, prog_bar=True, logger=False)
        values = {**means, "train/epoch": float(self.current_epoch)}
        for index, optimizer in enumerate(self._working_optimizers()):
            name = "train/lr" if index == 0 else f"train/lr_{index}"
            values[name] = float(optimizer.param_groups[0]["lr"])
        for logger in self.loggers:
            logger.log_metrics(values, step=step)

    def _working_optimizers(self) -> list[Optimizer]:
        """None where the weights are found without one."""
        return self.trainer.optimizers if self.learns_by == "gradients" else []

    def _means_since_log(self) -> dict[str, float]:
        """By tag, over all ranks."""
        return {"train/loss": self._mean_of(self._sum, self._count)}

    def _mean_of(self, total: Tensor | float, count: Tensor | float) -> float:
        sums = torch.tensor([float(total), float(count)], device=self.device)
        all_total, all_count = self.trainer.strategy.reduce(sums, reduce_op="sum").tolist()
        return float(all_total / max(all_count, 1.0))

    def _forget_sums(self) -> None:
        self._sum, self._count = 0.0, 0.0

    def _log_is_due(self) -> bool:
        step = self.trainer.global_step
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        return every > 0 and step % every == 0 and step != self._logged_step

    # ---- losses that are not finite

    def _finite_value(self, loss: Tensor) -> Tensor | float:
        """The value of a loss, checked; on a device later, since reading makes it wait."""
        if loss.device.type != "cpu":
            self._finite = torch.isfinite(loss.detach()) & self._finite
            return loss.detach()
        value = loss.item()
        if not math.isfinite(value):
            self._raise_not_finite()
        return value

    def _check_finite_flag(self) -> None:
        if not bool(self._finite):
            self._raise_not_finite()

    def _raise_not_finite(self) -> None:
        trainer = self.trainer
        raise NonFiniteLossError(
            f"The training loss is not finite at step {trainer.global_step} (epoch "
            f"{self.current_epoch}, batch {trainer.fit_loop.batch_idx}); the last checkpoint is "
            f"kept.{where_not_finite(self)} Lower the learning rate or set "
            "--trainer.gradient_clip_val 1.0."
        )

    # ---- checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the sums of the running step."""
        super().on_save_checkpoint(checkpoint)
        self._check_finite_flag()
        # A checkpoint may be made just before the hook that logs: keep what will be true after it.
        logged = self._trainer is not None and self._log_is_due()
        if logged and RESUME_KEY in checkpoint:
            for name, mean in self._means_since_log().items():
                checkpoint[RESUME_KEY]["metrics"][name] = torch.tensor(mean)
        sums = [0.0, 0.0] if logged else [float(self._sum), float(self._count)]
        checkpoint["dlarch"] = {
            "sums": [*sums, None if self._step_count is None else float(self._step_count)],
            "logged_step": self.trainer.global_step if logged else self._logged_step,
        }

    def _go_on_from(self, stored: dict[str, Any]) -> None:
        """Take the sums back that `on_save_checkpoint` has added."""
        self._sum, self._count, self._step_count = stored["sums"]
        self._logged_step = stored["logged_step"]
