"""What a run says when it is over."""

from __future__ import annotations

import json
import shlex
import sys

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import nn

from dlarch.callbacks.mlflow import MLFLOW_FILE
from dlarch.run_files import RunResult

PLAIN_WIDTH = 120
"""Columns of a table that goes into a file or a pipe."""


CLASSIFIED = {"image": "IMAGE.png", "text": "'SOME TEXT'"}
"""What is typed for `dlarch classify`, by the kind of processor."""

GENERATED = {"image": "--n 64 --grid generated.png"}
"""What is typed for `dlarch generate`, where it is not a number of texts."""


def print_summary(result: RunResult, model: nn.Module) -> None:
    """Layers, metrics, samples, best and last epoch, where the run is, what to type next."""
    width = None if sys.stdout.isatty() else PLAIN_WIDTH
    console = Console(highlight=False, width=width)
    console.print(_layers(model))
    tested = {name: value for name, value in result.metrics.items() if name.startswith("test/")}
    console.print(_metrics(tested or result.metrics, "Test" if tested else "Metrics"))
    if result.samples:
        console.print(_samples(result))
    lines = [_epochs(result, bool(tested))]
    if result.run.folder.is_dir():
        lines += ["", f"Run folder: {result.run.folder}"]
        commands = _next(result, model)
        lines += ["Next:", *commands] if commands else []
    for line in lines:  # never broken: they are copied
        console.print(escape(line), soft_wrap=True)


def _next(result: RunResult, model: nn.Module) -> list[str]:
    """Commands for what the run has left: logs, and a checkpoint."""
    run = result.run
    folder = shlex.quote(str(run.folder))
    commands = []
    kind = getattr(getattr(model, "processor", None), "type", None)
    if any(run.folder.rglob("events.out.tfevents.*")):
        commands.append(f"  tensorboard --logdir {folder}")
    if (run.folder / MLFLOW_FILE).is_file():
        uri = json.loads((run.folder / MLFLOW_FILE).read_text(encoding="utf-8"))["tracking_uri"]
        commands.append(f"  mlflow ui --backend-store-uri {shlex.quote(uri)}")
    if not _has_checkpoint(result):
        return commands
    if result.samples and hasattr(model, "translate"):
        source = shlex.quote(result.samples[0].source)
        commands.append(f"  dlarch translate {folder} {source} --beam 5")
    if hasattr(model, "generate") and getattr(model, "writes_alone", True):
        commands.append(f"  dlarch generate {folder} {GENERATED.get(kind or '', '--n 10')}")
    if kind in CLASSIFIED and hasattr(model, "classify"):
        commands.append(f"  dlarch classify {folder} {CLASSIFIED[kind]} --top 3")
    commands.append(f"  dlarch test --ckpt_path {folder}")
    return commands


def _has_checkpoint(result: RunResult) -> bool:
    return result.run.best.is_file() or result.run.last.is_file()


def _layers(model: nn.Module) -> Table:
    table = Table("layer", "kind", "parameters", title="Layers", title_justify="left")
    table.columns[2].justify = "right"
    for name, layer in model.named_children():
        count = sum(parameter.numel() for parameter in layer.parameters())
        if count:
            table.add_row(name, type(layer).__name__, f"{count:,}")
    total = sum(parameter.numel() for parameter in model.parameters())
    table.add_row("total", "", f"{total:,}", style="bold")
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if trainable < total:
        table.add_row("trainable", "", f"{trainable:,}")
    return table


def _metrics(metrics: dict[str, float], title: str) -> Table:
    table = Table("metric", "value", title=title, title_justify="left")
    table.columns[1].justify = "right"
    for name, value in sorted(metrics.items()):
        table.add_row(name, f"{value:.4f}")
    return table


def _samples(result: RunResult) -> Table:
    table = Table("source", "reference", "translation", title="Samples", title_justify="left")
    for sample in result.samples:
        cells = [sample.source, sample.reference, sample.translation]
        table.add_row(*map(escape, cells), style="" if sample.exact else "yellow")
    return table


def _epochs(result: RunResult, tested: bool) -> str:
    if result.best_epoch is not None:
        chosen = f"epoch {result.best_epoch + 1}"
        if result.averaged > 1:
            chosen = f"the mean of the last {result.averaged}"
    else:
        chosen = "the last one" if _has_checkpoint(result) else "none was kept"
    ended = "stopped early" if result.stopped_early else "ended"
    return (
        f"Best checkpoint{' (tested)' if tested and chosen != 'none was kept' else ''}: {chosen}; "
        f"training {ended} in epoch {result.stopped_epoch + 1}; {result.minutes:.1f} minutes in "
        "all."
    )
