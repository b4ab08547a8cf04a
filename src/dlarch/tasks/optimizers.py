"""Optimizers and schedulers in a run: when they step, and what wins over a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import lightning as L  # noqa: N812
from torch.optim import LBFGS, Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from dlarch.errors import MismatchError, OptionError

Settings = list[list[dict[str, Any]]]
"""Values by name, of each parameter group of each optimizer."""


def name_of(optimizer: Optimizer) -> str:
    """Its name in a recipe: a class of torch is called by its bare name, any other by its path."""
    kind = type(optimizer)
    bare = kind.__module__.startswith("torch.optim")
    return kind.__name__ if bare else f"{kind.__module__}.{kind.__qualname__}"


def check_classes(optimizers: Sequence[Optimizer], before: list[str] | None) -> None:
    """Compare the optimizers of a resumed run with those of the checkpoint.

    Raises:
        MismatchError: they are of other classes, whose state is of no use.
    """
    kinds = [name_of(optimizer) for optimizer in optimizers]
    if before is not None and kinds != before:
        raise MismatchError(
            f"The optimizer is {', '.join(kinds)} here and {', '.join(before)} in the checkpoint: "
            "resume with the same, or train anew without --ckpt_path."
        )


def settings(optimizers: Sequence[Optimizer], names: Iterable[Iterable[str]]) -> Settings:
    """The values of some settings of each; to be read before a checkpoint's are restored."""
    return [
        [{name: group[name] for name in asked if name in group} for group in optimizer.param_groups]
        for optimizer, asked in zip(optimizers, names, strict=True)
    ]


def described(optimizers: Sequence[Optimizer]) -> dict[str, Any]:
    """Class and settings of each optimizer, those that are switched off left out."""
    found: dict[str, Any] = {}
    for index, optimizer in enumerate(optimizers):
        name = "optimizer" if index == 0 else f"optimizer_{index}"
        found[name] = name_of(optimizer)
        for setting, value in optimizer.param_groups[0].items():
            if setting not in ("params", "initial_lr") and value not in (None, False):
                found[f"{name}.{setting}"] = optimizer.defaults.get(setting, value)
    return found


def check_settings(trainer: L.Trainer, asked: Settings) -> None:
    """Compare the settings asked for with those that a scheduler decides.

    Raises:
        MismatchError: a scheduler goes on from the checkpoint, and would undo them.
    """
    names = dict.fromkeys(name for groups in asked for group in groups for name in group)
    for plan in trainer.lr_scheduler_configs:
        kind = type(plan.scheduler).__name__
        owned = {"lr"} | ({"momentum", "betas"} if kind in ("OneCycleLR", "CyclicLR") else set())
        lost = [name for name in names if name in owned]
        if lost:
            raise MismatchError(
                f"The new {' and '.join(lost)} of the optimizer cannot be used: {kind} goes on "
                "with the values of the checkpoint. Leave it out, or start a new run."
            )


def restore_settings(trainer: L.Trainer, asked: Settings) -> None:
    """Let the settings asked for win over the checkpoint's."""
    for optimizer, groups in zip(trainer.optimizers, asked, strict=True):
        for group, values in zip(optimizer.param_groups, groups, strict=True):
            group.update(values)


def check_accumulation(trainer: L.Trainer) -> None:
    """Compare the optimizers with the number of batches of a step.

    Raises:
        OptionError: one looks at a step's loss several times, of which only the last batch is left.
    """
    if trainer.accumulate_grad_batches > 1 and any(
        isinstance(optimizer, LBFGS) for optimizer in trainer.optimizers
    ):
        raise OptionError(
            "LBFGS evaluates each step's loss several times, which accumulated batches do not "
            "allow: give a larger --data.batch_size instead of accumulate_grad_batches."
        )


def check_plateau(scheduler: ReduceLROnPlateau, monitor: tuple[str, str] | None) -> None:
    """Compare what the scheduler waits for with what the run watches.

    Raises:
        OptionError: nothing is watched, or its better is the scheduler's worse.
    """
    if monitor is None:
        raise OptionError("ReduceLROnPlateau needs a metric to watch: give --monitor.")
    if scheduler.mode != monitor[1]:
        raise OptionError(
            f"{monitor[0]} is better the {'higher' if monitor[1] == 'max' else 'lower'} it is: "
            f"give ReduceLROnPlateau mode {monitor[1]}."
        )


def check_length(trainer: L.Trainer, planned_steps: Callable[[int], float]) -> None:
    """Compare schedules of a fixed length, which raise at their end, with the training's.

    Args:
        trainer: with the schedules.
        planned_steps: of the optimizer at a place.

    Raises:
        OptionError: a schedule ends first.
    """
    for place, plan in enumerate(trainer.lr_scheduler_configs):
        total, planned = getattr(plan.scheduler, "total_steps", None), 0
        if isinstance(total, int):
            planned = int(planned_steps(place))
        if isinstance(total, int) and planned > total:
            raise OptionError(
                f"{type(plan.scheduler).__name__} ends after {total} steps, but training is to "
                f"take {planned}: set --model.scheduler.total_steps {planned} in a new run, or "
                f"--trainer.max_steps {total}."
            )
