"""Rows of numbers to normalised tensors and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dlarch.batches import TableBatch
from dlarch.errors import DataError
from dlarch.processing.base import FORMAT, Processor


class TableProcessor(Processor, type="table"):
    """Names and normalisation of the columns of a table.

    Args:
        columns: names of the F features.
        mean: of each feature over the training rows.
        std: standard deviation, likewise.
        class_names: in the order of the labels; None where the targets are numbers.
        targets: names of the O target columns.
        target_mean: of each target over the training rows; 0 for classes.
        target_std: standard deviation, likewise; 1 for classes.
    """

    def __init__(
        self,
        columns: Sequence[str],
        mean: Sequence[float],
        std: Sequence[float],
        class_names: Sequence[str] | None,
        targets: Sequence[str],
        target_mean: Sequence[float] = (0.0,),
        target_std: Sequence[float] = (1.0,),
    ) -> None:
        self.columns = list(columns)
        self.mean = list(mean)
        self.std = list(std)
        self.class_names = None if class_names is None else list(class_names)
        self.targets = list(targets)
        self.target_mean = list(target_mean)
        self.target_std = list(target_std)

    def encode(self, raw: Sequence[Sequence[float] | Mapping[str, float]]) -> TableBatch:
        """Rows, as numbers in the order of the columns or by name; targets are unknown (NaN).

        Raises:
            DataError: a row lacks a column, or has another number of them.
        """
        rows = []
        for number, row in enumerate(raw, start=1):
            if isinstance(row, Mapping):
                missing = [name for name in self.columns if name not in row]
                if missing:
                    raise DataError(f"Row {number} lacks {', '.join(missing)}.")
                row = [row[name] for name in self.columns]
            if len(row) != len(self.columns):
                raise DataError(
                    f"Row {number} has {len(row)} numbers instead of {len(self.columns)} "
                    f"({', '.join(self.columns)})."
                )
            rows.append([float(value) for value in row])
        features = self.normalize(np.array(rows).reshape(len(rows), len(self.columns)))
        return TableBatch(features, torch.full((len(rows), len(self.targets)), torch.nan))

    def decode(self, tensor: Tensor) -> list[list[float]]:
        """Predicted targets (B, O) in their own units."""
        scale, shift = torch.tensor(self.target_std), torch.tensor(self.target_mean)
        found: list[list[float]] = (tensor.float().cpu() * scale + shift).tolist()
        return found

    def normalize(self, rows: Any) -> Tensor:
        """Rows (B, F) of numbers to float32 features."""
        return torch.from_numpy(((rows - self.mean) / self.std).astype(np.float32))

    def denormalize(self, features: Tensor) -> list[list[float]]:
        """Features (B, F) in their own units: the inverse of `normalize`."""
        scale, shift = torch.tensor(self.std), torch.tensor(self.mean)
        rows: list[list[float]] = (features.float().cpu() * scale + shift).tolist()
        return rows

    def normalize_targets(self, targets: Any) -> Tensor:
        """Targets (B, O) in their own units to float32; classes (B,) to int64."""
        if self.class_names is not None:
            return torch.from_numpy(targets.astype(np.int64))
        scaled = (targets - self.target_mean) / self.target_std
        return torch.from_numpy(scaled.astype(np.float32))

    def to_dict(self) -> dict[str, Any]:
        """Names and normalisation."""
        return {
            "type": self.type,
            "format": FORMAT,
            "columns": self.columns,
            "mean": self.mean,
            "std": self.std,
            "class_names": self.class_names,
            "targets": self.targets,
            "target_mean": self.target_mean,
            "target_std": self.target_std,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TableProcessor:
        """Inverse of `to_dict`."""
        return cls(**{name: value for name, value in values.items() if name not in _ADDED})


_ADDED = ("type", "format")
