"""What every task has in common: facts of the data, optimizers, honest means, checkpoints."""

from __future__ import annotations

import math
import os
from abc import abstractmethod
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.optim import LBFGS, Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torchmetrics import Metric

from dlarch import hub
from dlarch.callbacks.health import GradientHealth, where_not_finite
from dlarch.callbacks.resume import KEY as RESUME_KEY
from dlarch.callbacks.resume import ExactResume
from dlarch.compat.checkpoint_io import FORMAT
from dlarch.compat.hooks import skip_idle_hooks
from dlarch.errors import CheckpointError, MismatchError, NonFiniteLossError
from dlarch.nn import Initializer, StatesOfLayer, initialize, watch_states
from dlarch.processing import Processor, processor_from_dict
from dlarch.spec import DataSpec
from dlarch.tasks import optimizers
from dlarch.tasks.facts import BuiltFromFacts

OptimizerCallable = Callable[[Iterable[nn.Parameter]], Optimizer]
"""Makes an optimizer for parameters; in YAML a class path with its init_args."""

SchedulerCallable = Callable[[Optimizer], LRScheduler | ReduceLROnPlateau]
"""Makes a learning-rate scheduler; stepped per optimizer step, ReduceLROnPlateau per validation."""

LossCallable = nn.Module | Callable[[Tensor, Tensor], Tensor]
"""Mean loss of predictions and targets: a function or a `torch.nn` loss with its init_args."""

InitializerCallable = Initializer | Callable[[Tensor], None]
"""Draws a weight (outputs, inputs, ...) anew, in place."""

LOSS_UNIT = 1000.0
"""Examples or tokens that the summed loss of a part of an optimizer step is divided by at first."""


