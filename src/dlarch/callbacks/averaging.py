"""The mean of the last few checkpoints, which is often better than each of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import lightning as L  # noqa: N812
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from dlarch.callbacks.protocols import run_folder
from dlarch.compat.checkpoint_io import AtomicCheckpointIO, load_checkpoint
from dlarch.errors import OptionError

FORM = re.compile(r"step_(\d+)\.ckpt")


class AverageLast(L.Callback):
    """Average the weights of the last validations of a training.

    Late in training the weights wander about a good point, and their mean is nearer to it. At each
    validation the weights are kept as `checkpoints/step_N.ckpt`, the last `count` of them. `fit`
    scores the mean on the validation data. If it is better there than the best single checkpoint,
    it is kept as `checkpoints/averaged.ckpt`, is tested, and is what later verbs take of the run.

    Args:
        count: checkpoints that are averaged.

    Raises:
        OptionError: fewer than 2.
    """

    def __init__(self, count: int = 5) -> None:
        if count < 2:
            raise OptionError(f"AverageLast needs a count of at least 2, not {count}.")
        self.count = count

    def on_validation_end(self, trainer: L.Trainer, _: L.LightningModule) -> None:
        """Keep the weights of now, and forget the oldest."""
        folder = _folder(trainer)
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING or folder is None:
            return
        trainer.save_checkpoint(folder / f"step_{trainer.global_step}.ckpt", weights_only=True)
        if trainer.is_global_zero:
            for path in _kept(folder)[: -self.count]:
                path.unlink()

    def average(self, trainer: L.Trainer, path: Path) -> int:
        """Write the mean into a file, and say of how many checkpoints; not of fewer than two."""
        folder = _folder(trainer)
        kept = [] if folder is None else _kept(folder)[-self.count :]
        if folder is None or len(kept) < 2:
            return len(kept)
        if trainer.is_global_zero:
            AtomicCheckpointIO().save_checkpoint(averaged(kept), path)
        trainer.strategy.barrier()
        return len(kept)


def averaged(paths: list[Path]) -> dict[str, Any]:
    """The last of some checkpoints, with the mean of all their weights.

    What is no floating-point number, such as a count of batches, is that of the last.
    """
    total: dict[str, Tensor] = {}
    for path in paths:
        checkpoint = load_checkpoint(path)
        for name, value in checkpoint["state_dict"].items():
            if not value.is_floating_point():
                continue
            part = value.double() / len(paths)
            total[name] = total[name] + part if name in total else part
    weights = checkpoint["state_dict"]
    for name, value in total.items():
        weights[name] = value.to(weights[name].dtype)
    return checkpoint


def _folder(trainer: L.Trainer) -> Path | None:
    run = run_folder(trainer)
    return None if run is None else run / "checkpoints"


def _kept(folder: Path) -> list[Path]:
    """The checkpoints of validations, in the order of their steps."""
    found = {path: FORM.fullmatch(path.name) for path in folder.glob("step_*.ckpt")}
    steps = {path: int(match[1]) for path, match in found.items() if match}
    return sorted(steps, key=steps.__getitem__)
