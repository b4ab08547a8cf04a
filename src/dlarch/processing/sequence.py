"""Sequences of numbers to tensors and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from dlarch.batches import SequenceBatch
from dlarch.errors import DataError
from dlarch.processing.table import TableProcessor


class SequenceProcessor(TableProcessor, type="sequence"):
    """Names and normalisation of the numbers at each step of a sequence.

    The arguments are those of `TableProcessor`: a step is read as a row of a table is.
    """

    def encode(self, raw: Sequence[Any]) -> SequenceBatch:  # type: ignore[override]
        """Sequences (T, F), or (T,) of a single number per step; targets are unknown (NaN).

        Raises:
            DataError: there is none, they differ in length, or a step has another count of numbers.
        """
        rows = [np.asarray(sequence, dtype=np.float64) for sequence in raw]
        size = len(self.columns)
        rows = [row[:, None] if row.ndim == 1 and size == 1 else row for row in rows]
        if not rows:
            raise DataError("There is no sequence: give at least one.")
        for number, row in enumerate(rows, start=1):
            if row.ndim != 2 or row.shape[1] != size or not len(row):
                raise DataError(
                    f"Sequence {number} has the shape {row.shape}: at each of its steps there must "
                    f"be {size} {'number' if size == 1 else 'numbers'} ({', '.join(self.columns)})."
                )
            if len(row) != len(rows[0]):
                raise DataError(
                    f"Sequence {number} has {len(row)} steps and the first {len(rows[0])}: give "
                    "those of one length together."
                )
        unknown = torch.full((len(rows), len(self.targets)), torch.nan)
        return SequenceBatch(self.normalize(np.stack(rows)), unknown)
