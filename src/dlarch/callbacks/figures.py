"""What all figures share: their colours, and how they become an image for a logger."""

from __future__ import annotations

import warnings
from functools import cache

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from numpy.typing import NDArray

INK, FAINT = "#1b2733", "#6b7a89"
"""Of what is to be read, and of what stands beside it."""


LABEL_LENGTH = 20
WHITESPACE = str.maketrans({" ": "␣", "\n": "⏎", "\t": "→", "\u00a0": "␣", "\u202f": "␣"})


def visible(token: str) -> str:
    """A token as a label: white space as a sign, `�` for what has none, at most 20 characters."""
    token = "".join(c if c.isprintable() else "�" for c in token.translate(WHITESPACE))
    return token if len(token) <= LABEL_LENGTH else token[: LABEL_LENGTH - 1] + "…"


def figure_pixels(figure: Figure) -> NDArray[np.uint8]:
    """Render a figure to (H, W, 3), each value 0..255, without pyplot's global state."""
    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a box is shown instead
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


@cache
def monospaced() -> list[str]:
    """Monospaced fonts, with what this machine has for scripts that the first one lacks."""
    further = ("Noto Sans Mono CJK JP", "Noto Sans CJK JP", "Hiragino Sans", "Yu Gothic")
    installed = {font.name for font in fontManager.ttflist}
    return ["DejaVu Sans Mono", "DejaVu Sans", *(name for name in further if name in installed)]
