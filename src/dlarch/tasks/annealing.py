"""How much a term of the loss counts while training goes on."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, get_args

from dlarch.errors import OptionError, check_at_least_1

Schedule = Literal["none", "linear", "logistic", "cyclical"]
"""How a weight rises from 0 to 1."""

STEEPNESS = 10.0
"""Of the logistic curve: it begins at 0.007 and reaches 0.993."""


class Annealing(NamedTuple):
    """A weight that rises from 0 to 1 over optimizer steps.

    Attributes:
        schedule: `none` is 1 at once; `linear` a straight line; `logistic` the curve of Bowman et
            al. (1511.06349); `cyclical` begins again every `steps`, and rises for half of them (Fu
            et al., 1903.10145).
        steps: how many the rise, or a cycle, takes.
    """

    schedule: Schedule = "none"
    steps: int = 1000

    def checked(self) -> Annealing:
        """The same.

        Raises:
            OptionError: there is no such schedule, or it has no steps.
        """
        if self.schedule not in get_args(Schedule):
            known = ", ".join(get_args(Schedule))
            raise OptionError(f"annealing must be one of {known}, not {self.schedule!r}.")
        check_at_least_1(annealing_steps=self.steps)
        return self

    def weight(self, step: int) -> float:
        """The weight at an optimizer step, 0 to 1."""
        part = step / self.steps
        if self.schedule == "linear":
            return min(1.0, part)
        if self.schedule == "logistic":
            return 1 / (1 + math.exp(STEEPNESS * (0.5 - part))) if part < 1 else 1.0
        if self.schedule == "cyclical":
            return min(1.0, 2 * (part % 1))
        return 1.0
