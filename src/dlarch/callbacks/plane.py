"""What a model makes of the whole plane its examples lie on, where they lie on one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from dlarch.callbacks.figures import FAINT, INK, figure_pixels
from dlarch.callbacks.protocols import OffersClasses, shows, tensorboard_writers

MOST_POINTS = 500
"""Validation examples that are drawn."""
GRID = 80
"""Places along each side of the plane where the model is asked."""
MARGIN = 0.15
"""Beyond the outermost examples, as a share of their extent."""
COLOURS = np.array(colormaps["tab10"].colors)  # type: ignore[attr-defined]

Floats = NDArray[np.float32]


class DecisionSurface(Callback):
    """Draws which class the model sees at each place of a plane, paler where it is less sure.

    TensorBoard, at each validation of a fit: image `decision_surface`, for examples of two features
    and a class. Silent with other loggers and for other data.
    """

    def __init__(self) -> None:
        self._kept: list[tuple[Tensor, Tensor]] = []

    @override
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the validation before."""
        self._kept = []

    @override
    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Keep the first examples, if they are such."""
        rows, targets = batch[0], batch[1]
        if not isinstance(pl_module, OffersClasses) or not drawable(pl_module, rows):
            return
        room = MOST_POINTS - sum(len(kept) for kept, _ in self._kept)
        if room > 0 and shows(trainer) and tensorboard_writers(trainer):
            self._kept.append((rows[:room].clone(), targets[:room].clone()))

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, if there are examples to draw."""
        if not self._kept or not isinstance(pl_module, OffersClasses):
            return
        rows, targets = (torch.cat(parts) for parts in zip(*self._kept, strict=True))
        self._kept = []
        with torch.no_grad(), isolate_rng(include_cuda=rows.is_cuda):
            pixels = figure_pixels(surface(pl_module, rows, targets))
        for writer in tensorboard_writers(trainer):
            writer.add_image("decision_surface", pixels, trainer.global_step, dataformats="HWC")


def drawable(module: OffersClasses, rows: Any) -> bool:
    """Whether there are two features and a class."""
    flat = isinstance(rows, Tensor) and rows.dim() == 2 and rows.shape[1] == 2
    return flat and module.classifies


def surface(module: Any, rows: Tensor, targets: Tensor) -> Figure:
    """Draw the plane around the rows (B, 2), and them in it."""
    x, y = (_places(column, GRID) for column in rows.unbind(1))
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
    probabilities = module(grid.flatten(0, 1)).float().softmax(1).unflatten(0, (GRID, GRID))
    (left, low), (right, high) = _in_units(module, torch.stack((grid[0, 0], grid[-1, -1])))
    return surface_figure(
        probabilities.cpu().numpy(),
        (left, right, low, high),
        _in_units(module, rows),
        targets.cpu().numpy(),
        _columns(module),
        module.class_names(),
        float((module(rows).argmax(1) == targets).float().mean()),
    )


# ---- figures


def surface_figure(
    probabilities: Floats,
    extent: tuple[float, float, float, float],
    points: Floats,
    labels: NDArray[np.int64],
    axis_names: Sequence[str],
    class_names: Sequence[str],
    accuracy: float,
) -> Figure:
    """Draw a decision surface.

    Args:
        probabilities: (n, m, K), rows from the smallest y upwards.
        extent: smallest and largest x, then y.
        points: (B, 2).
        labels: (B,).
        axis_names: of x and y.
        class_names: of the K classes.
        accuracy: share of the points whose class is found.
    """
    figure = Figure(figsize=(4.2, 3.8), dpi=80, facecolor="white")
    axes = figure.add_axes((0.14, 0.13, 0.82, 0.79))
    draw_surface(axes, probabilities, extent, points, labels)
    axes.set_title(f"{accuracy:.1%} of the points right", fontsize=9, color=INK, loc="left")
    axes.set_xlabel(axis_names[0], fontsize=9, color=FAINT)
    axes.set_ylabel(axis_names[1], fontsize=9, color=FAINT)
    if len(class_names) <= len(COLOURS):
        for index, name in enumerate(class_names):
            axes.scatter([], [], s=14, color=COLOURS[index], label=name)
        axes.legend(fontsize=8, loc="upper right", framealpha=0.8)
    return figure


def draw_surface(
    axes: Axes,
    probabilities: Floats,
    extent: tuple[float, float, float, float],
    points: Floats,
    labels: NDArray[np.int64],
) -> None:
    """Colour the plane by class, paler where less sure, and set the points into it."""
    count = probabilities.shape[-1]
    colours = COLOURS[np.arange(count) % len(COLOURS)]
    best = probabilities.argmax(-1)
    # 0 where all classes are equally probable, 1 where one is sure
    surety = (probabilities.max(-1, keepdims=True) - 1 / count) / (1 - 1 / count)
    plane = 1 - (1 - colours[best]) * (0.1 + 0.5 * surety)
    axes.imshow(plane, extent=extent, origin="lower", aspect="auto", interpolation="nearest")
    x, y = points.T
    axes.scatter(x, y, s=9, c=colours[labels], edgecolors="white", linewidths=0.4)
    axes.set_xlim(extent[:2])
    axes.set_ylim(extent[2:])
    axes.tick_params(labelsize=8, length=0, labelcolor=INK)
    for spine in axes.spines.values():
        spine.set_color("#c3cdd8")


# ---- the units in which data were given


def _places(values: Tensor, count: int) -> Tensor:
    """Places from below the smallest to above the largest value, of its type."""
    low, high = values.min().item(), values.max().item()
    margin = MARGIN * (high - low) or 1.0
    places = torch.linspace(low - margin, high + margin, count)
    return places.to(device=values.device, dtype=values.dtype)


def _columns(module: Any) -> list[str]:
    return getattr(module.processor, "columns", None) or ["x1", "x2"]


def _in_units(module: Any, rows: Tensor) -> Floats:
    """Normalised features in the units of the data."""
    mean = np.array(getattr(module.processor, "mean", 0.0))
    std = np.array(getattr(module.processor, "std", 1.0))
    features: Floats = rows.float().cpu().numpy() * std + mean
    return features
