"""Sine waves whose next value is to be predicted at each step."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlarch.data.sequences import Numbers, SequenceData
from dlarch.errors import OptionError
from dlarch.registry import register_data


@register_data("sine")
class SineData(SequenceData):
    """Sine waves of random phase and frequency, with noise; the target is the next value.

    Args:
        length: steps of a training sequence.
        eval_length: steps of one in validation and test, the second half of which a model may be
            asked to continue by itself.
        min_period: steps that the fastest wave takes for a period.
        max_period: steps of the slowest; periods are drawn so that frequencies are equally likely.
        noise: standard deviation of what is added to each value of a wave of amplitude 1.
        options: those of `dlarch.data.sequences.SequenceData`.
    """

    columns = ["value"]  # noqa: RUF012
    targets = ["next value"]  # noqa: RUF012

    def __init__(
        self,
        length: int = 100,
        eval_length: int = 400,
        min_period: float = 20.0,
        max_period: float = 50.0,
        noise: float = 0.05,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if min(length, eval_length) < 2 or noise < 0:
            raise OptionError(
                f"sine needs at least 2 steps and noise from 0 up, not length={length}, "
                f"eval_length={eval_length}, noise={noise}."
            )
        if not 2 < min_period <= max_period:
            raise OptionError(
                "Periods must be longer than 2 steps, the longest last, not "
                f"min_period={min_period}, max_period={max_period}."
            )
        self.length, self.eval_length, self.noise = length, eval_length, noise
        self.periods = min_period, max_period

    def draw(
        self, random: np.random.RandomState, split: str, count: int
    ) -> tuple[Numbers, Numbers]:
        """Waves (n, T, 1), and the same one step on."""
        steps = 1 + (self.length if split == "train" else self.eval_length)
        shortest, longest = self.periods
        frequency = random.uniform(1 / longest, 1 / shortest, (count, 1))
        phase = random.uniform(0, 1, (count, 1))
        values = np.sin(2 * np.pi * (frequency * np.arange(steps) + phase))
        values += random.standard_normal(values.shape) * self.noise
        return values[:, :-1, None], values[:, 1:, None]
