"""What data modules of generated sequences of numbers share: splits, facts, batches."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from dlarch.batches import SequenceBatch
from dlarch.data.base import DataModule
from dlarch.data.loading import bucketed_plan, evaluation_plan
from dlarch.data.splits import SPLITS, Rows
from dlarch.errors import MismatchError, check_at_least_1
from dlarch.processing import Processor, SequenceProcessor
from dlarch.spec import DataSpec

Numbers = NDArray[np.float64]


class SequenceData(DataModule):
    """Sequences of numbers, drawn from a seed: the same splits wherever and whenever.

    Args:
        train_size: number of training sequences.
        eval_size: number of those in validation, and of those in the test.
        batch_size: sequences per batch and process.
        generator_seed: of the sequences.
        num_workers: processes that make batches.
        pin_memory: page-locked batches; when not given, if there is a CUDA device.
        processor: of a trained model.
    """

    batch_type = SequenceBatch
    columns: ClassVar[list[str]]
    """Names of the numbers at each step."""

    targets: ClassVar[list[str]]
    """Names of the numbers to predict."""

    processor: SequenceProcessor | None

    def __init__(
        self,
        train_size: int = 10_000,
        eval_size: int = 1000,
        batch_size: int = 64,
        generator_seed: int = 0,
        num_workers: int = 0,
        pin_memory: bool | None = None,
        processor: Processor | None = None,
    ) -> None:
        super().__init__(num_workers, pin_memory, processor)
        check_at_least_1(train_size=train_size, eval_size=eval_size, batch_size=batch_size)
        self.train_size, self.eval_size, self.batch_size = train_size, eval_size, batch_size
        self.generator_seed = generator_seed
        self._drawn: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    @abstractmethod
    def draw(self, random: np.random.RandomState, split: str, count: int) -> tuple[Numbers, Any]:
        """Sequences (n, T, F) of a split, and their targets (n, O) or (n, T, O)."""

    def setup(self, stage: str | None = None) -> None:  # noqa: ARG002
        """Draw the sequences."""
        if self._drawn:
            return
        none, one = [0.0], [1.0]
        own = SequenceProcessor(
            self.columns,
            none * len(self.columns),
            one * len(self.columns),
            None,
            self.targets,
            none * len(self.targets),
            one * len(self.targets),
        )
        if self.processor is None:
            self.processor = own
        elif self.processor != own:
            raise MismatchError(
                "The model was trained on other numbers: these are sequences of "
                f"{', '.join(self.columns)} with the target {', '.join(self.targets)}."
            )
        for place, split in enumerate(SPLITS):
            # RandomState's numbers are promised to stay the same in every version of numpy.
            random = np.random.RandomState([self.generator_seed, place])
            count = self.train_size if split == "train" else self.eval_size
            drawn = self.draw(random, split, count)
            self._drawn[split] = tuple(torch.from_numpy(part.astype(np.float32)) for part in drawn)  # type: ignore[assignment]
        digest = hashlib.sha256()
        for part in self._drawn["train"]:
            digest.update(part.numpy().tobytes())
        self.spec = DataSpec(
            in_features=len(self.columns),
            out_features=len(self.targets),
            fingerprint=digest.hexdigest(),
        )

    # ---- batches

    def dataset(self, split: str) -> SequenceDataset:
        """The sequences of a split."""
        return SequenceDataset(*self._drawn[split])

    def _plan_options(self, split: str) -> dict[str, Any]:
        sequences, _ = self._drawn[split]
        return {
            "lengths": np.full(len(sequences), sequences.shape[1], np.int32),
            "batch_size": self.batch_size,
            "world_size": self.world_size,
            "rank": self.rank,
        }

    def training_plan(self, seed: int, epoch: int) -> list[Rows]:
        """Batches in random order."""
        return bucketed_plan(**self._plan_options("train"), seed=seed, epoch=epoch)

    def evaluation_plan(self, split: str) -> list[Rows]:
        """Batches in the order of the split."""
        return evaluation_plan(**self._plan_options(split))


class SequenceDataset:
    """One split; indexing with an array of positions gives their batch."""

    def __init__(self, sequences: torch.Tensor, targets: torch.Tensor) -> None:
        self.sequences, self.targets = sequences, targets

    def __len__(self) -> int:
        return len(self.sequences)

    def __getitem__(self, index: Rows) -> SequenceBatch:
        rows = torch.from_numpy(np.asarray(index, dtype=np.int64))
        return SequenceBatch(self.sequences[rows], self.targets[rows], rows)
