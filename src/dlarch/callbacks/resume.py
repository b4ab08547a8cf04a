"""Exact resume: what a checkpoint needs so that a killed run ends as if it had never been."""

from __future__ import annotations

import logging
import random
from typing import Any, Protocol, runtime_checkable

import lightning as L  # noqa: N812
import numpy as np
import torch
from lightning.pytorch.trainer.states import TrainerFn

from dlarch.compat import fit_loop
from dlarch.compat.fit_loop import Point

logger = logging.getLogger(__name__)

KEY = "exact_resume"
"""Where the state lies in a checkpoint."""

RandomState = dict[str, Any]


@runtime_checkable
class LazyLoader(Protocol):
    """A training loader whose state may be set after `iter`, before the first batch."""

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Continue from a saved state."""

    def finish_epoch(self) -> None:
        """Start the next iteration with a new epoch."""


class ExactResume(L.Callback):
    """Make every checkpoint that can be resumed exactly be resumed exactly, bit for bit on CPU.

    Saves the random states of torch, numpy and Python (of every process), the metrics that
    schedulers and checkpoints watch, and gradients that wait for the rest of an accumulated step;
    settles the counters of Lightning's loops. All are put back when training starts. Validation is
    kept from moving the random states.

    Exact are checkpoints made in `on_train_batch_end` (but for the last batch of an epoch which no
    validation follows), inside and at the end of a validation, in `on_train_epoch_end` (without a
    ReduceLROnPlateau that steps per epoch), between epochs, and at the end of training. Resuming
    from another one is reported. The training loader has to be a `LazyLoader`. What a
    LightningModule changes in its own `on_train_batch_end` is saved one batch late, since Lightning
    calls it after the callbacks'; so use `optimizer_step` or `on_before_zero_grad` for such work.
    """

    def __init__(self) -> None:
        self._saved: dict[str, Any] | None = None
        self._loaders: list[dict[str, Any]] = []
        self._before_validation: RandomState | None = None

    def on_save_checkpoint(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        checkpoint: dict[str, Any],
    ) -> None:
        """Add what `on_train_start` needs."""
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        point = fit_loop.current_point(trainer, self._before_validation is None)
        gradients: dict[str, torch.Tensor] = {}
        if point is not Point.EPOCH and fit_loop.inside_accumulation(trainer):
            gradients = {
                name: parameter.grad.detach().cpu().clone()
                for name, parameter in pl_module.named_parameters()
                if parameter.grad is not None
            }
            if trainer.world_size > 1:  # the other processes have gradients of their own
                point = Point.INEXACT
        fit_loop.settle(checkpoint["loops"]["fit_loop"], point)
        states = self._before_validation or random_state(trainer.strategy.root_device)
        checkpoint[KEY] = {
            "point": str(point),
            "random": gathered(states, trainer.world_size),
            "gradients": gradients,
            "metrics": {name: value.cpu() for name, value in trainer.callback_metrics.items()},
        }

    def on_load_checkpoint(
        self, trainer: L.Trainer, _: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep what was saved until training starts."""
        if trainer.state.fn == TrainerFn.FITTING:
            self._saved = checkpoint.get(KEY)
            self._loaders = fit_loop.loader_states(checkpoint)
            if self._saved is None or self._saved["point"] == Point.INEXACT:
                logger.warning(
                    "Training goes on from a checkpoint that was not made for it, so the result "
                    "will differ from an uninterrupted run; last.ckpt resumes exactly."
                )

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put everything back, in a resumed run."""
        saved, self._saved = self._saved, None
        if saved is None:
            return
        point = Point(saved["point"])
        if point is not Point.INEXACT:
            fit_loop.prepare_restart(trainer, point)
        self._restore_loaders(trainer, point)
        parameters = dict(pl_module.named_parameters())
        for name, gradient in saved["gradients"].items():
            parameters[name].grad = gradient.to(parameters[name].device)
        trainer.callback_metrics.update(saved["metrics"])
        states = saved["random"]
        if len(states) != trainer.world_size:
            logger.warning(
                "The checkpoint was written by %d processes and %d resume it, so the result will "
                "differ from an uninterrupted run.",
                len(states),
                trainer.world_size,
            )
        mine = states[trainer.global_rank] if trainer.global_rank < len(states) else states[0]
        restore_random_state(mine, trainer.strategy.root_device)

    def on_validation_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Remember the random state; the sanity check comes through here, too."""
        self._before_validation = random_state(trainer.strategy.root_device)

    def on_validation_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Go back to the random state of before."""
        if self._before_validation is not None:
            restore_random_state(self._before_validation, trainer.strategy.root_device)
            self._before_validation = None

    def _restore_loaders(self, trainer: L.Trainer, point: Point) -> None:
        """Lightning itself restores loaders only inside an epoch, and only if made late enough."""
        states, self._loaders = self._loaders, []
        loaders = fit_loop.training_loaders(trainer)
        if len(states) != len(loaders) or not all(isinstance(x, LazyLoader) for x in loaders):
            return
        for loader, state in zip(loaders, states, strict=True):
            loader.load_state_dict(state)
            if fit_loop.epoch_used_up(trainer, point):
                loader.finish_epoch()


def random_state(device: torch.device) -> RandomState:
    """States of the global generators of torch, numpy and Python, and of `device`.

    Only tensors and plain numbers, so that `torch.load(weights_only=True)` reads them.
    """
    numpy_state: dict[str, Any] = np.random.get_state(legacy=False)  # type: ignore[assignment]
    version, words, gauss = random.getstate()
    state = {
        "torch": torch.get_rng_state(),
        "numpy": torch.from_numpy(numpy_state["state"]["key"].astype(np.int64)),
        "numpy_rest": [
            int(numpy_state["state"]["pos"]),
            int(numpy_state["has_gauss"]),
            float(numpy_state["gauss"]),
        ],
        "python": torch.tensor(words, dtype=torch.int64),
        "python_rest": [version, gauss],
    }
    if device.type == "cuda":
        state["device"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        state["device"] = torch.mps.get_rng_state()
    return state


def restore_random_state(state: RandomState, device: torch.device) -> None:
    """Inverse of `random_state`; a state of another kind of device is left out."""
    torch.set_rng_state(state["torch"])
    position, has_gauss, gauss = state["numpy_rest"]
    key = state["numpy"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", key, position, has_gauss, gauss))
    version, python_gauss = state["python_rest"]
    random.setstate((version, tuple(state["python"].tolist()), python_gauss))
    if "device" in state and device.type == "cuda":
        torch.cuda.set_rng_state(state["device"], device)
    elif "device" in state and device.type == "mps":
        torch.mps.set_rng_state(state["device"])


def gathered(state: Any, world_size: int) -> list[Any]:
    """What each process has, by rank."""
    if world_size == 1:
        return [state]
    states: list[Any] = [None] * world_size
    torch.distributed.all_gather_object(states, state)
    return states
