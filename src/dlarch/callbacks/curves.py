"""The history of a run: figures at the end of each epoch, as a table and as learning curves."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from typing_extensions import override

from dlarch.callbacks.figures import FAINT, INK
from dlarch.callbacks.progress import current_metrics, monitor_of
from dlarch.callbacks.protocols import no_failure, run_folder

MAX_PANELS = 6
SPLIT_COLOURS = {"train": "#5f9bd1", "val": "#d1495b", "test": "#3fa36b"}


def best_row(
    history: Sequence[Mapping[str, float]], monitor: tuple[str, str]
) -> Mapping[str, float] | None:
    """The first row with the best finite value of `monitor` = (name, "min" or "max")."""
    name, mode = monitor
    rows = [row for row in history if math.isfinite(row.get(name, math.nan))]
    if not rows:
        return None
    return (max if mode == "max" else min)(rows, key=lambda row: row[name])


def learning_curves(
    history: Sequence[Mapping[str, float]], monitor: tuple[str, str] | None = None
) -> Figure:
    """Draw a panel per metric, with training and validation in the same one.

    The x axis counts epochs, or optimizer steps when an epoch has several rows. Values that span
    more than a factor of 30 get a logarithmic axis.

    Args:
        history: rows with "epoch" (from 0), "step", and any metrics, as `History.rows`.
        monitor: ("val/exact_match", "max"): the best row is marked in each panel.

    Raises:
        ValueError: if there is no metric to draw.
    """
    panels = _panels(history, monitor)
    if not panels:
        raise ValueError("there are no metrics to draw")
    epochs = [row["epoch"] for row in history]
    by_epoch = len(set(epochs)) == len(epochs)
    best = best_row(history, monitor) if monitor else None

    columns = min(len(panels), 3)
    rows = math.ceil(len(panels) / columns)
    width, height = 3.4 * columns + 0.3, 2.6 * rows + 0.3  # inches, as all here
    figure = Figure(figsize=(width, height), dpi=100, facecolor="white")
    # Room for numbers, titles and names; a layout engine would take longer than all the rest.
    figure.subplots_adjust(
        *(0.6 / width, 0.5 / height, 1 - 0.15 / width, 1 - (0.3 if best is None else 0.6) / height),
        wspace=0.6 / 2.8,
        hspace=0.8 / 1.8,
    )
    for index, (title, names) in enumerate(panels.items()):
        axes = figure.add_subplot(rows, columns, index + 1)
        for name in names:
            points = [(_x(row, by_epoch), row[name]) for row in history if name in row]
            split = name.partition("/")[0]
            axes.plot(
                *zip(*points, strict=True),
                color=SPLIT_COLOURS.get(split, INK),
                linewidth=1.6,
                marker="o" if len(points) <= 30 else None,
                markersize=3,
                label=split if "/" in name else None,
            )
        if best is not None:
            axes.axvline(_x(best, by_epoch), color=FAINT, linewidth=0.9, linestyle=(0, (4, 3)))
        _dress(
            axes, title.replace("_", " "), [row[n] for row in history for n in names if n in row]
        )
        axes.set_xlabel("epoch" if by_epoch else "step", fontsize=8, color=FAINT)
    if best is not None and monitor is not None:
        figure.suptitle(
            f"best {monitor[0]} {best[monitor[0]]:#.4g} in epoch {best['epoch'] + 1:.0f} "
            f"(step {best['step']:.0f})",
            **{"fontsize": 9, "color": INK},
        )
    return figure


def _panels(
    history: Sequence[Mapping[str, float]], monitor: tuple[str, str] | None
) -> dict[str, list[str]]:
    """Names of metrics by what they measure: loss first, then the monitored, at most six."""
    panels: dict[str, list[str]] = {"loss": []}
    if monitor is not None:
        panels.setdefault(_measure(monitor[0]), [])
    for row in history:
        for name in row:
            if name not in ("epoch", "step"):
                names = panels.setdefault(_measure(name), [])
                names += [] if name in names else [name]
    filled = [(measure, sorted(names)) for measure, names in panels.items() if names]
    return dict(filled[:MAX_PANELS])


def _measure(name: str) -> str:
    return name.partition("/")[2] or name


def _x(row: Mapping[str, float], by_epoch: bool) -> float:
    return row["epoch"] + 1 if by_epoch else row["step"]


def _dress(axes: Axes, title: str, values: Sequence[float]) -> None:
    """Axes, scale and legend of one panel."""
    finite = [value for value in values if math.isfinite(value)]
    if finite and min(finite) > 0 and max(finite) > 30 * min(finite):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
    axes.set_title(title, fontsize=10, color=INK, loc="left")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    axes.tick_params(which="both", labelsize=8, labelcolor=FAINT, color="#c3cdd8")
    axes.grid(color="#e6ebf1", linewidth=0.6)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color("#c3cdd8")
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=8, frameon=False, labelcolor=INK)


class History(Callback):
    """Collects the figures of each epoch; writes `history.csv` and `learning_curves.png`.

    Both go into the run folder when a fit ends. Rows travel in the checkpoint, so a resumed run
    continues its curves. A validation adds what it logged, the end of an epoch what training
    logged; both stand in one row if no step lies between them.

    Attributes:
        rows: one mapping per epoch or validation: "epoch" (from 0), "step" (optimizer steps done)
            and the metrics by tag.
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    @override
    def state_dict(self) -> dict[str, Any]:
        """The rows so far, as plain numbers."""
        return {"rows": [dict(row) for row in self.rows]}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.rows = [dict(row) for row in state_dict["rows"]]

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record what validation measured."""
        # Not the figures of training: those at hand may be of the epoch before.
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._record(trainer, without="train")

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record what training measured."""
        self._record(trainer, without="val")

    @override
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write table and picture, if the run has a folder."""
        folder = run_folder(trainer) if trainer.is_global_zero else None
        if folder is None or not any(len(row) > 2 for row in self.rows):
            return
        picture = io.BytesIO()
        FigureCanvasAgg(learning_curves(self.rows, monitor_of(pl_module))).print_png(picture)
        with no_failure(f"the learning curves in {folder}"):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "learning_curves.png").write_bytes(picture.getvalue())
            names = dict.fromkeys(name for row in self.rows for name in row)
            with (folder / "history.csv").open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, list(names))
                writer.writeheader()
                writer.writerows(self.rows)

    def _record(self, trainer: Trainer, without: str) -> None:
        metrics = current_metrics(trainer)
        fresh = {name: n for name, n in metrics.items() if not name.startswith(without)}
        place = {"epoch": trainer.current_epoch, "step": trainer.global_step}
        if not self.rows or any(self.rows[-1][key] != place[key] for key in place):
            self.rows.append({**place})
        self.rows[-1].update(fresh)
