"""What moves between clusters while they are found."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from dlarch.callbacks.figures import FAINT, INK, figure_pixels
from dlarch.callbacks.protocols import shows, tensorboard_writers

MOST_CLUSTERS = 40
"""Clusters up to which a table can be read."""


@runtime_checkable
class OffersMoves(Protocol):
    """A task whose examples move between clusters."""

    def moves(self) -> Tensor | None:
        """Counts (K, K), a row for each cluster before; None where nothing can have moved."""
        ...


def moves_figure(counts: NDArray[np.int64]) -> Figure:
    """Draw moves (K, K): a row for each cluster before the last update, a column for each after it.

    Colours are shares of those that left their cluster; what stayed is written, and not coloured.
    """
    size = len(counts)
    side = (0.5 if size <= 12 else 0.3) * size + 0.9
    figure = Figure(figsize=(side, side), dpi=80, facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    moved = counts * (1 - np.eye(size, dtype=np.int64))
    axes.imshow(moved / max(moved.max(), 1), cmap="Reds", vmin=0.0, vmax=1.0)
    for row, column in np.argwhere(counts > 0):
        dark = row != column and moved[row, column] > 0.5 * moved.max()
        axes.text(
            column, row, f"{counts[row, column]}", ha="center", va="center",
            fontsize=7 if size <= 12 else 5,
            color="white" if dark else FAINT if row == column else INK,
        )  # fmt: skip
    axes.set_xticks(range(size), [str(n) for n in range(size)], fontsize=8)
    axes.set_yticks(range(size), [str(n) for n in range(size)], fontsize=8)
    axes.tick_params(length=0, labelcolor=INK)
    axes.set_xlabel("cluster after the last update", fontsize=9, color=FAINT)
    axes.set_ylabel("cluster before it", fontsize=9, color=FAINT)
    share = moved.sum() / max(counts.sum(), 1)
    axes.set_title(f"{share:.2%} moved", fontsize=9, color=INK, loc="left")
    return figure


class ClusterPictures(Callback):
    """Draws which training examples moved between clusters at the last update.

    TensorBoard: image `moves` at each validation of a fit that an update came before. Silent with
    other loggers, and above 40 clusters.
    """

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, if there is a logger to draw for."""
        writers = tensorboard_writers(trainer) if shows(trainer) else []
        counts = pl_module.moves() if writers and isinstance(pl_module, OffersMoves) else None
        if counts is None or len(counts) > MOST_CLUSTERS:
            return
        pixels = figure_pixels(moves_figure(counts.cpu().numpy()))
        for writer in writers:
            writer.add_image("moves", pixels, trainer.global_step, dataformats="HWC")
