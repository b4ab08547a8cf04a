"""Points in the plane that belong to classes no straight line divides, or to Gaussians."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from dlarch.batches import Modes
from dlarch.data.tables import Table, TableData
from dlarch.errors import OptionError, did_you_mean
from dlarch.registry import register_data


@register_data("toy_2d")
class Toy2DData(TableData):
    """Points in the plane in two or more classes: moons, rings, spirals, blobs, modes of Gaussians.

    `ring` and `grid` are the mixtures on which generators are tried (PacGAN, 1712.04086): 8
    Gaussians on a circle of radius 1, with a deviation of 0.01, and 25 on a grid from -4 to 4, with
    one of 0.05. The class is the Gaussian; `modes` tells where they lie.

    Args:
        shape: moons (two half circles), rings (one within another), spirals, blobs (Gaussians
            around a circle), ring or grid.
        size: number of points in all splits.
        noise: standard deviation of the points around their shape; 0.1 when not given, of a ring
            0.01, of a grid 0.05.
        classes: number of spirals, rings, blobs or Gaussians; 2 when not given, of a ring 8, of a
            grid 25. There are two moons; a grid has as many rows as columns.
        generator_seed: of the points.
        options: those of `dlarch.data.tables.TableData`.
    """

    def __init__(
        self,
        shape: str = "moons",
        size: int = 1000,
        noise: float | None = None,
        classes: int | None = None,
        generator_seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if shape not in SHAPES:
            raise OptionError(
                f"There is no shape '{shape}'.{did_you_mean(shape, SHAPES)} "
                f"Shapes: {', '.join(SHAPES)}."
            )
        classes = CLASSES.get(shape, 2) if classes is None else classes
        noise = NOISE.get(shape, 0.1) if noise is None else noise
        if size < 10 * classes or classes < 2 or noise < 0:
            raise OptionError(
                f"toy_2d needs at least 2 classes, 10 points for each and noise from 0 up, not "
                f"classes={classes}, size={size}, noise={noise}."
            )
        if shape == "moons" and classes != 2:
            raise OptionError("There are two moons: leave out classes.")
        if shape == "grid" and math.isqrt(classes) ** 2 != classes:
            raise OptionError(f"A grid has 4, 9, 16, 25 ... classes, not {classes}.")
        self.shape, self.size, self.noise, self.classes = shape, size, noise, classes
        self.generator_seed = generator_seed

    def read(self) -> Table:
        """Draw the points."""
        random = np.random.RandomState(self.generator_seed)
        labels = np.arange(self.size) % self.classes
        along = random.random_sample(self.size)  # place on the shape, 0 to 1
        points = SHAPES[self.shape](labels, along, self.classes)
        points = points + random.standard_normal(points.shape) * self.noise
        return Table(
            features=points,
            targets=labels.astype(np.int64),
            columns=["x", "y"],
            target_names=["class"],
            class_names=[str(label) for label in range(self.classes)],
        )

    @property
    def modes(self) -> Modes | None:
        """Where the Gaussians lie, normalised as the features are; None of other shapes."""
        if self.shape not in MODES or self.processor is None:
            return None
        labels = np.arange(self.classes)
        centres = SHAPES[self.shape](labels, np.zeros(self.classes), self.classes)
        deviation = self.noise / np.array(self.processor.std, dtype=np.float32)
        return Modes(self.processor.normalize(centres), torch.from_numpy(deviation).float())


def _on_circle(radius: Any, angle: Any) -> Any:
    return np.stack((radius * np.cos(angle), radius * np.sin(angle)), axis=1)


def _moons(labels: Any, along: Any, classes: int) -> Any:  # noqa: ARG001
    upper = _on_circle(1.0, np.pi * along)
    lower = np.array([1.0, 0.5]) - upper
    return np.where(labels[:, None] == 0, upper, lower)


def _rings(labels: Any, along: Any, classes: int) -> Any:
    return _on_circle((labels + 1) / classes, 2 * np.pi * along)


def _spirals(labels: Any, along: Any, classes: int) -> Any:
    # The square root makes the points equally dense along the arm.
    turn = np.sqrt(along) * 3 * np.pi
    return _on_circle(turn / (3 * np.pi) * 2, turn + 2 * np.pi * labels / classes)


def _blobs(labels: Any, along: Any, classes: int) -> Any:  # noqa: ARG001
    return _on_circle(1.0, 2 * np.pi * labels / classes)


def _grid(labels: Any, along: Any, classes: int) -> Any:  # noqa: ARG001
    side = math.isqrt(classes)
    return (np.stack((labels // side, labels % side), axis=1) / (side - 1) - 0.5) * 8.0


SHAPES = {
    "moons": _moons,
    "rings": _rings,
    "spirals": _spirals,
    "blobs": _blobs,
    "ring": _blobs,
    "grid": _grid,
}
"""Names of the shapes, and what places points on them: labels and places to (n, 2)."""

MODES = ("blobs", "ring", "grid")
"""Shapes of which each class is a Gaussian around one point."""

NOISE = {"ring": 0.01, "grid": 0.05}
CLASSES = {"ring": 8, "grid": 25}
"""Standard deviation and number of the Gaussians, where nothing else is asked for."""
