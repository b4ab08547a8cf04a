"""The two checkpoints of a run: `last.ckpt` to go on from, `best.ckpt` to use."""

from __future__ import annotations

import logging
from functools import cached_property
from pathlib import Path
from typing import Any

import lightning as L  # noqa: N812
from lightning.pytorch.callbacks import (
    Checkpoint,
    GradientAccumulationScheduler,
    ModelCheckpoint,
)

from dlarch.callbacks.resume import ExactResume, LazyLoader
from dlarch.compat import fit_loop
from dlarch.compat.fit_loop import Point
from dlarch.errors import OptionError, check_at_least_1

logger = logging.getLogger(__name__)


class LastCheckpoint(Checkpoint):
    """Keep `last.ckpt`, from which a run that was killed, stopped or finished goes on exactly.

    It is written every `every_n_steps` optimizer steps, between epochs, and at the end of training,
    so that a finished run can be continued with more `max_epochs` or `max_steps`. Only points are
    used that `ExactResume`, which has to be among the callbacks, repeats exactly.

    Args:
        folder: where `last.ckpt` is written.
        every_n_steps: optimizer steps between two checkpoints inside an epoch; None for none.

    Raises:
        OptionError: at the start of `fit`, for Trainer options that cannot be resumed exactly.
    """

    def __init__(self, folder: str | Path, every_n_steps: int | None = None) -> None:
        check_at_least_1(every_n_steps=every_n_steps)
        self.path = Path(folder) / "last.ckpt"
        self.every_n_steps = every_n_steps
        self._saved_step = -1
        self._trained = False

    def setup(self, trainer: L.Trainer, _: L.LightningModule, stage: str) -> None:
        """Refuse what cannot be resumed exactly."""
        if stage == "fit":
            refuse_inexact(trainer)

    def on_train_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Say so when parts that do not come from dlarch prevent an exact resume."""
        self._trained = False
        self._saved_step = trainer.global_step
        loaders = fit_loop.training_loaders(trainer)
        if not all(isinstance(loader, LazyLoader) for loader in loaders):
            logger.warning(
                "The training loader is not a dlarch BatchLoader and does not know its position: a "
                "resumed run starts the epoch anew, with other batches."
            )
        if not _has(trainer, ExactResume):
            logger.warning("Without the callback ExactResume a resumed run will differ.")

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any, **__: Any) -> None:
        """Save every N optimizer steps, when the batch was the last one of its step."""
        self._trained = True
        step = trainer.global_step
        if (
            self.every_n_steps is not None
            and step % self.every_n_steps == 0
            and step != self._saved_step
            and at_boundary(trainer)
        ):
            self.save(trainer)

    def on_train_epoch_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Save between epochs: later than `on_train_epoch_end`, so that all of its work is done."""
        if self._trained:
            self.save(trainer)

    def on_train_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Save what a finished run can be continued from."""
        if self._trained:
            self.save(trainer)

    def save(self, trainer: L.Trainer) -> None:
        """Write `last.ckpt` now, on all processes."""
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        self._saved_step = trainer.global_step
        trainer.save_checkpoint(self.path, weights_only=False)


def at_boundary(trainer: L.Trainer) -> bool:
    """Whether a checkpoint made in `on_train_batch_end` now would be exact.

    Not inside an accumulated step, and not on the last batch of an epoch unless validation follows.
    """
    return (
        not fit_loop.inside_accumulation(trainer)
        and fit_loop.current_point(trainer, validation_over=True) is not Point.INEXACT
    )


def refuse_inexact(trainer: L.Trainer) -> None:
    """Check the Trainer for options with which a resumed run would silently differ.

    Raises:
        OptionError: names the option and what to use instead.
    """
    if fit_loop.validates_by_the_clock(trainer):
        raise OptionError(
            "A val_check_interval given as a time cannot be resumed exactly; give a number of "
            "batches or a share of an epoch."
        )
    if trainer.reload_dataloaders_every_n_epochs:  # type: ignore[attr-defined]
        raise OptionError(
            "reload_dataloaders_every_n_epochs cannot be resumed exactly; leave it out, since "
            "dlarch's loaders shuffle anew in each epoch by themselves."
        )
    if _has(trainer, GradientAccumulationScheduler):
        raise OptionError(
            "GradientAccumulationScheduler cannot be resumed exactly; use a constant "
            "accumulate_grad_batches."
        )


def _has(trainer: L.Trainer, kind: type[L.Callback]) -> bool:
    return any(isinstance(c, kind) for c in trainer.callbacks)  # type: ignore[attr-defined]


class BestCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint, whose best score survives when the run folder is moved."""

    @cached_property
    def state_key(self) -> str:  # type: ignore[override]
        """Its name in a checkpoint; Lightning asks for it at each hook, and spells it anew."""
        return super().state_key

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        """Nothing: it looks at validations only."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the best score, if the file that reached it lies in this folder."""
        path = self.format_checkpoint_name({})
        if not Path(path).is_file() or state_dict.get("best_model_score") is None:
            return
        score = state_dict["best_model_score"]
        moved = {
            "dirpath": self.dirpath,
            "best_model_path": path,
            "kth_best_model_path": path,
            "best_k_models": {path: score},
            "last_model_path": "",
        }
        super().load_state_dict({**state_dict, **moved})


def best_checkpoint(folder: str | Path, monitor: str, mode: str) -> BestCheckpoint:
    """Make the callback that keeps `best.ckpt`, looked at after each validation.

    Args:
        folder: where `best.ckpt` is written.
        monitor: tag of the metric, such as "val/loss".
        mode: "min" or "max".
    """
    return BestCheckpoint(
        dirpath=str(folder),
        filename="best",
        monitor=monitor,
        mode=mode,
        save_on_train_epoch_end=False,
        auto_insert_metric_name=False,
        enable_version_counter=False,
    )
