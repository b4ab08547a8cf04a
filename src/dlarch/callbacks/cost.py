"""What a fit costs: floating-point operations and seconds."""

from __future__ import annotations

import time
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils.flop_counter import FlopCounterMode
from typing_extensions import override


class TrainingCost(Callback):
    """Logs `train/pflop` and `train/seconds`, what the fit has taken so far, after each epoch.

    The operations of the first batch are counted, forwards and backwards, and multiplied by the
    number of batches: meant for data whose batches are alike, such as images. Counted are matrix
    products, convolutions and attention, a multiplication with its addition as two; not the kernels
    of `torch.nn.RNN`, `GRU` and `LSTM`. Seconds are those of training without validation, the
    making of batches among them.
    """

    def __init__(self) -> None:
        self.batches = 0
        self.seconds = 0.0
        self._per_batch: int | None = None
        self._counter: FlopCounterMode | None = None
        self._since: float | None = None

    @override
    def state_dict(self) -> dict[str, Any]:
        """What was taken so far."""
        return {"batches": self.batches, "seconds": self.seconds}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Add to what a run took before it was resumed."""
        self.batches, self.seconds = state_dict["batches"], state_dict["seconds"]

    @override
    def on_train_batch_start(self, *_: Any) -> None:
        """Count the first batch."""
        if self._per_batch is None:
            self._counter = FlopCounterMode(display=False)
            self._counter.__enter__()

    @override
    def on_train_batch_end(self, *_: Any) -> None:
        """Keep the count."""
        if self._counter is not None:
            self._per_batch = int(self._counter.get_total_flops())
            self._stop_counting()
        self.batches += 1

    @override
    def on_exception(self, *_: Any) -> None:
        """Leave nothing behind that counts."""
        self._stop_counting()

    def _stop_counting(self) -> None:
        if self._counter is not None:
            self._counter.__exit__(None, None, None)
            self._counter = None

    @override
    def on_train_epoch_start(self, *_: Any) -> None:
        """Start the clock."""
        self._since = _now()

    @override
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop it during validation."""
        self._stop_clock()

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start it again."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._since = _now()

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log both."""
        self._stop_clock()
        operations = (self._per_batch or 0) * self.batches * trainer.world_size
        pl_module.log("train/pflop", operations / 1e15)
        pl_module.log("train/seconds", self.seconds)

    def _stop_clock(self) -> None:
        if self._since is not None:
            self.seconds += _now() - self._since
            self._since = None


def _now() -> float:
    """Seconds, when the device has done what it was asked for."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.monotonic()
