"""Attention maps at each validation: what the model looked at for each token it produced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from matplotlib.collections import LineCollection, PatchCollection
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from typing_extensions import override

from dlarch.callbacks.figures import FAINT, INK, figure_pixels, monospaced, visible
from dlarch.callbacks.protocols import (
    TranslationSample,
    shows,
    tensorboard_writers,
    translation_samples,
)

Weights = NDArray[np.float32]

MAX_TOKENS = 100
"""Tokens drawn on an axis; of longer sequences the beginning is shown, and the picture says so."""

COLOURS = LinearSegmentedColormap.from_list(
    "attention", ["#f7f9fc", "#bcd3ea", "#5f9bd1", "#1f5fa8", "#0b2545"]
)
"""From a weight of 0, nearly white, to 1, dark."""

# Lengths are in inches; a token is set in a monospaced font, so that its width is known.
DPI = 100
FONT_SIZE = 8.64  # 12 pixels, where this font is crisp
CHARACTER = FONT_SIZE * 0.602 / 72
LINE = FONT_SIZE * 1.5 / 72
NOTE_LENGTH = 80


def attention_figure(sample: TranslationSample) -> Figure:
    """Draw attention (T, S), or of (layers, heads, T, S) a row of panels per layer.

    Source tokens stand on the x axis from left to right, produced tokens on the y axis from top to
    bottom. A cell is one weight, not interpolated, on a fixed scale from 0 to 1. Below stands the
    reference. Neither pyplot nor any random state is touched.

    Raises:
        ValueError: without attention, or when its shape is not that of the tokens.
    """
    weights = _weights(sample)
    rows, columns, height, width = weights.shape
    x_labels = [visible(token) for token in sample.source_tokens[:width]]
    y_labels = [visible(token) for token in sample.target_tokens[:height]]
    note = _note(sample, height, width)

    # Cells are as large as a label needs (0.17), larger in small maps, smaller with many heads.
    cell = min(max(4.0 / max(height, width), 0.17), 0.4, 16.0 / (columns * width))
    panels = rows * columns
    gap = 0.15 if panels == 1 else LINE * 1.6
    left = LINE * 1.6 + CHARACTER * max(map(len, y_labels))
    top = LINE * 2.0 + max(LINE, CHARACTER * max(map(len, x_labels)))
    right = left + columns * (cell * width + gap) - gap
    bottom = top + rows * (cell * height + gap)
    page_width = max(right + 0.75, left + CHARACTER * (min(len(note), NOTE_LENGTH) + 1))
    page = _Page(page_width, bottom + LINE * 1.8)

    size = min(FONT_SIZE, cell * 72 * 0.75)
    for row, column in np.ndindex(rows, columns):
        x, y = left + column * (cell * width + gap), top + row * (cell * height + gap)
        page.cells(weights[row, column], x, y, cell)
        if row == 0:
            page.labels_above(x_labels, x, y, cell, size)
        if column == 0:
            page.labels_beside(y_labels, x, y, cell, size)
        if panels > 1:
            name = f"layer {row + 1}" + (f", head {column + 1}" if columns > 1 else "")
            name = name if len(name) * CHARACTER < cell * width else f"{row + 1}.{column + 1}"
            middle, below = x + cell * width / 2, y + cell * height + 0.04
            page.text(middle, below, name, ha="center", va="top", color=FAINT, gid="panel")

    page.text(left, LINE * 0.9, "source →", va="center", color=FAINT)
    page.text(LINE * 0.7, top, "← produced", rotation=90, va="top", ha="center", color=FAINT)
    room = int((page_width - left) / CHARACTER)
    note = note if len(note) <= room else note[: room - 1] + "…"
    page.text(
        left, bottom + LINE * 0.9, note, va="center", color=INK, family=monospaced(), gid="note"
    )
    page.scale(right + 0.18, top, min(cell * height, 2.0))
    page.rule()
    return page.figure


class _Page:
    """A figure measured in inches from its upper left corner.

    All panels share one pair of axes: a picture of 24 panels is drawn in a third of the time.
    """

    def __init__(self, width: float, height: float) -> None:
        self.figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set_axis_off()
        self.axes.set(xlim=(0, width), ylim=(height, 0), autoscale_on=False)
        self._lines: list[tuple[tuple[float, float], tuple[float, float]]] = []
        self._frames: list[Rectangle] = []

    def text(self, x: float, y: float, text: str, **style: Any) -> None:
        """Write text, which is never read as mathematics."""
        self.axes.text(x, y, text, **{"fontsize": FONT_SIZE, "parse_math": False, **style})

    def cells(self, weights: Weights, x: float, y: float, cell: float) -> None:
        """Draw a map (T, S), with hair lines by which the eye finds row and column."""
        height, width = weights.shape
        right, bottom = x + cell * width, y + cell * height
        self._image(weights, (x, right, bottom, y))
        self._lines += [((at, y), (at, bottom)) for at in x + cell * np.arange(1, width)]
        self._lines += [((x, at), (right, at)) for at in y + cell * np.arange(1, height)]
        self._frames.append(Rectangle((x, y), right - x, bottom - y))

    def labels_above(
        self, labels: Sequence[str], x: float, y: float, cell: float, size: float
    ) -> None:
        """Write tokens above the columns of a map; long ones stand upright."""
        words = sum(len(label) > 2 for label in labels) > len(labels) / 2
        for place, label in enumerate(labels):
            upright = 90 if len(label) > (1 if words else 2) else 0
            self.text(
                x + cell * (place + 0.5), y - 0.04, label, rotation=upright, ha="center",
                va="bottom", fontsize=size, family=monospaced(), color=INK, gid="source",
            )  # fmt: skip

    def labels_beside(
        self, labels: Sequence[str], x: float, y: float, cell: float, size: float
    ) -> None:
        """Write tokens beside the rows of a map."""
        for place, label in enumerate(labels):
            self.text(
                x - 0.04, y + cell * (place + 0.5), label, ha="right", va="center_baseline",
                fontsize=size, family=monospaced(), color=INK, gid="target",
            )  # fmt: skip

    def scale(self, x: float, y: float, height: float) -> None:
        """Draw which colour stands for which weight."""
        self._image(np.linspace(1, 0, 256, dtype=np.float32)[:, None], (x, x + 0.09, y + height, y))
        for weight in (0.0, 0.5, 1.0):
            self.text(
                x + 0.12, y + height * (1 - weight), f"{weight:.1f}", va="center",
                fontsize=FONT_SIZE - 1, color=FAINT,
            )  # fmt: skip

    def rule(self) -> None:
        """Draw the lines of all maps."""
        self.axes.add_collection(LineCollection(self._lines, colors="#dde4ec", linewidths=0.4))
        frames = PatchCollection(
            self._frames, facecolor="none", edgecolor="#c3cdd8", linewidths=0.6
        )
        self.axes.add_collection(frames)

    def _image(self, weights: Weights, extent: tuple[float, float, float, float]) -> None:
        image = AxesImage(
            self.axes, cmap=COLOURS, norm=Normalize(0.0, 1.0), interpolation="nearest",
            origin="upper", extent=extent,
        )  # fmt: skip
        image.set_data(weights)
        self.axes.add_image(image)


def _weights(sample: TranslationSample) -> Weights:
    """Attention as (layers, heads, T, S), cut to what is drawn, compared with the tokens."""
    if sample.attention is None:
        raise ValueError("this sample has no attention to draw")
    attention = sample.attention.detach().float().cpu()
    expected = (len(sample.target_tokens), len(sample.source_tokens))
    if attention.dim() not in (2, 4) or tuple(attention.shape[-2:]) != expected or 0 in expected:
        raise ValueError(
            f"attention must be (T, S) or (layers, heads, T, S) with (T, S) = {expected}, the "
            f"number of produced and source tokens, but is {tuple(attention.shape)}"
        )
    maps = attention if attention.dim() == 4 else attention[None, None]
    return maps[..., :MAX_TOKENS, :MAX_TOKENS].numpy()  # type: ignore[no-any-return]


def _note(sample: TranslationSample, height: int, width: int) -> str:
    note = "✓ as the reference" if sample.exact else f"✗ reference: {sample.reference}"
    for name, shown, tokens in (
        ("produced", height, sample.target_tokens),
        ("source", width, sample.source_tokens),
    ):
        if shown < len(tokens):
            note = f"first {shown} of {len(tokens)} {name} tokens · {note}"
    return note


class AttentionMaps(Callback):
    """Draws attention for fixed validation examples, at each validation of a fit.

    TensorBoard: image `attention/INDEX`. Silent with other loggers, and for samples without
    attention.

    Args:
        count: examples that are drawn.
    """

    def __init__(self, count: int = 4) -> None:
        self.count = count

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Translate and draw, if there is a logger to draw for."""
        writers = tensorboard_writers(trainer) if shows(trainer) else []
        if not writers:
            return
        for index, sample in enumerate(translation_samples(pl_module, self.count)):
            if sample.attention is None or sample.attention.numel() == 0:
                continue
            pixels = figure_pixels(attention_figure(sample))
            for writer in writers:
                writer.add_image(
                    f"attention/{index}", pixels, trainer.global_step, dataformats="HWC"
                )
