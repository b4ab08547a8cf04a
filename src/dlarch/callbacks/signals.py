"""Stop at a signal as a careful person would: finish the step, save, say how to go on."""

from __future__ import annotations

import logging
import shlex
import signal
import threading
from pathlib import Path
from typing import Any

import lightning as L  # noqa: N812
from lightning.pytorch.callbacks import Checkpoint

from dlarch.callbacks.checkpoints import LastCheckpoint, at_boundary

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequested(SystemExit):
    """Training stopped at a signal, after saving; ends the process with `exit_code` if not caught.

    Attributes:
        exit_code: 130 for SIGINT, 143 for SIGTERM; 0 in the other processes of a distributed run,
            since Lightning kills the first one when another fails.
    """

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


class GracefulStop(Checkpoint):
    """At the first SIGINT or SIGTERM finish the optimizer step, save `last.ckpt` and stop.

    A second signal ends the process at once, by the system's own hand. Lightning's handler would
    stop inside the epoch without a checkpoint. A `Checkpoint` only so that it comes after all other
    callbacks; it has to be listed after `LastCheckpoint`, by which it saves. Outside the main
    thread, where Python allows no handlers, it does nothing.

    Attributes:
        received: number of the signal that came, or None.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def on_train_start(self, *_: Any) -> None:
        """Install the handlers, over those that Lightning has installed before."""
        self.received = None
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._remember) for number in SIGNALS}

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any, **__: Any) -> None:
        """Stop after a whole optimizer step."""
        if self.received is None and trainer.world_size == 1:
            return
        if at_boundary(trainer) and self._agreed(trainer):
            self._stop(trainer)

    def on_validation_batch_start(self, trainer: L.Trainer, *_: Any, **__: Any) -> None:
        """Stop inside a validation, which the resumed run repeats; one process only.

        Several processes may have unequally many batches here, and could not agree.
        """
        if self._previous and trainer.world_size == 1 and self.received is not None:
            self._stop(trainer)

    def on_train_epoch_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Stop between epochs."""
        if self._agreed(trainer):
            self._stop(trainer)

    def on_train_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Stop although training has ended by itself: what would follow is not wanted."""
        if self._agreed(trainer):
            self._stop(trainer)
        self._restore()

    def on_exception(self, *_: Any) -> None:
        """Give the handlers back."""
        self._restore()

    def teardown(self, *_: Any, **__: Any) -> None:
        """Give the handlers back."""
        self._restore()

    def _remember(self, number: int, frame: Any) -> None:  # noqa: ARG002
        # No logging here: a handler may have interrupted just that. The next signal ends the
        # process even when it hangs outside of Python.
        self.received = number
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)

    def _restore(self) -> None:
        previous, self._previous = self._previous, {}
        for number, handler in previous.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _agreed(self, trainer: L.Trainer) -> bool:
        """Whether any process got a signal."""
        mine = self.received is not None
        if trainer.world_size == 1:
            return mine
        return trainer.strategy.reduce_boolean_decision(mine, all=False)

    def _stop(self, trainer: L.Trainer) -> None:
        number = signal.Signals(self.received or signal.SIGTERM)
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        last = next((c for c in callbacks if isinstance(c, LastCheckpoint)), None)
        if last is not None:
            last.save(trainer)
        if trainer.is_global_zero:
            where = f"Stopped by {number.name} after step {trainer.global_step}"
            if last is None:
                logger.warning("%s. Nothing was saved: there is no LastCheckpoint.", where)
            else:
                folder = _run_folder(last.path)
                # A run started from Python has no config.yaml for the command line to go by.
                resume = f"dlarch fit --ckpt_path {shlex.quote(str(folder))}"
                if not (folder / "config.yaml").is_file():
                    resume = f"dlarch.fit(..., ckpt_path={str(folder)!r})"
                logger.warning("%s. Resume with: %s", where, resume)
        raise StopRequested(128 + number if trainer.is_global_zero else 0)


def _run_folder(checkpoint: Path) -> Path:
    folder = checkpoint.parent
    return folder.parent if folder.name == "checkpoints" else checkpoint
