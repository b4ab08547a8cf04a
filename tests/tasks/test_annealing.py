"""Weights that rise."""

import math

import pytest

from dlarch.errors import OptionError
from dlarch.tasks import Annealing


def weights(schedule, steps, at):
    return [Annealing(schedule, steps).weight(step) for step in at]


def test_none_is_one_at_once():
    assert weights("none", 10, [0, 5, 99]) == [1, 1, 1]


def test_linear_is_a_straight_line_that_ends():
    assert weights("linear", 10, [0, 1, 5, 10, 99]) == [0, 0.1, 0.5, 1, 1]


def test_logistic_is_half_in_the_middle_and_ends():
    low, half, high, after = weights("logistic", 100, [10, 50, 90, 100])
    assert half == 0.5
    assert low == pytest.approx(1 / (1 + math.exp(4)))
    assert low + high == pytest.approx(1)
    assert after == 1


def test_cycles_rise_for_half_and_begin_again():
    assert weights("cyclical", 8, [0, 2, 4, 7, 8, 10]) == [0, 0.5, 1, 1, 0, 0.5]


@pytest.mark.parametrize("wrong", [("steep", 5), ("linear", 0)])
def test_mistakes_are_named(wrong):
    with pytest.raises(OptionError, match="annealing"):
        Annealing(*wrong).checked()