class Task(BuiltFromFacts):
    """A kind of problem: how a batch becomes a loss, metrics and pictures.

    A model subclasses one task, passes it what belongs to training, and defines `build`.

    Args:
        optimizer: called with the parameters.
        scheduler: called with the optimizer.
        pictures: add the task's pictures to the loggers.
        initializer: draws each weight anew after `build`; that of the model when not given.
    """

    batch_type: ClassVar[type | tuple[type, ...]]
    """The NamedTuple of `dlarch.batches` that the steps take, or several."""

    monitor: tuple[str, str] | None = ("val/loss", "min")
    """Metric and direction that choose the best checkpoint; None: the last one is the best."""

    headline: str = "test/loss"
    """The figure that stands in tables."""

    resolved_arguments: ClassVar[tuple[str, ...]] = ()
    """Arguments that `build` replaces by what they came to; of a checkpoint, these are used."""

    learns_by: str = "gradients"
    """How the weights are found: "gradients", or "closed form" without an optimizer's steps."""

    def __init__(
        self,
        optimizer: OptimizerCallable,
        scheduler: SchedulerCallable | None = None,
        pictures: bool = True,
        initializer: InitializerCallable | None = None,
    ) -> None:
        super().__init__()
        self.initializer = initializer
        self.make_optimizer = optimizer
        self.make_scheduler = scheduler
        self.with_pictures = pictures
        self.processor: Processor | None = None
        self.run_config: dict[str, Any] | None = None  # what the command line was asked for
        self.provenance: dict[str, Any] = {}  # metrics and command, for the model card
        self.optimizer_overrides: tuple[str, ...] = ()  # settings that win over a checkpoint's
        self._metrics: dict[str, Metric] = {}
        self._sum: Tensor | float = 0.0
        self._count: Tensor | float = 0.0
        self._step_count: Tensor | float | None = None  # of a step made of several parts
        self._finite: Tensor | bool = True
        self._logged_step = 0
        self._resumed_optimizers: list[str] | None = None
        self._asked: optimizers.Settings = []

    # ---- what a task or a model defines

    @classmethod
    @abstractmethod
    def example(cls, size: int, seed: int) -> tuple[DataSpec, Any]:
        """A tiny spec and a batch of `size` examples that fits it, for tests and tables."""

    @abstractmethod
    def metrics(self, stage: str) -> dict[str, Metric]:
        """Metrics of a validation or test epoch by name, without the `val/` or `test/`."""

    def pictures(self) -> list[Callback]:
        """The callbacks that draw what the task has to show."""
        return []

    def make_room(self, state_dict: dict[str, Any]) -> None:
        """Give tables that grow with what is learnt the sizes of those that are to be loaded."""

    def watch_states(self) -> AbstractContextManager[list[StatesOfLayer]]:
        """Gather the states that recurrent layers go through."""
        return watch_states()

    def _build(self, facts: dict[str, Any]) -> None:
        super()._build(facts)
        if self.initializer is not None:
            initialize(self, self.initializer)

    # ---- what the Trainer asks for

    def setup(self, stage: str) -> None:
        """Take the data's processor, which from now on travels with the weights."""
        if stage == "fit":  # nothing of an earlier fit may count
            self._sum, self._count, self._step_count = 0.0, 0.0, None
            self._finite, self._logged_step = True, 0
        theirs = getattr(self._trainer_data(), "processor", None)
        if self.processor is None:
            self.processor = theirs
        elif theirs is not None and theirs != self.processor:
            raise MismatchError(
                "The data were read with another vocabulary than the model's: give the data "
                "module processor=model.processor."
            )

    def configure_optimizers(self) -> Any:
        """The optimizer, and the scheduler if there is one."""
        optimizer = self.new_optimizer()
        if self.make_scheduler is None:
            return optimizer
        scheduler = self.make_scheduler(optimizer)
        if isinstance(scheduler, ReduceLROnPlateau):
            optimizers.check_plateau(scheduler, self.monitor)
        elif getattr(scheduler, "total_steps", 0) is None:
            steps = self.trainer.estimated_stepping_batches
            if math.isfinite(steps):
                scheduler.total_steps = int(steps)  # type: ignore[attr-defined]
        plan = {"scheduler": scheduler, "interval": "step", "reduce_on_plateau": False}
        return {"optimizer": optimizer, "lr_scheduler": plan}

    def new_optimizer(self) -> Optimizer:
        """The optimizer over all parameters."""
        return self.make_optimizer(self.parameters())

    def lr_scheduler_step(self, scheduler: Any, metric: Any | None) -> None:
        """Step a scheduler; ReduceLROnPlateau waits for the next validation."""
        if not isinstance(scheduler, ReduceLROnPlateau):
            super().lr_scheduler_step(scheduler, metric)

    def configure_callbacks(self) -> list[Callback]:
        """Exact resume, gradient health and pictures.

        One given by hand wins over ours of the same type, or of one that is derived from the other:
        `GradientNorms` over `GradientHealth`.
        """
        mine: list[Callback] = [ExactResume()]
        if self.learns_by == "gradients":
            mine.append(GradientHealth(picture=self.with_pictures))
        if self.with_pictures:
            mine += self.pictures()
        given = self.trainer.callbacks  # type: ignore[attr-defined]

        def is_given(callback: Callback) -> bool:
            return any(
                isinstance(callback, type(g)) or isinstance(g, type(callback)) for g in given
            )

        return [callback for callback in mine if not is_given(callback)]

    # ---- training: a mean over the whole optimizer step

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

    def on_train_batch_end(self, *_: Any) -> None:
        """Log the mean loss since the last time, every `log_every_n_steps` optimizer steps."""
        if not self._log_is_due():
            return
        step = self._logged_step = self.trainer.global_step
        self._check_finite_flag()
        loss = self._mean_since_log()
        self._sum, self._count = 0.0, 0.0
        self.log("train/loss", loss, prog_bar=True, logger=False)
        values = {"train/loss": loss, "train/epoch": float(self.current_epoch)}
        for index, optimizer in enumerate(self._working_optimizers()):
            name = "train/lr" if index == 0 else f"train/lr_{index}"
            values[name] = float(optimizer.param_groups[0]["lr"])
        for logger in self.loggers:
            logger.log_metrics(values, step=step)

    def _working_optimizers(self) -> list[Optimizer]:
        """None where the weights are found without one."""
        return self.trainer.optimizers if self.learns_by == "gradients" else []

    def _mean_since_log(self) -> float:
        sums = torch.tensor([float(self._sum), float(self._count)], device=self.device)
        total, count = self.trainer.strategy.reduce(sums, reduce_op="sum").tolist()
        return float(total / max(count, 1.0))

    def _log_is_due(self) -> bool:
        step = self.trainer.global_step
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        return every > 0 and step % every == 0 and step != self._logged_step

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

    # ---- validation and test: means over the whole epoch

    def on_validation_epoch_start(self) -> None:
        """Start the epoch's metrics."""
        self._metrics = self._fresh_metrics("val")

    def on_test_epoch_start(self) -> None:
        """Start the epoch's metrics."""
        self._metrics = self._fresh_metrics("test")

    def _fresh_metrics(self, stage: str) -> dict[str, Metric]:
        return {name: metric.to(self.device) for name, metric in self.metrics(stage).items()}

    def on_validation_epoch_end(self) -> None:
        """Log the epoch's metrics as `val/NAME`; step a ReduceLROnPlateau."""
        self._log_metrics("val")
        if self.trainer.sanity_checking or self.monitor is None:
            return
        for plan in self.trainer.lr_scheduler_configs:  # empty but in a fit
            if isinstance(plan.scheduler, ReduceLROnPlateau):
                plan.scheduler.step(self.trainer.callback_metrics[self.monitor[0]])

    def on_test_epoch_end(self) -> None:
        """Log the epoch's metrics as `test/NAME`."""
        self._log_metrics("test")

    def _log_metrics(self, stage: str) -> None:
        values = {f"{stage}/{name}": metric.compute() for name, metric in self._metrics.items()}
        first = self.headline.split("/")[-1]
        for name, value in values.items():
            in_bar = name in (f"{stage}/loss", f"{stage}/{first}")
            self.log(name, value, prog_bar=in_bar, sync_dist=True)  # equal on all ranks
        self._metrics = {}

    # ---- loggers

    def on_fit_start(self) -> None:
        """Log the hparams, with the facts of the data among them; check a resumed optimizer.

        Raises:
            MismatchError: the checkpoint was made with another class of optimizer, or a scheduler
                decides what was asked for.
            OptionError: the optimizer cannot accumulate.
        """
        optimizers.check_accumulation(self.trainer)
        optimizers.check_classes(self.trainer.optimizers, self._resumed_optimizers)
        self._asked = optimizers.settings(self.trainer.optimizers, self.optimizer_overrides)
        optimizers.check_settings(self.trainer, self._asked)
        for logger in self.loggers:
            logger.log_hyperparams(self._hyperparameters())

    def _hyperparameters(self) -> dict[str, Any]:
        """What the run was made with: arguments and facts, optimizers, batch size and seed."""
        found = {**self.hparams, **optimizers.described(self._working_optimizers())}
        batch_size = getattr(self._trainer_data(), "batch_size", None)
        if batch_size is not None:
            found["batch_size"] = batch_size
        if "PL_GLOBAL_SEED" in os.environ:
            found["seed"] = int(os.environ["PL_GLOBAL_SEED"])
        return found

    def on_train_start(self) -> None:
        """Let settings of the optimizer that were asked for win over the checkpoint's.

        Raises:
            OptionError: the scheduler ends before training does.
        """
        skip_idle_hooks(self.trainer.callbacks)  # type: ignore[attr-defined]
        optimizers.check_length(self.trainer)
        optimizers.restore_settings(self.trainer, self._asked)

    def on_fit_end(self) -> None:
        """Log the hparams once more, beside the final value of the monitored metric."""
        if self.monitor is None or self.monitor[0] not in self.trainer.callback_metrics:
            return
        final = {f"hp/{self.monitor[0]}": float(self.trainer.callback_metrics[self.monitor[0]])}
        for logger in self.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.log_hyperparams(self._hyperparameters(), final)

    # ---- checkpoints and pretrained folders

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add format, class, processor, spec, configuration and the sums of the running step."""
        self._check_finite_flag()
        spec = getattr(self._trainer_data(), "spec", None)
        # A checkpoint may be made just before the hook that logs: keep what will be true after it.
        logged = self._trainer is not None and self._log_is_due()
        if logged and RESUME_KEY in checkpoint:
            loss = torch.tensor(self._mean_since_log())
            checkpoint[RESUME_KEY]["metrics"]["train/loss"] = loss
        sums = [0.0, 0.0] if logged else [float(self._sum), float(self._count)]
        checkpoint["dlarch"] = {
            "format": FORMAT,
            "model": vars(type(self)).get("registry_name"),
            "class": f"{type(self).__module__}:{type(self).__qualname__}",
            "processor": self.processor.to_dict() if self.processor is not None else None,
            "spec": spec.to_dict() if spec is not None else None,
            "config": self.run_config,
            "sums": [*sums, None if self._step_count is None else float(self._step_count)],
            "logged_step": self.trainer.global_step if logged else self._logged_step,
            "optimizers": [optimizers.name_of(each) for each in self.trainer.optimizers],
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the processor back; on a resumed fit, refuse other training data.

        Raises:
            CheckpointError: the checkpoint was written by a newer dlarch.
            MismatchError: it was trained on other data.
        """
        added = checkpoint.get("dlarch")
        if added is None:
            return
        if added["format"] > FORMAT:
            raise CheckpointError(
                f"The checkpoint has format {added['format']}, this dlarch reads up to {FORMAT}: "
                "update dlarch."
            )
        if added["processor"] is not None:
            self.processor = processor_from_dict(added["processor"])
        if self._trainer is None:
            return
        self._compare_shapes(checkpoint)
        if self.trainer.state.fn != TrainerFn.FITTING:
            return
        self._sum, self._count, self._step_count = added["sums"]
        self._logged_step = added["logged_step"]
        self._resumed_optimizers = added["optimizers"]
        spec = getattr(self._trainer_data(), "spec", None)
        before = (added["spec"] or {}).get("fingerprint")
        if spec is not None and before is not None and spec.fingerprint != before:
            raise MismatchError(
                f"The checkpoint was trained on other data (content {before[:12]}, now "
                f"{str(spec.fingerprint)[:12]}): resume with the same data, or start a new run "
                "without --ckpt_path."
            )

    def _compare_shapes(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint whose arguments make other shapes, and name both values."""
        self.make_room(checkpoint["state_dict"])
        shapes = {name: tensor.shape for name, tensor in self.state_dict().items()}
        theirs = {name: tensor.shape for name, tensor in checkpoint["state_dict"].items()}
        if shapes == theirs:
            return
        before = checkpoint.get("hyper_parameters", {})
        changed = [
            f"{name} is {value} here and {before[name]} in the checkpoint"
            for name, value in self.hparams.items()
            if name in before and before[name] != value
        ]
        raise MismatchError(
            f"The checkpoint holds weights of other shapes: {'; '.join(changed) or 'another model'}"
            ". Use the checkpoint's values, or train anew without --ckpt_path."
        )

    def save_pretrained(self, folder: str, **card: Any) -> None:
        """Write config.json, safetensors, the processor and a model card into `folder`."""
        hub.save_pretrained(self, folder, **card)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Upload what `save_pretrained` writes; returns the address of the commit."""
        return hub.push_to_hub(self, repo_id, **options)
