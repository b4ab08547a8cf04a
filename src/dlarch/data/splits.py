"""How examples are divided where there are no official splits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SPLITS = ("train", "validation", "test")

Rows = NDArray[np.int64]
"""Positions of examples, rising."""


def carved(count: int, validation: int, test: int) -> dict[str, Rows]:
    """Divide `count` examples at random, but always alike.

    Args:
        count: number of examples.
        validation: how many of them are for validation.
        test: how many are for the test.

    Returns:
        Positions by split, rising.
    """
    # RandomState's numbers are promised to stay the same in every version of numpy.
    order = np.random.RandomState(0).permutation(count).astype(np.int64)
    cuts = [count - validation - test, count - test]
    parts = np.split(order, cuts)
    return {split: np.sort(part) for split, part in zip(SPLITS, parts, strict=True)}


def picked(rows: Rows, count: int | None) -> Rows:
    """Some of the examples, at random but always alike; all when `count` is None or more."""
    if count is None or count >= len(rows):
        return rows
    return np.sort(np.random.RandomState(1).permutation(rows)[:count])
