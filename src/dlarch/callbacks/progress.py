"""How a run reports its progress: a bar on a terminal, one line per epoch elsewhere."""

from __future__ import annotations

import logging
import os
import sys
import time
from typing import Any

import rich
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import RichProgressBarTheme
from typing_extensions import override

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_READINGS = 0.5
SECONDS_BETWEEN_STEPS = 0.1


def progress_bar() -> ProgressBar:
    """A `TerminalBar` on a terminal; `EpochLines` without one, or with CI or NO_COLOR set."""
    plain = os.environ.get("CI") or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return TerminalBar() if sys.stderr.isatty() and not plain else EpochLines()


def current_metrics(trainer: Trainer) -> dict[str, float]:
    """What has been logged so far, by tag; of `x`, `x_step` and `x_epoch` only `x`.

    To be called on every rank: at the end of an epoch the reading may reduce over the ranks.
    """
    metrics = trainer.callback_metrics
    return {
        name: float(value)
        for name, value in metrics.items()
        if not any(
            name.endswith(s) and name.removesuffix(s) in metrics for s in ("_step", "_epoch")
        )
    }


def monitor_of(module: LightningModule) -> tuple[str, str] | None:
    """The metric by which a task chooses its best epoch, with "min" or "max"; None without."""
    monitor: tuple[str, str] | None = getattr(module, "monitor", None)
    return monitor


class EpochLines(ProgressBar):
    """One log line per epoch, in place of a bar.

    `epoch 3/6  train/loss 0.4120  val/loss 0.3010  val/exact_match 0.9120  21 s`

    Shown are losses, the task's `monitor`, and what is logged with `prog_bar=True`. The line goes
    to the logger `dlarch.callbacks.progress` at level INFO. Steps cost nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._started = time.monotonic()
        self._validated = False

    @override
    def disable(self) -> None:
        """Be silent; Lightning calls this on other ranks and while it searches for settings."""
        self._enabled = False

    @override
    def enable(self) -> None:
        """Speak again."""
        self._enabled = True

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock here too: a run resumed in mid-epoch has no epoch start."""
        self._started, self._validated = time.monotonic(), False

    @override
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._started, self._validated = time.monotonic(), False

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember that the figures of validation are of this epoch."""
        self._validated = True

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the line."""
        metrics = current_metrics(trainer)  # before the return: on every rank
        if not self._enabled:
            return
        monitor = monitor_of(pl_module)
        wanted = [name for name in sorted(metrics) if name.endswith("loss")]
        wanted += [monitor[0]] if monitor else []
        wanted += list(trainer.progress_bar_metrics)
        shown = [
            f"{name} {metrics[name]:#.4g}"
            for name in dict.fromkeys(wanted)
            if name in metrics and (self._validated or not name.startswith("val"))
        ]
        words = [_position(trainer), *shown, duration(time.monotonic() - self._started)]
        logger.info("  ".join(words))


class TerminalBar(RichProgressBar):
    """Lightning's rich bar on stderr, drawn 5 times a second, its metrics read twice.

    Lightning reads all metrics after each step, which makes a GPU wait, and draws up to 100 times
    a second. It is told of a training step 10 times a second. Each epoch's bar stays on the screen
    with its figures.
    """

    def __init__(self) -> None:
        super().__init__(
            refresh_rate=5,
            leave=True,
            theme=RichProgressBarTheme(
                description="bold",
                progress_bar="#5f9bd1",
                progress_bar_finished="#3fa36b",
                progress_bar_pulse="#5f9bd1",
                batch_progress="",
                time="dim",
                processing_speed="dim",
                metrics="",
                metrics_text_delimiter="  ",
                metrics_format="#.4g",
            ),
            console_kwargs={"stderr": True},
        )
        self._metrics: dict[str, Any] = {}
        self._read_at = 0.0
        self._told_at = 0.0

    @override
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count epochs from 1, as people do."""
        super().on_train_epoch_start(trainer, pl_module)
        self._describe(trainer)

    @override
    def on_train_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Count the step, now and then; a run that was resumed in mid-epoch has no epoch start."""
        new, now = self.train_progress_bar_id is None, time.monotonic()
        if not (new or trainer.is_last_batch) and now - self._told_at < SECONDS_BETWEEN_STEPS:
            return
        self._told_at = now
        super().on_train_batch_end(trainer, *args, **kwargs)
        if new:
            self._describe(trainer)

    def _describe(self, trainer: Trainer) -> None:
        if self.progress is not None and self.train_progress_bar_id is not None:
            description = f"[bold]{_position(trainer)}"
            self.progress.update(self.train_progress_bar_id, description=description)
            self.refresh()

    @override
    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """What is logged with `prog_bar=True`; in mid-epoch as it was up to half a second ago."""
        now = time.monotonic()
        passed = now - self._read_at >= SECONDS_BETWEEN_READINGS
        if passed or not trainer.training or trainer.is_last_batch:
            metrics, self._read_at = super().get_metrics(trainer, pl_module), now
            metrics.pop("v_num", None)
            for name in [n for n in metrics if f"{n.removesuffix('_step')}_epoch" in metrics]:
                if name.endswith("_step"):
                    metrics.pop(name.removesuffix("_step") + "_epoch")
                    metrics = {name.removesuffix("_step"): metrics.pop(name), **metrics}
            self._metrics = metrics
        return self._metrics

    @override
    def configure_columns(self, trainer: Trainer) -> list[Any]:
        """A short bar, and no speed on a narrow terminal, to leave room for the metrics."""
        columns: list[Any] = super().configure_columns(trainer)
        columns[1].bar_width = 16
        return columns if rich.get_console().width >= 110 else columns[:-1]

    @override
    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Stop, and give rich's global console, which Lightning has bent to stderr, back."""
        super().teardown(trainer, pl_module, stage)
        rich.reconfigure()


def _position(trainer: Trainer) -> str:
    epoch = trainer.current_epoch + 1
    if trainer.max_epochs is not None and trainer.max_epochs > 0:
        return f"epoch {epoch}/{trainer.max_epochs}"
    if trainer.max_steps > 0:
        return f"epoch {epoch}  step {trainer.global_step}/{trainer.max_steps}"
    return f"epoch {epoch}"


def duration(seconds: float) -> str:
    """A duration for people: `2.4 s`, `21 s`, `3 min 05 s`, `2 h 07 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
