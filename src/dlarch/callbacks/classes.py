"""What a classifier confuses: the confusion matrix, and the examples it is most wrong about."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from dlarch.callbacks.figures import FAINT, INK, figure_pixels
from dlarch.callbacks.protocols import Mistake, shows, tensorboard_writers

MOST_CLASSES = 40
"""Classes up to which a confusion matrix can be read."""


@runtime_checkable
class OffersConfusion(Protocol):
    """A task that sorts examples into classes."""

    confusion: Tensor | None
    mistakes: list[Mistake]

    def class_names(self) -> list[str]:
        """Names of the classes in the order of the labels."""
        ...


def confusion_figure(counts: NDArray[np.int64], names: Sequence[str]) -> Figure:
    """Draw a confusion matrix (K, K): a row for each true class, a column for each prediction.

    Colours are shares of the row, so that rare classes are seen as well; the numbers are counts.
    """
    size = len(counts)
    cell = 0.5 if size <= 12 else 0.3
    label = 0.09 * max(map(len, names))  # inches, as all here
    upright = label > cell
    left, bottom = label + 0.35, (label if upright else 0.15) + 0.35
    width, height = left + cell * size + 0.1, bottom + cell * size + 0.3
    figure = Figure(figsize=(width, height), dpi=80, facecolor="white")
    # A layout engine would take longer than all the rest.
    axes = figure.add_axes(
        (left / width, bottom / height, cell * size / width, cell * size / height)
    )
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    for row, column in np.argwhere(counts > 0):
        axes.text(
            column, row, f"{counts[row, column]}", ha="center", va="center",
            fontsize=8 if size <= 12 else 5, color="white" if shares[row, column] > 0.5 else INK,
        )  # fmt: skip
    axes.set_xticks(range(size), names, fontsize=8, rotation=90 if upright else 0)
    axes.set_yticks(range(size), names, fontsize=8)
    axes.tick_params(length=0, labelcolor=INK)
    axes.set_xlabel("predicted", fontsize=9, color=FAINT)
    axes.set_ylabel("true", fontsize=9, color=FAINT)
    axes.set_title(
        f"{np.trace(counts) / max(counts.sum(), 1):.2%} right", fontsize=9, color=INK, loc="left"
    )
    return figure


def mistakes_figure(mistakes: Sequence[Mistake]) -> Figure:
    """Draw images that were taken for another class, the surest mistake first."""
    columns = min(len(mistakes), 8)
    rows = math.ceil(len(mistakes) / columns)
    figure = Figure(figsize=(1.1 * columns, 1.45 * rows), dpi=100, facecolor="white")
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))  # one for all: many take long to lay out
    for index, mistake in enumerate(mistakes):
        row, column = divmod(index, columns)
        left, top = 1.1 * column, 1.45 * row  # inches
        pixels = mistake.pixels
        height, width, channels = pixels.shape
        side = 1.0 / max(height, width)
        axes.imshow(
            pixels[..., 0] if channels == 1 else pixels, cmap="gray", vmin=0, vmax=255,
            extent=(
                left + 0.55 - side * width / 2, left + 0.55 + side * width / 2,
                top + 0.9 + side * height / 2, top + 0.9 - side * height / 2,
            ),
        )  # fmt: skip
        axes.text(
            left + 0.55, top + 0.04,
            f"{mistake.predicted} {mistake.probability:.0%}\nnot {mistake.label}",
            ha="center", va="top", fontsize=7, color=INK,
        )  # fmt: skip
    axes.set(xlim=(0, 1.1 * columns), ylim=(1.45 * rows, 0), aspect="auto")
    axes.set_axis_off()
    return figure


class ConfusionMatrix(Callback):
    """Draws the confusion matrix of each validation of a fit.

    TensorBoard: image `confusion`. Silent with other loggers, and above 40 classes.
    """

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, if there is a logger to draw for."""
        writers = tensorboard_writers(trainer) if shows(trainer) else []
        if not writers or not isinstance(pl_module, OffersConfusion):
            return
        counts = pl_module.confusion
        if counts is None or len(counts) > MOST_CLASSES:
            return
        pixels = figure_pixels(confusion_figure(counts.cpu().numpy(), pl_module.class_names()))
        for writer in writers:
            writer.add_image("confusion", pixels, trainer.global_step, dataformats="HWC")


class Mistakes(Callback):
    """Draws the images that the model is most surely wrong about, at each validation of a fit.

    TensorBoard: image `mistakes`. Silent with other loggers, and for examples that are no images.
    """

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, if there is a logger to draw for."""
        writers = tensorboard_writers(trainer) if shows(trainer) else []
        if not writers or not isinstance(pl_module, OffersConfusion) or not pl_module.mistakes:
            return
        pixels = figure_pixels(mistakes_figure(pl_module.mistakes))
        for writer in writers:
            writer.add_image("mistakes", pixels, trainer.global_step, dataformats="HWC")
