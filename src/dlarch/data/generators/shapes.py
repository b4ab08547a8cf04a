"""Images of one figure each, with everything known that made them."""

from __future__ import annotations

import colorsys
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dlarch.errors import OptionError

FIGURES = ("square", "ellipse", "triangle")
"""Names of the figures in the order of their labels."""

FACTORS = ("figure", "size", "x", "y", "angle", "hue")
"""Names of what an image is made of, in the order of the columns."""

SIZES = (0.12, 0.28)
"""Smallest and largest radius of the circle around a figure, as a share of the image's side."""

CHUNK = 512
"""Images that are drawn at a time."""


class Shapes(NamedTuple):
    """N images with the factors that made them.

    Attributes:
        pixels: (N, side, side, C), uint8.
        factors: (N, 6), float32, as `FACTORS` names them: the figure's number, its radius as a
            share of the side, the place of its middle from the left and from the top as a share of
            the side, its angle in turns against the clock, and its hue, all from 0 to 1 but the
            figure.
        mask: (N, side, side), uint8: 1 + the figure's number where at least half of a pixel is in
            it, else 0.
        box: (N, 4), float32, in pixels: left, top, right and bottom edge of the mask.
    """

    pixels: NDArray[np.uint8]
    factors: NDArray[np.float32]
    mask: NDArray[np.uint8]
    box: NDArray[np.float32]


def draw_shapes(count: int, side: int = 64, colour: bool = True, seed: int = 0) -> Shapes:
    """Draw figures of any size, place, angle and hue on black, each factor evenly and by itself.

    Args:
        count: number of images.
        side: of an image, in pixels.
        colour: three channels; else one, and white figures.
        seed: of the factors.

    Raises:
        OptionError: there would be no image, or one too small to see a figure in.
    """
    if count < 1 or side < 16:
        raise OptionError(
            f"Shapes need at least 1 image of at least 16 pixels, not count={count}, side={side}."
        )
    random = np.random.default_rng(seed)
    figure = random.integers(0, len(FIGURES), count)
    radius = random.uniform(*SIZES, count)
    place = random.uniform(radius[:, None], 1 - radius[:, None], (count, 2))  # wholly inside
    angle, hue = random.uniform(0, 1, (2, count))
    factors = np.column_stack((figure, radius, place, angle, hue))
    made = [_drawn(factors[at : at + CHUNK], side, colour) for at in range(0, count, CHUNK)]
    pixels, mask, box = (np.concatenate(parts) for parts in zip(*made, strict=True))
    return Shapes(pixels, factors.astype(np.float32), mask, box)


def _drawn(
    factors: NDArray[np.float64], side: int, colour: bool
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32]]:
    """Pixels, masks and boxes of rows of factors."""
    cover = np.clip(0.5 - _distance(factors, side), 0, 1)  # share of each pixel, at its edge
    inside = np.asarray(cover >= 0.5)
    if colour:
        hues = np.array([colorsys.hsv_to_rgb(hue, 1.0, 1.0) for hue in factors[:, 5]])
    else:
        hues = np.ones((len(factors), 1))
    pixels = np.rint(255 * cover[..., None] * hues[:, None, None]).astype(np.uint8)
    mask = inside * (1 + factors[:, 0].astype(np.uint8))[:, None, None]
    columns, rows = np.any(inside, axis=1), np.any(inside, axis=2)
    box = np.column_stack(
        (
            columns.argmax(1),
            rows.argmax(1),
            side - columns[:, ::-1].argmax(1),
            side - rows[:, ::-1].argmax(1),
        )
    )
    return pixels, mask.astype(np.uint8), box.astype(np.float32)


def _distance(factors: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """How far the middle of each pixel is outside the figure, (n, side, side), in pixels."""
    figure, radius, left, top, angle, _ = (column[:, None, None] for column in factors.T)
    at = np.arange(side) + 0.5
    x, y = at - left * side, top * side - at[:, None]  # y upwards
    turn = 2 * np.pi * angle
    along = x * np.cos(turn) + y * np.sin(turn)
    across = y * np.cos(turn) - x * np.sin(turn)
    size = radius * side
    half = size / np.sqrt(2)  # of a square with its corners on the circle
    square = np.maximum(np.abs(along), np.abs(across)) - half
    flat = 0.5  # height of the ellipse by its width
    far = np.hypot(along, across / flat)
    slope = np.hypot(along, across / flat**2) / np.maximum(far, 1e-9)
    ellipse = (far - size) / np.maximum(slope, 1e-9)
    # Its point lies ahead on the circle, its base behind; a short base tells ahead from behind.
    base = 0.6 * size
    wide = 0.8 * size  # (-0.6, 0.8) lies on the circle too
    steep = np.hypot(size + base, wide)
    sides = ((size - along) * -wide + np.abs(across) * (size + base)) / steep
    triangle = np.maximum(sides, -base - along)
    return np.select([figure == 0, figure == 1], [square, ellipse], triangle)
