"""What every task has in common: the processor, optimizers, metrics, checkpoints."""

from __future__ import annotations

import math
import os
from abc import abstractmethod
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, ClassVar, TypeVar

from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torchmetrics import Metric

from dlarch import hub
from dlarch.callbacks.health import GradientHealth
from dlarch.callbacks.resume import ExactResume
from dlarch.compat.checkpoint_io import FORMAT
from dlarch.compat.hooks import skip_idle_hooks
from dlarch.errors import CheckpointError, MismatchError
from dlarch.nn import Initializer, StatesOfLayer, initialize, watch_states
from dlarch.processing import Processor, processor_from_dict
from dlarch.spec import DataSpec
from dlarch.tasks import optimizers
from dlarch.tasks.training_loss import TrainingLoss

OptimizerCallable = Callable[[Iterable[nn.Parameter]], Optimizer]
"""Makes an optimizer for parameters; in YAML a class path with its init_args."""

SchedulerCallable = Callable[[Optimizer], LRScheduler | ReduceLROnPlateau]
"""Makes a learning-rate scheduler; stepped per optimizer step, ReduceLROnPlateau per validation."""

LossCallable = nn.Module | Callable[[Tensor, Tensor], Tensor]
"""Mean loss of predictions and targets: a function or a `torch.nn` loss with its init_args."""

Found = TypeVar("Found")

InitializerCallable = Initializer | Callable[[Tensor], None]
"""Draws a weight (outputs, inputs, ...) anew, in place."""


class Task(TrainingLoss):
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

    optimizer_arguments: ClassVar[tuple[str, ...]] = ("optimizer",)
    """Arguments that make the optimizers, in the order of these."""

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
        # Settings that win over a checkpoint's, by the argument of their optimizer.
        self.optimizer_overrides: dict[str, list[str]] = {}
        self._metrics: dict[str, Metric] = {}
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
        super().setup(stage)
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
        return self.scheduled(self.new_optimizer())

    def scheduled(self, optimizer: Optimizer, place: int = 0) -> Any:
        """An optimizer, and its scheduler if there is one.

        Args:
            optimizer: that the scheduler steps.
            place: of the optimizer among several.
        """
        if self.make_scheduler is None:
            return optimizer
        scheduler = self.make_scheduler(optimizer)
        if isinstance(scheduler, ReduceLROnPlateau):
            optimizers.check_plateau(scheduler, self.monitor)
        elif getattr(scheduler, "total_steps", 0) is None:
            steps = self.planned_steps(place)
            if math.isfinite(steps):
                scheduler.total_steps = int(steps)  # type: ignore[attr-defined]
        plan = {"scheduler": scheduler, "interval": "step", "reduce_on_plateau": False}
        return {"optimizer": optimizer, "lr_scheduler": plan}

    def planned_steps(self, place: int) -> float:  # noqa: ARG002
        """Steps that an optimizer is to take in the training; there may be no end to it."""
        return self.trainer.estimated_stepping_batches

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

    def evaluated(self, make: Callable[[], Found]) -> Found:
        """What a function gives while nothing of training is on."""
        training = self.training
        self.eval()
        try:
            return make()
        finally:
            self.train(training)

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
        names = [self.optimizer_overrides.get(each, []) for each in self.optimizer_arguments]
        self._asked = optimizers.settings(self.trainer.optimizers, names)
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
        optimizers.check_length(self.trainer, self.planned_steps)
        optimizers.restore_settings(self.trainer, self._asked)

    def on_fit_end(self) -> None:
        """Log the hparams once more, beside the final value of the monitored metric.

        Where none is monitored, it is that of the figure in tables.
        """
        name = self.headline.replace("test/", "val/") if self.monitor is None else self.monitor[0]
        if name not in self.trainer.callback_metrics:
            return
        final = {f"hp/{name}": float(self.trainer.callback_metrics[name])}
        for logger in self.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.log_hyperparams(self._hyperparameters(), final)

    # ---- checkpoints and pretrained folders

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add format, class, processor, spec, configuration and the classes of optimizers."""
        super().on_save_checkpoint(checkpoint)
        spec = getattr(self._trainer_data(), "spec", None)
        checkpoint["dlarch"] |= {
            "format": FORMAT,
            "model": vars(type(self)).get("registry_name"),
            "class": f"{type(self).__module__}:{type(self).__qualname__}",
            "processor": self.processor.to_dict() if self.processor is not None else None,
            "spec": spec.to_dict() if spec is not None else None,
            "config": self.run_config,
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
        self._go_on_from(added)
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
