"""What a run keeps of itself: its folder, configuration, commands and minutes, what it came to."""

from __future__ import annotations

import inspect
import json
import os
import platform
import shlex
import shutil
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from math import isfinite
from pathlib import Path
from typing import Any

import lightning as L  # noqa: N812
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint

from dlarch.callbacks.protocols import TranslationSample
from dlarch.errors import OptionError, RunError, did_you_mean
from dlarch.recipes import recipes_folder
from dlarch.runs import Run, new_run

RUN_FOLDER = "DLARCH_RUN_FOLDER"
"""Environment variable by which the process of rank 0 tells the others the run folder."""

VERSIONS = ("dlarch", "torch", "lightning")


@dataclass(frozen=True)
class RunResult:
    """What a run came to.

    Attributes:
        run: its folder.
        metrics: final metrics by tag, those of the test among them.
        samples: translations and the like, as the final model makes them.
        best_epoch: epoch (from 0) that validation chose; None if the last weights were tested.
        stopped_epoch: last epoch that was trained.
        best_score: the monitored metric of the weights tested.
        averaged: checkpoints whose mean these weights are; 1 for a single one.
        minutes: of training and test, those before a resume among them.
        stopped_early: whether early stopping ended the training.
    """

    run: Run
    metrics: dict[str, float]
    samples: list[TranslationSample] = field(default_factory=list)
    best_epoch: int | None = None
    stopped_epoch: int = 0
    minutes: float = 0.0
    stopped_early: bool = False
    best_score: float | None = None
    averaged: int = 1


def open_run(name: str, checkpoint: Path | None = None) -> RunFiles:
    """The run's folder: that of the checkpoint which is resumed, else a new one.

    A checkpoint that lies in no run, whatever its folder is called, starts one.
    All processes of a distributed run get the one that rank 0 made.
    """
    if os.environ.get(RUN_FOLDER) and _rank() > 0:
        return RunFiles(Run(Path(os.environ[RUN_FOLDER])))
    run = _run_of(checkpoint) if checkpoint is not None else None
    if run is None:
        run = new_run(name)
    os.environ[RUN_FOLDER] = str(run.folder.absolute())
    return RunFiles(run)


def _run_of(checkpoint: Path) -> Run | None:
    run = Run(checkpoint.parent.parent)
    return run if checkpoint.parent == run.checkpoints and run.exists else None


