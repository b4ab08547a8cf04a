"""The adding problem: two numbers of a long sequence have to be remembered."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlarch.data.sequences import Numbers, SequenceData
from dlarch.errors import OptionError
from dlarch.registry import register_data


@register_data("adding")
class AddingData(SequenceData):
    """Random numbers, two of which are marked; the target is the sum of these two.

    The numbers are uniform between 0 and 1; one in each half of the sequence is marked by a 1
    beside it, others have a 0. Always saying 1 has a mean squared error of 1/6, the variance of a
    sum of two. The problem is that of Hochreiter and Schmidhuber (1997), as 1504.00941 states it.

    Args:
        length: steps of a sequence.
        options: those of `dlarch.data.sequences.SequenceData`.
    """

    columns = ["value", "marker"]  # noqa: RUF012
    targets = ["sum"]  # noqa: RUF012

    def __init__(self, length: int = 50, **options: Any) -> None:
        super().__init__(**options)
        if length < 2:
            raise OptionError(f"length must be at least 2, one step for each number, not {length}.")
        self.length = length

    def draw(
        self,
        random: np.random.RandomState,
        split: str,  # noqa: ARG002
        count: int,
    ) -> tuple[Numbers, Numbers]:
        """Values and markers (n, T, 2), and sums (n, 1)."""
        values = random.uniform(0, 1, (count, self.length))
        half = self.length // 2
        rows = np.arange(count)
        markers = np.zeros_like(values)
        markers[rows, random.randint(0, half, count)] = 1
        markers[rows, random.randint(half, self.length, count)] = 1
        return np.stack((values, markers), axis=-1), (values * markers).sum(1, keepdims=True)
