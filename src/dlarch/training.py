"""The Trainer behind `dlarch fit` and `dlarch.fit`: run folder, checkpoints, final test."""

from __future__ import annotations

import logging
import os
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L  # noqa: N812
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint, ProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from dlarch import hub
from dlarch.callbacks.averaging import AverageLast
from dlarch.callbacks.checkpoints import LastCheckpoint, best_checkpoint
from dlarch.callbacks.curves import History
from dlarch.callbacks.mlflow import MLflow
from dlarch.callbacks.progress import progress_bar
from dlarch.callbacks.signals import GracefulStop
from dlarch.compat.checkpoint_io import AtomicCheckpointIO, load_checkpoint
from dlarch.compat.hooks import NoProfiler
from dlarch.errors import OptionError
from dlarch.factory import check_batch_types, create_data, create_model
from dlarch.run_files import RunFiles, RunResult, called, open_run, run_record, write_json
from dlarch.runs import Run, better, resolve_checkpoint

logger = logging.getLogger(__name__)

SAVE_EVERY_N_STEPS = 500
"""Optimizer steps between two exactly resumable checkpoints."""

BF16_HARDWARE = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
"""What `torch.cpu` is asked whether a CPU computes in bf16, by names that a version may lack."""


def fit(
    model: L.LightningModule | str,
    data: L.LightningDataModule | str,
    *,
    name: str | None = None,
    ckpt_path: str | Path | None = None,
    test_after_fit: bool = True,
    score_train: bool = False,
    monitor: str | None = None,
    save_every_n_steps: int = SAVE_EVERY_N_STEPS,
    **trainer_options: Any,
) -> RunResult:
    """Train a model on data in a run folder, and test it: what `dlarch fit` does.

    Args:
        model: a model, or its registry name.
        data: a data module, or its registry name.
        name: of the run folder's parent; the model's name when not given.
        ckpt_path: a run folder or checkpoint to resume exactly.
        test_after_fit: test the best checkpoint at the end.
        score_train: score the training split too, with the tested weights and no augmentation; its
            figures are called as those of the test, with "train" for "test".
        monitor: metric that chooses the best checkpoint; the task's own when not given.
        save_every_n_steps: optimizer steps between two resumable checkpoints.
        **trainer_options: of `lightning.Trainer`.

    Raises:
        UserError: model and data do not fit, the run folder cannot be written, and the like.
    """
    data = create_data(data) if isinstance(data, str) else data
    model = create_model(model, data) if isinstance(model, str) else model
    check_batch_types(type(model), type(data))
    checkpoint = None if ckpt_path is None else resolve_checkpoint(str(ckpt_path), prefer="last")
    processor = getattr(model, "processor", None)
    if processor is None and checkpoint is not None:
        processor = hub.load_processor_of(checkpoint)
    if processor is not None and getattr(data, "processor", processor) is None:
        data.processor = processor  # type: ignore[union-attr]
    files = open_run(name or called(model), checkpoint)
    try:
        options = trainer_arguments(files, model, trainer_options, monitor, save_every_n_steps)
        trainer = L.Trainer(**options)
        started = time.monotonic()
        trainer.fit(model, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        return finish(
            trainer, model, data, files, started, test=test_after_fit, score_train=score_train
        )
    except BaseException:
        files.discard_if_unused()
        raise


def trainer_arguments(
    files: RunFiles,
    model: Any,
    options: Mapping[str, Any],
    monitor: str | None = None,
    save_every_n_steps: int = SAVE_EVERY_N_STEPS,
) -> dict[str, Any]:
    """Arguments of `lightning.Trainer`: those given, and what a run folder needs besides.

    A logger, progress bar or ModelCheckpoint that is given is used instead of ours.

    Raises:
        OptionError: an option would put the run elsewhere or take it its files, or the Trainer
            would start more processes than the machine can bear.
    """
    if options.get("default_root_dir") is not None:
        raise OptionError(
            f"default_root_dir {options['default_root_dir']} cannot be used, since each run has a "
            "folder of its own: set DLARCH_RUNS to the folder of run folders instead."
        )
    given, run = scoring_arguments(options), files.run
    files.monitor = monitor
    callbacks = given["callbacks"]
    quick = bool(given.get("fast_dev_run"))

    def missing(kind: type[Callback]) -> bool:
        return not any(isinstance(callback, kind) for callback in callbacks)

    if missing(History):
        callbacks.append(History())
    callbacks.append(files)
    if not quick and given.get("enable_checkpointing") is not False:
        watched = _watched(model, monitor)
        if watched is not None:
            model.monitor = watched  # curves, hparams and plateau schedulers go by it too
        if watched is not None and missing(ModelCheckpoint):
            callbacks.append(best_checkpoint(run.checkpoints, *watched))
        callbacks += [LastCheckpoint(run.checkpoints, save_every_n_steps), GracefulStop()]
    given["default_root_dir"] = run.folder
    if options.get("logger") in (None, True):
        given["logger"] = TensorBoardLogger(
            run.folder, name="logs", version="", default_hp_metric=False
        )
    for tracker in _listed(given["logger"]):
        if isinstance(tracker, MLflow):
            tracker.belong_to(run)
    return given


def scoring_arguments(options: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a `lightning.Trainer` that trains nothing: without logger, with our bar.

    Raises:
        OptionError: the Trainer would start more processes than the machine can bear, or log
            nothing.
    """
    given = dict(options)
    if given.get("barebones"):
        raise OptionError(
            "barebones switches off logging and checkpoints, without which there is no result: "
            "leave it out."
        )
    _check_devices(given)
    _warn_of_slow_precision(given)
    callbacks, plugins = _listed(given.get("callbacks")), _listed(given.get("plugins"))
    if given.get("enable_progress_bar") is not False and not any(
        isinstance(callback, ProgressBar) for callback in callbacks
    ):
        callbacks.append(progress_bar())
    given["callbacks"], given["plugins"] = callbacks, [*plugins, AtomicCheckpointIO()]
    given["logger"] = given.get("logger") or False
    given["profiler"] = given.get("profiler") or NoProfiler()
    given["enable_model_summary"] = False  # the run's own summary has the table
    return given


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _check_devices(options: Mapping[str, Any]) -> None:
    """On a CPU, `devices` are processes: a slip of the finger could bring the machine down."""
    devices, cores = str(options.get("devices", "auto")), os.cpu_count() or 1
    if _on_cpu(options) and devices.isdecimal() and int(devices) > max(2, cores):
        raise OptionError(
            f"--trainer.devices {devices} would start {devices} processes, but this machine has "
            f"{cores} CPU cores: give at most {max(2, cores)}."
        )


def _warn_of_slow_precision(options: Mapping[str, Any]) -> None:
    """Say so where bf16 is slower than fp32: on CPUs of Intel and AMD that have no hardware for it.

    A network that takes half the time with AMX takes twice the time without.
    """
    if not str(options.get("precision", "")).startswith("bf16") or not _on_cpu(options):
        return
    answers = [getattr(torch.cpu, name, None) for name in BF16_HARDWARE]
    if platform.machine().lower() in ("x86_64", "amd64") and not any(
        answer is None or answer() for answer in answers
    ):
        logger.warning(
            "This CPU has no hardware for bf16 and is slower with it than without: "
            "--trainer.precision 32-true trains faster here."
        )


def _on_cpu(options: Mapping[str, Any]) -> bool:
    accelerator = options.get("accelerator", "auto")
    found = torch.cuda.is_available() or torch.backends.mps.is_available()
    return accelerator == "cpu" or (accelerator == "auto" and not found)


def _watched(model: Any, monitor: str | None) -> tuple[str, str] | None:
    if monitor is None:
        return getattr(model, "monitor", None)
    return monitor, better(monitor)


def finish(
    trainer: L.Trainer,
    model: Any,
    data: Any,
    files: RunFiles,
    started: float,
    *,
    test: bool = True,
    score_train: bool = False,
    recipe: str | None = None,
) -> RunResult:
    """Test the best checkpoint, write metrics.json and give back what the run came to."""
    run, metrics = files.run, _scalars(trainer)
    stopped_epoch = max(0, trainer.current_epoch - 1)
    score = getattr(trainer.checkpoint_callback, "best_model_score", None)
    checkpoint = _best_of(trainer, run)
    quick = bool(trainer.fast_dev_run)  # type: ignore[attr-defined]
    mean = None if quick else _averaged(trainer, model, data, run, score)
    if mean is not None:
        checkpoint, score = run.averaged, mean[1]
    best_epoch = None if checkpoint in (None, run.last) else _epoch_of(checkpoint)
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    early = any(isinstance(each, EarlyStopping) and each.stopped_epoch > 0 for each in callbacks)
    if test and not quick:
        _test(trainer, model, data, checkpoint)
        metrics |= _scalars(trainer)
    if score_train and not quick:
        metrics |= _score_train(trainer, model, data, checkpoint)
    samples = model.translation_samples(8) if hasattr(model, "translation_samples") else []
    result = RunResult(
        run=run,
        metrics=metrics,
        samples=samples,
        best_epoch=best_epoch,
        stopped_epoch=stopped_epoch,
        minutes=files.earlier_minutes + (time.monotonic() - started) / 60,
        stopped_early=early,
        best_score=None if score is None else float(score),
        averaged=1 if mean is None else mean[0],
    )
    if trainer.is_global_zero and not quick:
        watched = getattr(trainer.checkpoint_callback, "monitor", None)
        record = run_record(result, model, data, recipe, watched, files.commands)
        write_json(run.metrics, record)
        if hasattr(model, "provenance"):  # for the card of a model that is saved right after
            model.provenance = {name: record[name] for name in ("metrics", "command")}
        for tracker in trainer.loggers:
            if isinstance(tracker, MLflow):
                tracker.keep(run, model)
    if quick:
        files.discard()  # nothing in it can be used
    return result


def _averaged(
    trainer: L.Trainer, model: Any, data: Any, run: Run, score: Any
) -> tuple[int, Tensor] | None:
    """Keep the mean of the last checkpoints, if asked for and better than the best single one.

    Returns:
        How many they are, and the score of the mean; None if it is not the best.
    """
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    asked = [each for each in callbacks if isinstance(each, AverageLast)]
    monitor = getattr(trainer.checkpoint_callback, "monitor", None)
    if not asked or monitor is None or score is None:
        return None
    count = asked[0].average(trainer, run.averaged)
    if count < 2:
        return None
    before = dict(trainer.callback_metrics)
    with _unlogged(trainer):  # this is no point of the curves
        trainer.validate(
            model, datamodule=data, ckpt_path=str(run.averaged), verbose=False, weights_only=True
        )
    found = trainer.callback_metrics[monitor].clone()
    logger.info("Averaged checkpoints have %s %.5g, the best one %.5g.", monitor, found, score)
    if found > score if trainer.checkpoint_callback.mode == "max" else found < score:  # type: ignore[union-attr]
        return count, found
    trainer.callback_metrics.update(before)
    if trainer.is_global_zero:
        run.averaged.unlink()
    return None


def _test(trainer: L.Trainer, model: Any, data: Any, checkpoint: Path | None) -> None:
    trainer.test(
        model,
        datamodule=data,
        ckpt_path=str(checkpoint) if checkpoint is not None else None,
        verbose=False,
        weights_only=True,
    )


@contextmanager
def _unlogged(trainer: L.Trainer) -> Iterator[None]:
    """Hide the loggers for a while."""
    loggers, trainer.loggers = trainer.loggers, []
    try:
        yield
    finally:
        trainer.loggers = loggers


def _score_train(
    trainer: L.Trainer, model: Any, data: Any, checkpoint: Path | None
) -> dict[str, float]:
    """Test on the training split, which no logger shall take for the test's."""
    data.test_split = "train"
    try:
        with _unlogged(trainer):
            _test(trainer, model, data, checkpoint)
    finally:
        data.test_split = "test"
    scores = {
        name.replace("test/", "train/", 1): value
        for name, value in _scalars(trainer).items()
        if name.startswith("test/")
    }
    for logger in trainer.loggers:  # the loss has a curve of that name, of the steps
        told = {name: value for name, value in scores.items() if name != "train/loss"}
        logger.log_metrics(told, step=trainer.global_step)
    return scores


def _scalars(trainer: L.Trainer) -> dict[str, float]:
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def _best_of(trainer: L.Trainer, run: Run) -> Path | None:
    best = getattr(trainer.checkpoint_callback, "best_model_path", "")
    if best and Path(best).is_file():
        return Path(best)
    return run.last if run.last.is_file() else None


def _epoch_of(checkpoint: Path) -> int:
    return int(load_checkpoint(checkpoint)["epoch"])
