"""How examples are divided where there are no official splits."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

SPLITS = ("train", "validation", "test")

SPLIT_NAMES: Mapping[str, Sequence[str]] = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test",),
}
"""What others call the three splits."""

Row = TypeVar("Row", bound=Sequence[str | None])
"""A text that says where it goes, and what belongs to it."""

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


def split_folders(folder: Path) -> dict[str, Path]:
    """The folders of the splits within a folder; the folder itself, as train, if it has none."""
    found = {
        split: folder / name
        for split, names in SPLIT_NAMES.items()
        for name in names
        if (folder / name).is_dir()
    }
    return found if "train" in found else {"train": folder}


def carved_by_hash(
    rows: Iterable[Row], split: str, official: Collection[str], count: int | None = None
) -> Iterator[Row]:
    """What of the official training rows belongs to a split.

    A hash of a row's text decides: 5 of 100 are for validation and 5 for the test, unless these are
    official. So equal texts stay together, and neither the order of a file nor its length matters.
    What is held out comes in the order of the hash, since the first rows of a sorted file would
    tell little of the others.

    Args:
        rows: each begins with its text.
        split: which part is wanted.
        official: splits that are not to be carved.
        count: training rows that are given, the first ones; all when None.
    """
    wanted = (row for row in rows if _part(row, official) == split)
    return islice(wanted, count) if split == "train" else iter(sorted(wanted, key=_place))


def _place(row: Row) -> int:
    return zlib.crc32(str(row[0]).strip().casefold().encode())


def _part(row: Row, official: Collection[str]) -> str:
    place = _place(row) % 100
    if place >= 95 and "test" not in official:
        return "test"
    if 90 <= place < 95 and "validation" not in official:
        return "validation"
    return "train"
