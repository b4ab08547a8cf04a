"""Where Lightning's fit loop stands, and how to make it go on from there (checked with 2.6.6).

Lightning counts batches and epochs in progress objects, saves them as they are, and guesses after a
restart in which hook they were saved. The guess fails for a last batch of an epoch, for a
validation that was due, for `max_steps`, and drops the epoch's ReduceLROnPlateau step. So the
counters are brought into one form per kind of point when a checkpoint is made (`settle`), and two
flags are corrected when training goes on (`prepare_restart`).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.utilities.combined_loader import CombinedLoader


class Point(StrEnum):
    """What is over, and so what comes next, at the moment of a checkpoint."""

    STEP = "step"
    """A batch; the next batch follows."""
    VALIDATION_DUE = "validation due"
    """A batch after which validation runs, and has not ended."""
    VALIDATED = "validated"
    """A batch and the validation after it."""
    CUT = "cut"
    """Training, by `max_steps` or an early stop inside an epoch; the next batch would follow."""
    EPOCH = "epoch"
    """An epoch with all its hooks; the next one would follow."""
    INEXACT = "inexact"
    """Something that cannot be repeated exactly."""


def current_point(trainer: Trainer, validation_over: bool) -> Point:
    """Find out where a fit stands.

    Args:
        trainer: inside `fit`.
        validation_over: inside a validation, whether it has come to `on_validation_end`.
    """
    fit_loop, epoch_loop = trainer.fit_loop, trainer.fit_loop.epoch_loop
    batches: Any = epoch_loop.batch_progress.current
    epochs: Any = fit_loop.epoch_progress.current
    if trainer.validating:
        return Point.VALIDATED if validation_over else Point.VALIDATION_DUE
    if batches.processed > batches.completed:  # in on_train_batch_end
        if _validation_due(trainer):
            return Point.VALIDATION_DUE
        return Point.INEXACT if epoch_loop._num_ready_batches_reached() else Point.STEP
    if batches.ready > batches.completed or epochs.processed < epochs.started:
        return Point.INEXACT  # inside a batch, or between two
    if batches.ready and not epoch_loop._num_ready_batches_reached():
        return Point.CUT
    if epochs.processed > epochs.completed and _steps_on_plateau_per_epoch(trainer):
        return Point.INEXACT  # in on_train_epoch_end, before the scheduler's step
    return Point.EPOCH


def settle(fit_loop: dict[str, Any], point: Point) -> None:
    """Bring the saved state of the fit loop, `checkpoint["loops"]["fit_loop"]`, into one form."""
    epochs = fit_loop["epoch_progress"]
    batches = fit_loop["epoch_loop.batch_progress"]
    validation = fit_loop["epoch_loop.val_loop.batch_progress"]
    if point is Point.INEXACT:
        return
    _fill(validation, 0)
    validation["is_last_batch"] = False
    if point is Point.VALIDATION_DUE:
        for counts in (batches["total"], batches["current"]):
            counts["completed"] = counts["processed"]
        for counts in (validation["total"], validation["current"]):
            counts["ready"] = counts["started"] = 1  # "in the middle of validation", at its start
    elif point is Point.CUT:
        for counts in (epochs["total"], epochs["current"]):
            counts["ready"] = counts["started"] = counts["processed"]
            counts["processed"] = counts["completed"] = counts["processed"] - 1
    elif point is Point.EPOCH:
        _fill(epochs, epochs["current"]["processed"])
        _fill({"current": batches["current"]}, 0)
        batches["is_last_batch"] = False
        _fill({"current": fit_loop["epoch_loop.scheduler_progress"]["current"]}, 0)
        optimizer = fit_loop["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]
        for progress in optimizer.values():
            _fill({"current": progress["current"]}, 0)


def prepare_restart(trainer: Trainer, point: Point) -> None:
    """Let the fit loop go on from `point`; for `on_train_start`."""
    fit_loop, epoch_loop = trainer.fit_loop, trainer.fit_loop.epoch_loop
    # Else ReduceLROnPlateau is left out at the end of the resumed epoch.
    fit_loop._restarting = False
    if point is Point.EPOCH:
        epoch_loop.restarting = False  # with max_steps Lightning takes the epoch for a started one
    elif point is Point.CUT and _validation_due(trainer) and not epoch_loop._should_accumulate():
        epoch_loop._batches_that_stepped -= 1  # counted again when the loop skips the validation


def inside_accumulation(trainer: Trainer) -> bool:
    """Whether gradients have been added up that no optimizer step has used yet."""
    epoch_loop = trainer.fit_loop.epoch_loop
    return bool(epoch_loop.batch_progress.current.ready and epoch_loop._should_accumulate())


def epoch_used_up(trainer: Trainer, point: Point) -> bool:
    """Whether the next training batch belongs to the next epoch, in `on_train_start`."""
    return point is Point.EPOCH or trainer.fit_loop.epoch_loop._num_ready_batches_reached()


def training_loaders(trainer: Trainer) -> list[Any]:
    """The loaders behind `train_dataloader`, in the order of their saved states."""
    combined: CombinedLoader | None = trainer.fit_loop._combined_loader
    return [] if combined is None else list(combined.flattened)


def loader_states(checkpoint: dict[str, Any]) -> list[dict[str, Any]]:
    """Saved states of the training loaders that have one."""
    states: list[dict[str, Any]] = checkpoint["loops"]["fit_loop"]["state_dict"].get(
        "combined_loader", []
    )
    return states


def validates_by_the_clock(trainer: Trainer) -> bool:
    """Whether `val_check_interval` is a time."""
    return getattr(trainer, "_val_check_time_interval", None) is not None


def _validation_due(trainer: Trainer) -> bool:
    fit_loop = trainer.fit_loop
    fetcher = fit_loop._data_fetcher
    return fetcher is not None and bool(fit_loop.epoch_loop._should_check_val_fx(fetcher))


def _steps_on_plateau_per_epoch(trainer: Trainer) -> bool:
    return any(
        config.reduce_on_plateau and config.interval == "epoch"
        for config in trainer.lr_scheduler_configs
    )


def _fill(progress: dict[str, Any], value: int) -> None:
    for name in ("total", "current"):
        if name in progress:
            progress[name].update(dict.fromkeys(progress[name], value))
