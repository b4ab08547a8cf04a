"""Points in the plane that belong to classes no straight line divides."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlarch.data.tables import Table, TableData
from dlarch.errors import OptionError, did_you_mean
from dlarch.registry import register_data


@register_data("toy_2d")
class Toy2DData(TableData):
    """Points in the plane in two or more classes: moons, rings, spirals, or blobs.

    Args:
        shape: moons (two half circles), rings (one within another), spirals, blobs (Gaussians
            around a circle).
        size: number of points in all splits.
        noise: standard deviation of the points around their shape.
        classes: number of spirals, rings or blobs; there are two moons.
        generator_seed: of the points.
        options: those of `dlarch.data.tables.TableData`.
    """

    def __init__(
        self,
        shape: str = "moons",
        size: int = 1000,
        noise: float = 0.1,
        classes: int = 2,
        generator_seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if shape not in SHAPES:
            raise OptionError(
                f"There is no shape '{shape}'.{did_you_mean(shape, SHAPES)} "
                f"Shapes: {', '.join(SHAPES)}."
            )
        if size < 10 * classes or classes < 2 or noise < 0:
            raise OptionError(
                f"toy_2d needs at least 2 classes, 10 points for each and noise from 0 up, not "
                f"classes={classes}, size={size}, noise={noise}."
            )
        if shape == "moons" and classes != 2:
            raise OptionError("There are two moons: leave out classes.")
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


SHAPES = {"moons": _moons, "rings": _rings, "spirals": _spirals, "blobs": _blobs}
"""Names of the shapes, and what places points on them: labels and places to (n, 2)."""
