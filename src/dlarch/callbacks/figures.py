"""What all figures share: their colours, and how they become an image for a logger."""

from __future__ import annotations

import warnings

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

INK, FAINT = "#1b2733", "#6b7a89"
"""Of what is to be read, and of what stands beside it."""


def figure_pixels(figure: Figure) -> NDArray[np.uint8]:
    """Render a figure to (H, W, 3), each value 0..255, without pyplot's global state."""
    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a box is shown instead
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
