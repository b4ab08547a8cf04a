"""Attention maps at each validation: what the model looked at for each token it produced."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from typing_extensions import override

from dlarch.callbacks.figures import FAINT, INK, figure_pixels
from dlarch.callbacks.protocols import (
    TranslationSample,
    shows,
    tensorboard_writers,
    translation_samples,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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
LABEL_LENGTH, NOTE_LENGTH = 20, 80
WHITESPACE = str.maketrans({" ": "␣", "\n": "⏎", "\t": "→", "\u00a0": "␣", "\u202f": "␣"})


def visible(token: str) -> str:
    """A token as an axis shows it: white space as a sign, at most `LABEL_LENGTH` characters."""
    token = token.translate(WHITESPACE)
    return token if len(token) <= LABEL_LENGTH else token[: LABEL_LENGTH - 1] + "…"


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

    for row, column in np.ndindex(rows, columns):
        x, y = left + column * (cell * width + gap), top + row * (cell * height + gap)
        axes = page.axes(x, y, cell * width, cell * height)
        image = axes.imshow(
            weights[row, column],
            cmap=COLOURS,
            vmin=0.0,
            vmax=1.0,
            interpolation="nearest",
            aspect="auto",
        )
        _rule(axes, height, width)
        size = min(FONT_SIZE, cell * 72 * 0.75)
        _label(axes.xaxis, x_labels if row == 0 else [], size)
        _label(axes.yaxis, y_labels if column == 0 else [], size)
        if panels > 1:
            name = f"layer {row + 1}" + (f", head {column + 1}" if columns > 1 else "")
            name = name if len(name) * CHARACTER < cell * width else f"{row + 1}.{column + 1}"
            axes.set_xlabel(name, fontsize=FONT_SIZE, color=FAINT, labelpad=3)

    page.text(left, LINE * 0.9, "source →", va="center", color=FAINT)
    page.text(LINE * 0.7, top, "← produced", rotation=90, va="top", ha="center", color=FAINT)
    room = int((page_width - left) / CHARACTER)
    note = note if len(note) <= room else note[: room - 1] + "…"
    page.text(left, bottom + LINE * 0.9, note, va="center", color=INK, family=_fonts())
    scale = page.figure.colorbar(
        image, cax=page.axes(right + 0.18, top, 0.09, min(cell * height, 2.0)), ticks=[0, 0.5, 1]
    )
    scale.ax.tick_params(labelsize=FONT_SIZE - 1, length=0, labelcolor=FAINT, pad=2)
    scale.outline.set_visible(False)  # type: ignore[operator]
    return page.figure


class _Page:
    """A figure measured in inches from its upper left corner."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        w, h = self.width, self.height
        return self.figure.add_axes((x / w, 1 - (y + height) / h, width / w, height / h))

    def text(self, x: float, y: float, text: str, **style: Any) -> None:
        place = x / self.width, 1 - y / self.height
        self.figure.text(*place, text, fontsize=FONT_SIZE, parse_math=False, **style)


def _weights(sample: TranslationSample) -> np.ndarray[Any, np.dtype[np.float32]]:
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


def _rule(axes: Axes, height: int, width: int) -> None:
    """Hair lines between cells, by which the eye finds row and column."""
    axes.vlines(np.arange(1, width) - 0.5, -0.5, height - 0.5, colors="#dde4ec", linewidths=0.4)
    axes.hlines(np.arange(1, height) - 0.5, -0.5, width - 0.5, colors="#dde4ec", linewidths=0.4)
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)
    for spine in axes.spines.values():
        spine.set_color("#c3cdd8")
        spine.set_linewidth(0.6)


def _label(axis: Any, labels: Sequence[str], size: float) -> None:
    """Write tokens at the ticks of an axis; long ones stand upright above a column."""
    axis.set_tick_params(length=0, pad=3)
    if axis.axis_name == "x":
        axis.tick_top()
    axis.set_ticks(
        *(range(len(labels)), labels),
        **{"fontsize": size, "family": _fonts(), "color": INK, "parse_math": False},
    )
    if axis.axis_name == "x":
        words = sum(len(label) > 2 for label in labels) > len(labels) / 2
        for text in axis.get_ticklabels():
            text.set_rotation(90 if len(text.get_text()) > (1 if words else 2) else 0)


def _note(sample: TranslationSample, height: int, width: int) -> str:
    note = "✓ as the reference" if sample.exact else f"✗ reference: {sample.reference}"
    for name, shown, tokens in (
        ("produced", height, sample.target_tokens),
        ("source", width, sample.source_tokens),
    ):
        if shown < len(tokens):
            note = f"first {shown} of {len(tokens)} {name} tokens · {note}"
    return note


@cache
def _fonts() -> list[str]:
    """Monospaced, with what this machine has for scripts that the first font lacks."""
    further = ("Noto Sans Mono CJK JP", "Noto Sans CJK JP", "Hiragino Sans", "Yu Gothic")
    installed = {font.name for font in fontManager.ttflist}
    return ["DejaVu Sans Mono", "DejaVu Sans", *(name for name in further if name in installed)]


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
