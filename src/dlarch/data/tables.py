"""What data modules of rows of numbers share: splits, normalisation, batches."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dlarch.batches import TableBatch
from dlarch.data.base import DataModule
from dlarch.data.classes import check_classes
from dlarch.data.loading import bucketed_plan, evaluation_plan
from dlarch.data.splits import SPLITS, Rows, carved
from dlarch.errors import DataError, MismatchError, check_at_least_1
from dlarch.processing import Processor, TableProcessor
from dlarch.spec import DataSpec


@dataclass(frozen=True)
class Table:
    """Rows of numbers with their targets.

    Attributes:
        features: (n, F).
        targets: (n,) labels, or (n, O) numbers.
        columns: names of the features.
        target_names: names of the targets.
        class_names: in the order of the labels; None where the targets are numbers.
    """

    features: NDArray[np.float64]
    targets: NDArray[Any]
    columns: list[str]
    target_names: list[str]
    class_names: list[str] | None = None

    def part(self, rows: Rows) -> Table:
        """Some of the rows."""
        return Table(
            self.features[rows],
            self.targets[rows],
            self.columns,
            self.target_names,
            self.class_names,
        )


class TableData(DataModule):
    """Rows of numbers, in memory, normalised to mean 0 and deviation 1 over the training rows.

    Targets that are numbers are normalised as well; metrics in their own units say so. A tenth of
    the rows, at random but always alike, is the validation split, another tenth the test split.

    Args:
        batch_size: rows per batch and process; all of them in one when not given.
        normalize: bring features and targets to mean 0 and deviation 1.
        num_workers: processes that make batches.
        pin_memory: page-locked batches; when not given, if there is a CUDA device.
        processor: of a trained model, to read new rows as it did its own.
    """

    batch_type = TableBatch
    processor: TableProcessor | None

    def __init__(
        self,
        batch_size: int | None = None,
        normalize: bool = True,
        num_workers: int = 0,
        pin_memory: bool | None = None,
        processor: Processor | None = None,
    ) -> None:
        super().__init__(num_workers, pin_memory, processor)
        check_at_least_1(batch_size=batch_size)
        self.batch_size = batch_size
        self.normalize = normalize
        self._tables: dict[str, Table] = {}

    @abstractmethod
    def read(self) -> Table:
        """All rows."""

    def divide(self, table: Table) -> dict[str, Table]:
        """The rows by split."""
        count = len(table.features)
        if count < 10:
            raise DataError(f"There are {count} rows: at least 10 are needed for three splits.")
        parts = carved(count, count // 10, count // 10)
        return {split: table.part(rows) for split, rows in parts.items()}

    def setup(self, stage: str | None = None) -> None:  # noqa: ARG002
        """Read and divide the rows."""
        if not self._tables:
            self._tables = self.divide(self.read())
        train = self._tables["train"]
        given = self._given_processor()
        if given is not None:
            self._check_given(given, train)
        else:
            if train.class_names is not None:
                labels = {split: table.targets for split, table in self._tables.items()}
                check_classes(labels, train.class_names, "rows", "remove these")
            self._own = self._own or self._measured(train)
            self.processor = self._own
        digest = hashlib.sha256(json.dumps([train.columns, train.class_names]).encode())
        digest.update(train.features.tobytes() + train.targets.tobytes())
        classes = train.class_names
        self.spec = DataSpec(
            in_features=len(train.columns),
            num_classes=None if classes is None else len(classes),
            out_features=len(train.target_names) if classes is None else None,
            fingerprint=digest.hexdigest(),
        )

    def _measured(self, train: Table) -> TableProcessor:
        mean, std = _mean_and_std(train.features, self.normalize)
        numbers = train.class_names is None and self.normalize
        target_mean, target_std = _mean_and_std(
            train.targets if numbers else np.zeros((1, len(train.target_names))), numbers
        )
        return TableProcessor(
            train.columns,
            mean,
            std,
            train.class_names,
            train.target_names,
            target_mean,
            target_std,
        )

    @staticmethod
    def _check_given(given: Any, train: Table) -> None:
        if not isinstance(given, TableProcessor):
            raise MismatchError(f"The model's processor is for {given.type} data, not for tables.")
        for what in ("columns", "class_names"):
            mine, theirs = getattr(given, what), getattr(train, what)
            if mine != theirs:
                raise MismatchError(
                    f"The model was trained on {what.replace('_', ' ')} {mine}, the data have "
                    f"{theirs}."
                )

    # ---- batches

    def dataset(self, split: str) -> TableDataset:
        """The rows of a split."""
        assert self.processor is not None
        table = self._tables[split]
        return TableDataset(
            self.processor.normalize(table.features),
            self.processor.normalize_targets(table.targets),
        )

    def _plan_options(self, split: str) -> dict[str, Any]:
        count = len(self._tables[split].features)
        whole = -(-count // self.world_size)
        return {
            "lengths": np.ones(count, np.int8),
            "batch_size": self.batch_size or whole,
            "world_size": self.world_size,
            "rank": self.rank,
        }

    def training_plan(self, seed: int, epoch: int) -> list[Rows]:
        """Batches in random order."""
        options = self._plan_options("train")
        return bucketed_plan(**options, seed=seed, epoch=epoch, join_single=True)

    def evaluation_plan(self, split: str) -> list[Rows]:
        """Batches in the order of the split."""
        return evaluation_plan(**self._plan_options(split))


class TableDataset:
    """Normalised rows; indexing with an array of positions gives their batch."""

    def __init__(self, features: torch.Tensor, targets: torch.Tensor) -> None:
        self.features, self.targets = features, targets

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, index: Rows) -> TableBatch:
        rows = torch.from_numpy(np.asarray(index, dtype=np.int64))
        return TableBatch(self.features[rows], self.targets[rows], rows)


def same_rows(table: Table) -> dict[str, Table]:
    """All rows in each split: for problems whose rows are all there are."""
    return dict.fromkeys(SPLITS, table)


def _mean_and_std(values: NDArray[Any], wanted: bool) -> tuple[list[float], list[float]]:
    if not wanted:
        return [0.0] * values.shape[1], [1.0] * values.shape[1]
    std = values.std(0)
    return values.mean(0).tolist(), np.where(std > 0, std, 1.0).tolist()
