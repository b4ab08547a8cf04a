"""Points on a noisy curve: the smallest regression problem there is."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlarch.data.tables import Table, TableData
from dlarch.errors import OptionError, did_you_mean
from dlarch.registry import register_data

CURVES = {
    "sine": lambda x: np.sin(2 * np.pi * x),
    "step": lambda x: np.where(x > 0, 1.0, -1.0),
    "absolute": lambda x: np.abs(x),
    "cubic": lambda x: 4 * x**3 - 2 * x,
    "chirp": lambda x: np.sin(6 * np.pi * x**2),
}
"""Names of the curves, and what they are on -1 to 1."""


@register_data("curves_1d")
class Curves1DData(TableData):
    """Points (x, y) on a curve over -1 to 1, with noise on y.

    Args:
        curve: sine, step, absolute, cubic or chirp.
        size: number of points in all splits.
        noise: standard deviation of y.
        generator_seed: of the points.
        options: those of `dlarch.data.tables.TableData`.
    """

    def __init__(
        self,
        curve: str = "sine",
        size: int = 500,
        noise: float = 0.1,
        generator_seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if curve not in CURVES:
            raise OptionError(
                f"There is no curve '{curve}'.{did_you_mean(curve, CURVES)} "
                f"Curves: {', '.join(CURVES)}."
            )
        if size < 10 or noise < 0:
            raise OptionError(f"size must be 10 or more and noise 0 or more, not {size}, {noise}.")
        self.curve, self.size, self.noise = curve, size, noise
        self.generator_seed = generator_seed

    def read(self) -> Table:
        """Draw the points."""
        random = np.random.RandomState(self.generator_seed)
        x = random.uniform(-1, 1, self.size)
        y = CURVES[self.curve](x) + random.standard_normal(self.size) * self.noise
        return Table(x[:, None], y[:, None], columns=["x"], target_names=["y"])
