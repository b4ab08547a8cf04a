"""What a model makes, beside what is real: points in the plane, and shares of classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from matplotlib.figure import Figure
from numpy.typing import NDArray
from typing_extensions import override

from dlarch.callbacks.figures import FAINT, INK, figure_pixels
from dlarch.callbacks.image_grids import can_be_seen, show_samples
from dlarch.callbacks.protocols import shows

REAL, MADE = "#c3cdd8", "#d1495b"
MARGIN = 0.25
"""Beyond the outermost real points, as a share of their extent."""


class Points(NamedTuple):
    """Points in the plane, in the units of the data.

    Attributes:
        real: (N, 2).
        made: (M, 2).
        axes: names of the two numbers.
    """

    real: NDArray[np.float32]
    made: NDArray[np.float32]
    axes: tuple[str, str]


class Shares(NamedTuple):
    """How many images a classifier takes for each class, as shares of all.

    Attributes:
        real: (K,).
        made: (K,).
        names: of the classes.
    """

    real: Sequence[float]
    made: Sequence[float]
    names: Sequence[str]


@runtime_checkable
class OffersPoints(Protocol):
    """A task that makes points."""

    def made_points(self) -> Points | None:
        """Validation points and as many made ones, of the same noise at each call, or None."""
        ...


@runtime_checkable
class OffersShares(Protocol):
    """A task whose images a classifier looks at."""

    def class_shares(self) -> Shares | None:
        """What a classifier took the images of the last validation for, or None."""
        ...


class PointClouds(Callback):
    """Draws made points over real ones, at each validation of a fit.

    TensorBoard: image `samples/points`. Run folder: `samples/points_0001200.png`. Silent for points
    that do not lie in a plane.
    """

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, wherever it can be seen."""
        if not shows(trainer) or not can_be_seen(trainer):
            return
        with isolate_rng(include_cuda=pl_module.device.type == "cuda"):
            points = pl_module.made_points() if isinstance(pl_module, OffersPoints) else None
        if points is not None:
            show_samples(trainer, "points", figure_pixels(points_figure(points)))


class ClassShares(Callback):
    """Draws how many of the made and of the real images a classifier takes for each class.

    TensorBoard: image `samples/classes`, at each validation of a fit. Run folder:
    `samples/classes_0001200.png`. Silent without a classifier.
    """

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, wherever it can be seen."""
        if not shows(trainer) or not can_be_seen(trainer):
            return
        shares = pl_module.class_shares() if isinstance(pl_module, OffersShares) else None
        if shares is not None:
            show_samples(trainer, "classes", figure_pixels(shares_figure(shares)))


def points_figure(points: Points) -> Figure:
    """Draw made points over real ones, on the scale of the real ones; says how many lie outside."""
    low, high = points.real.min(0), points.real.max(0)
    low, high = low - MARGIN * (high - low), high + MARGIN * (high - low)
    outside = int(((points.made < low) | (points.made > high)).any(1).sum())
    figure = Figure(figsize=(4.6, 4.6), dpi=80, facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    for place, colour, size, name in (
        (points.real, REAL, 14, "real"),
        (points.made, MADE, 4, "made"),
    ):
        axes.scatter(place[:, 0], place[:, 1], s=size, color=colour, linewidths=0, label=name)
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(low[1], high[1])
    axes.set_xlabel(points.axes[0], fontsize=9, color=FAINT)
    axes.set_ylabel(points.axes[1], fontsize=9, color=FAINT)
    axes.tick_params(labelsize=8, length=0, labelcolor=INK)
    axes.legend(fontsize=8, loc="upper right", framealpha=0.8)
    if outside:
        axes.set_title(f"{outside} made points lie outside", fontsize=9, color=INK, loc="left")
    for spine in axes.spines.values():
        spine.set_color(REAL)
    return figure


def shares_figure(shares: Shares) -> Figure:
    """Draw two bars for each class: the share of the real and of the made images."""
    count = len(shares.names)
    figure = Figure(figsize=(max(4.2, 0.45 * count), 3.0), dpi=80, layout="constrained")
    axes = figure.add_subplot()
    places = np.arange(count)
    axes.bar(places - 0.2, shares.real, width=0.4, color=REAL, label="real")
    axes.bar(places + 0.2, shares.made, width=0.4, color=MADE, label="made")
    longest = max(len(name) for name in shares.names)
    axes.set_xticks(places, list(shares.names), rotation=0 if longest < 4 else 60)
    axes.tick_params(labelsize=8, length=0, labelcolor=INK)
    axes.set_ylabel("share of images", fontsize=8, color=FAINT)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)
    return figure
