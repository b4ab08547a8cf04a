"""What a model of numbers predicts: beside the truth, and as a curve over a single input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from typing_extensions import override

from dlarch.callbacks.figures import FAINT, INK, figure_pixels
from dlarch.callbacks.protocols import shows, tensorboard_writers

LINE, POINT, MISS = "#1f5fa8", "#5f9bd1", "#d1495b"
NINETY = 1.6449
"""Deviations from the mean within which nine of ten draws of a Gaussian lie."""

Numbers = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Predicted:
    """Targets and what was predicted for them, in the target's own unit.

    Attributes:
        name: of the target.
        truth: (n,).
        mean: (n,), predicted.
        deviation: (n,), of the predictive distribution; None without one.
    """

    name: str
    truth: Numbers
    mean: Numbers
    deviation: Numbers | None = None


@dataclass(frozen=True)
class Curve:
    """What is predicted over a single input, in the units of the data.

    Attributes:
        names: of input and target.
        rows: which rows are drawn beside it, such as "training rows".
        inputs: (n,), of these rows.
        targets: (n,), likewise.
        grid: (g,), inputs at which the curve is drawn.
        mean: (g,), predicted.
        deviation: (g,), of the predictive distribution; None without one.
    """

    names: tuple[str, str]
    rows: str
    inputs: Numbers
    targets: Numbers
    grid: Numbers
    mean: Numbers
    deviation: Numbers | None = None


@runtime_checkable
class OffersNumbers(Protocol):
    """A task that predicts numbers."""

    def predicted(self) -> Predicted | None:
        """Validation rows and their predictions; None if there are none."""
        ...

    def curve(self) -> Curve | None:
        """The curve of a single input; None for several."""
        ...


def predicted_figure(shown: Predicted) -> Figure:
    """Draw predictions against the truth; with deviations the 90 % intervals, misses in red."""
    figure, axes = _figure(f"true {shown.name}", "predicted", (4.4, 4.2))
    ends = [min(shown.truth.min(), shown.mean.min()), max(shown.truth.max(), shown.mean.max())]
    axes.plot(ends, ends, color=FAINT, linewidth=0.9, linestyle=(0, (4, 3)))
    rmse = float(np.sqrt(np.mean((shown.truth - shown.mean) ** 2)))
    title = f"rmse {rmse:.4g}"
    if shown.deviation is not None:
        wide = NINETY * shown.deviation
        inside = np.abs(shown.truth - shown.mean) <= wide
        for part, colour in ((inside, POINT), (~inside, MISS)):
            axes.errorbar(
                shown.truth[part], shown.mean[part], wide[part], fmt="none", ecolor=colour,
                elinewidth=0.8, alpha=0.6,
            )  # fmt: skip
        title += f"; {inside.mean():.0%} of the truth within the 90 % intervals"
    axes.scatter(shown.truth, shown.mean, s=12, color=LINE, zorder=3)
    axes.set_title(title, fontsize=9, color=INK, loc="left")
    return figure


def curve_figure(shown: Curve) -> Figure:
    """Draw rows, the predicted curve and, with deviations, its 90 % band."""
    figure, axes = _figure(*shown.names, (5.6, 3.6))
    draw_curve(axes, shown)
    axes.legend(fontsize=8, frameon=False, labelcolor=INK)
    return figure


def draw_curve(axes: Axes, shown: Curve) -> None:
    """Draw it into given axes."""
    axes.scatter(
        shown.inputs, shown.targets, s=10, color=MISS, zorder=3, label=shown.rows,
        linewidths=0, alpha=0.8,
    )  # fmt: skip
    if shown.deviation is not None:
        wide = NINETY * shown.deviation
        axes.fill_between(
            shown.grid, shown.mean - wide, shown.mean + wide, color=POINT, alpha=0.3,
            linewidth=0, label="90 % band",
        )  # fmt: skip
    axes.plot(shown.grid, shown.mean, color=LINE, linewidth=1.6, label="prediction")
    room = 0.5 * max(float(np.ptp(shown.targets)), 1e-6)  # a curve may run far away
    axes.set_ylim(shown.targets.min() - room, shown.targets.max() + room)


def _figure(x_label: str, y_label: str, size: tuple[float, float]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, dpi=90, facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(x_label, fontsize=9, color=FAINT)
    axes.set_ylabel(y_label, fontsize=9, color=FAINT)
    axes.tick_params(labelsize=8, labelcolor=FAINT, color="#c3cdd8")
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


class NumbersPicture(Callback):
    """Draws what is predicted at each validation of a fit.

    TensorBoard: image `predictions`, and for a single input `curve`. Silent with other loggers.
    """

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, if there is a logger to draw for."""
        writers = tensorboard_writers(trainer) if shows(trainer) else []
        if not writers or not isinstance(pl_module, OffersNumbers):
            return
        with isolate_rng(include_cuda=pl_module.device.type == "cuda"):
            predicted, curve = pl_module.predicted(), pl_module.curve()
        figures = {}
        if predicted is not None:
            figures["predictions"] = predicted_figure(predicted)
        if curve is not None:
            figures["curve"] = curve_figure(curve)
        for tag, figure in figures.items():
            pixels = figure_pixels(figure)
            for writer in writers:
                writer.add_image(tag, pixels, trainer.global_step, dataformats="HWC")
