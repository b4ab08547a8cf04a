"""Texts coloured by how much a model looked at each word, at each validation."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from typing_extensions import override

from dlarch.callbacks.attention import CHARACTER, COLOURS, DPI, FONT_SIZE, LINE
from dlarch.callbacks.figures import FAINT, INK, figure_pixels, monospaced
from dlarch.callbacks.protocols import (
    OffersWeighedTexts,
    WeighedText,
    shows,
    tensorboard_writers,
)

ROW = 96
"""Characters in a row."""

MAX_PIECES = 500
"""Pieces that are drawn; of a longer text the beginning, and the picture says so."""

CONTRAST = 3.0
"""Times an equal share that the darkest colour stands for at least."""

DARK = 0.55
"""Share of the largest weight from which on a colour is so dark that light letters are read."""


def weighed_figure(sample: WeighedText) -> Figure:
    """Draw a text in rows, the background of each piece the darker the more weight it has.

    The darkest colour is that of the largest weight, which the heading names; but of `CONTRAST`
    times an equal share where no weight is so large, so that equal weights are pale.
    Neither pyplot nor any random state is touched.

    Raises:
        ValueError: when there is not one weight for each piece.
    """
    if not sample.pieces or len(sample.pieces) != len(sample.weights):
        raise ValueError(
            f"there must be a weight for each of {len(sample.pieces)} pieces, but there are "
            f"{len(sample.weights)}"
        )
    pieces = [_one_line(piece) for piece in sample.pieces[:MAX_PIECES]]
    places = list(_places(pieces))
    darkest = max(*sample.weights, min(1.0, CONTRAST / len(sample.weights)))
    height = LINE * (places[-1][0] + 2.6)
    width = CHARACTER * (ROW + 2)
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(-CHARACTER, width - CHARACTER), ylim=(height, 0), autoscale_on=False)
    style: dict[str, Any] = {"fontsize": FONT_SIZE, "parse_math": False, "va": "center_baseline"}
    axes.text(0, LINE * 0.8, _heading(sample, darkest), color=FAINT, gid="heading", **style)
    boxes, colours = [], []
    for piece, weight, (row, column) in zip(pieces, sample.weights, places, strict=False):
        share = weight / darkest
        top = LINE * (row + 1.6)
        boxes.append(Rectangle((CHARACTER * column, top), CHARACTER * _width(piece), LINE * 0.94))
        colours.append(COLOURS(share))
        ink = "white" if share > DARK else INK
        axes.text(
            CHARACTER * column, top + LINE * 0.47, piece.rstrip(), color=ink, gid="piece",
            family=monospaced(), **style,
        )  # fmt: skip
    axes.add_collection(PatchCollection(boxes, facecolors=colours, edgecolors="none", zorder=0))
    return figure


def _heading(sample: WeighedText, darkest: float) -> str:
    right = sample.predicted == sample.label
    found = f"{'✓' if right else '✗'} {sample.predicted} ({sample.probability:.2f})"
    found += "" if right else f", is {sample.label}"
    cut = len(sample.pieces) - MAX_PIECES
    return f"{found} · darkest: {darkest:.3f}" + (f" · {cut} pieces more" if cut > 0 else "")


def _one_line(piece: str) -> str:
    """A piece without line breaks and tabs, no longer than a row."""
    piece = piece.replace("\n", " ").replace("\t", " ")
    return piece if len(piece) <= ROW else piece[: ROW - 1] + "…"


def _width(piece: str) -> int:
    """Columns that a piece takes; signs of East Asia take two."""
    return sum(2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in piece)


def _places(pieces: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Row and column of each piece; one that does not fit begins the next row."""
    row = column = 0
    for piece in pieces:
        if column + _width(piece.rstrip()) > ROW:
            row, column = row + 1, 0
        yield row, column
        column += _width(piece)


class WeighedTexts(Callback):
    """Draws fixed validation texts with the weight of each word, at each validation of a fit.

    TensorBoard: image `attention/INDEX`. Silent with other loggers, and for models that do not
    weigh words.

    Args:
        count: texts that are drawn.
    """

    def __init__(self, count: int = 4) -> None:
        self.count = count

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read and draw, if there is a logger to draw for."""
        writers = tensorboard_writers(trainer) if shows(trainer) else []
        if not writers or not isinstance(pl_module, OffersWeighedTexts):
            return
        for index, sample in enumerate(pl_module.weighed_texts(self.count)):
            pixels = figure_pixels(weighed_figure(sample))
            for writer in writers:
                writer.add_image(
                    f"attention/{index}", pixels, trainer.global_step, dataformats="HWC"
                )