class RunFiles(Callback):
    """The files of a run: what was asked for and what the data decided, or none if it never starts.

    config.yaml and spec.json are written once training starts. A run that fails before that is
    undone, else "the newest run" would mean it, and a resumed one would not be as it was.

    Attributes:
        config: what config.yaml is to hold; None for a run from Python.
        monitor: the metric that was asked for to choose the best checkpoint.
        commands: those that the run was started and, with other words, resumed with.
        earlier_minutes: spent before it was resumed, up to the checkpoint.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.config: str | None = None
        self.monitor: str | None = None
        self.commands = [command()]
        self.earlier_minutes = 0.0
        self.started = False
        self._opened = time.monotonic()
        self._logged: set[str] = set()
        self._before = _files(run.folder)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run cannot know by itself."""
        minutes = self.earlier_minutes + (time.monotonic() - self._opened) / 60
        return {"commands": self.commands, "minutes": minutes, "logged": sorted(self._logged)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint; the final test, which loads one too, changes nothing."""
        if self.started:
            return
        self.commands = list(dict.fromkeys([*state_dict["commands"], *self.commands]))
        self.earlier_minutes = state_dict["minutes"]
        self._logged = set(state_dict["logged"])

    def on_sanity_check_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Remember what a validation logs."""
        self._logged = set(trainer.callback_metrics)

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Write config.yaml and spec.json; a quick trial leaves a run as it was.

        Raises:
            OptionError: a metric is to be watched that the model does not log.
        """
        self._check_monitors(trainer, module)
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            if self.config is not None:
                write_text(self.run.config, self.config)
            spec = getattr(trainer.datamodule, "spec", None)  # type: ignore[attr-defined]
            facts = {"spec": spec.to_dict() if spec is not None else None, "versions": versions()}
            write_json(self.run.spec, facts)
        self.started = True

    def _check_monitors(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Refuse now what would come to light after an epoch, at the first validation."""
        declared = declared_metrics(module, "val")
        if not declared:
            return
        known = sorted({"train/loss", *(f"val/{name}" for name in declared), *self._logged})
        watched = [self.monitor, *(callback.monitor for callback in _watching(trainer))]
        for name in watched:
            # A training step of somebody's own may log more, which nothing has shown yet.
            if name is not None and name not in known and not name.startswith("train/"):
                raise OptionError(
                    f"monitor cannot be '{name}', which the model does not log while it trains."
                    f"{did_you_mean(name, known)} It logs {', '.join(known)}."
                )

    def discard_if_unused(self) -> None:
        """Remove what a run that failed before its start has left."""
        if self.started or _rank() > 0:
            return
        if not self._before:
            self.discard()
        for path in _files(self.run.folder) - self._before:
            path.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove a new run's folder, and its parent if no other run is there."""
        if self._before:
            return
        shutil.rmtree(self.run.folder, ignore_errors=True)
        with suppress(OSError):
            self.run.folder.parent.rmdir()


def _watching(trainer: L.Trainer) -> list[EarlyStopping | ModelCheckpoint]:
    """The callbacks that cannot do without a metric."""
    return [
        callback
        for callback in trainer.callbacks  # type: ignore[attr-defined]
        if isinstance(callback, ModelCheckpoint)
        or (isinstance(callback, EarlyStopping) and callback.strict)
    ]


def declared_metrics(model: Any, stage: str) -> dict[str, Any]:
    """Metrics that a task says it has; none of a model that is no task."""
    found: dict[str, Any] = {}
    if inspect.ismethod(getattr(model, "metrics", None)):
        found = model.metrics(stage)
    return found


def _files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def _rank() -> int:
    return int(os.environ.get("LOCAL_RANK") or 0)


def command() -> str:
    """The command line of this process, as it can be typed again on another machine."""
    program, *words = sys.argv
    name = "dlarch" if Path(program).parent.name == "dlarch" else Path(program).name
    shipped = f"{recipes_folder()}{os.sep}"
    return shlex.join([name, *(word.replace(shipped, "recipes/") for word in words)])


def write_json(path: Path, values: Any) -> None:
    """Write JSON; see `write_text`."""
    write_text(path, json.dumps(values, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write text beside its final name, then rename it.

    Raises:
        RunError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.tmp")
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        raise RunError(f"Cannot write {path}: {error.strerror or error}.") from error


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a result."""
    return {"python": platform.python_version()} | {name: version(name) for name in VERSIONS}


def called(thing: Any) -> str:
    """The registry name of a model or data module, else that of its class."""
    kind = type(thing)
    return vars(kind).get("registry_name") or kind.__name__


def run_record(
    result: RunResult,
    model: Any,
    data: Any,
    recipe: str | None,
    monitor: str | None,
    commands: list[str],
) -> dict[str, Any]:
    """What `dlarch results add` takes up; `resumed` only where it was, with other words."""
    headline = getattr(model, "headline", None)
    if monitor is not None and monitor not in (getattr(type(model), "monitor", None) or ()):
        headline = monitor.replace("val/", "test/", 1)  # what was asked for is what counts
    return {
        "model": called(model),
        "data": called(data),
        "recipe": recipe,
        "metrics": {name: value for name, value in result.metrics.items() if isfinite(value)},
        "signatures": _signatures(model),
        "headline": headline if headline in result.metrics else None,
        "seed": int(os.environ["PL_GLOBAL_SEED"]) if "PL_GLOBAL_SEED" in os.environ else None,
        "minutes": round(result.minutes, 2),
        "hardware": hardware(),
        "versions": versions(),
        "command": commands[0],
        "date": datetime.now().strftime("%Y-%m-%d"),
        "monitor": monitor,
        "best_score": result.best_score,
        "best_epoch": result.best_epoch,
        "averaged": result.averaged,
        "stopped_epoch": result.stopped_epoch,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    } | ({"resumed": commands[1:]} if commands[1:] else {})


def _signatures(model: Any) -> dict[str, str]:
    """How metrics were counted that are counted in several ways, such as BLEU, by tag."""
    return {
        f"test/{name}": metric.signature
        for name, metric in declared_metrics(model, "test").items()
        if hasattr(metric, "signature")
    }


def hardware() -> str:
    """The device that a result was measured on, in words."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    threads = torch.get_num_threads()
    return f"CPU ({platform.machine()}, {threads} thread{'s' if threads > 1 else ''})"
