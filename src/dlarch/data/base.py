"""What data modules have in common: processor, spec, loaders that resume exactly, the cache."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import lightning as L  # noqa: N812
import numpy as np
import torch

from dlarch.data.loading import BatchLoader
from dlarch.processing import Processor
from dlarch.spec import DataSpec

IN_ORDER = 1000
"""Most examples of a batch where a split is read as a whole."""


class DataModule(L.LightningDataModule):
    """One source of batches.

    A subclass names its `batch_type`, and offers `prepare_data` (makes the cache, on one process),
    `setup` (opens it; sets `spec` and `processor`), `dataset(split)` and the two plans.

    Args:
        num_workers: processes that make batches; 0 makes them in this one, which is as fast for
            data that are indexed from a memory map.
        pin_memory: page-locked batches; when not given, if there is a CUDA device.
        processor: of a trained model, to read new data as it did its own.
    """

    batch_type: ClassVar[type]

    processor_options: ClassVar[tuple[str, ...]] = ()
    """Arguments that decide the processor: of no use beside that of a trained model."""

    def __init__(
        self,
        num_workers: int = 0,
        pin_memory: bool | None = None,
        processor: Processor | None = None,
    ) -> None:
        super().__init__()
        self.num_workers = num_workers
        self.pin_memory = torch.cuda.is_available() if pin_memory is None else pin_memory
        self.processor = processor
        self._own: Any = None  # the processor that these data made, if they made one
        self.spec: DataSpec | None = None
        self.test_split = "test"  # what a test scores: another split for a moment
        self._loader: BatchLoader[Any] | None = None
        self._resumed: dict[str, Any] | None = None

    # ---- what a data module defines

    @abstractmethod
    def dataset(self, split: str) -> Any:
        """What makes the batch of an index array by `[index]`; split: train, validation, test."""

    @abstractmethod
    def training_plan(self, seed: int, epoch: int) -> list[np.ndarray]:
        """The index arrays of this rank's batches in an epoch."""

    @abstractmethod
    def evaluation_plan(self, split: str) -> list[np.ndarray]:
        """The index arrays of this rank's batches of a split, each example once over all ranks."""

    def _given_processor(self) -> Any:
        """The processor of a trained model, of any kind; None when these data made their own."""
        return None if self.processor is self._own else self.processor

    # ---- a split as a whole

    def finished(self, split: str) -> Any:
        """What makes the batches of a split as a model gets them in validation."""
        return self.dataset(split)

    def in_order(self, split: str) -> Iterator[Any]:
        """All finished batches of a split, in its order; each process gets the whole.

        For what is computed from the data once. No random state moves.
        """
        examples = self.finished(split)
        count = len(examples)
        for rows in np.array_split(np.arange(count), -(-count // IN_ORDER)):
            yield examples[rows]

    # ---- loaders

    @property
    def world_size(self) -> int:
        """Number of processes that share the batches."""
        return self.trainer.world_size if self.trainer is not None else 1

    @property
    def rank(self) -> int:
        """Number of this process among them."""
        return self.trainer.global_rank if self.trainer is not None else 0

    def train_dataloader(self) -> BatchLoader[Any]:
        """Batches in a new order each epoch; goes on where a resumed run stopped."""
        # Reading the seed does not move the random state; a resumed run keeps its own.
        seed = self._resumed["seed"] if self._resumed else torch.initial_seed() % 2**32
        # Ranks that were not seeded alike must still share one order.
        if self.trainer is not None and self.world_size > 1:
            seed = self.trainer.strategy.broadcast(seed)
        self._loader = BatchLoader(
            self.dataset("train"),
            partial(self.training_plan, seed),
            seed=seed,
            num_workers=self.num_workers,
            pin_memory=self.pin_memory,
        )
        if self._resumed is not None:
            self._loader.load_state_dict(self._resumed)
        return self._loader

    def val_dataloader(self) -> BatchLoader[Any]:
        """The validation split, in a fixed order."""
        return self._evaluation_loader("validation")

    def test_dataloader(self) -> BatchLoader[Any]:
        """The test split, in a fixed order."""
        return self._evaluation_loader(self.test_split)

    def predict_dataloader(self) -> BatchLoader[Any]:
        """The test split, in the order in which it was written."""
        batches = self.evaluation_plan("test")
        rows = np.sort(np.concatenate(batches))
        return self._fixed_loader("test", np.array_split(rows, len(batches)))

    def _evaluation_loader(self, split: str) -> BatchLoader[Any]:
        return self._fixed_loader(split, self.evaluation_plan(split))

    def _fixed_loader(self, split: str, batches: list[np.ndarray]) -> BatchLoader[Any]:
        return BatchLoader(
            self.dataset(split),
            lambda _: batches,
            training=False,
            num_workers=self.num_workers,
            pin_memory=self.pin_memory,
        )

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        """Move a batch, unless it is where it should be: loaders make batches on the CPU."""
        if device.type == "cpu":
            return batch
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def teardown(self, stage: str) -> None:
        """Forget where a fit stood: the next one starts afresh."""
        if stage == "fit":
            self._loader = self._resumed = None

    # ---- the position of the training loader is part of the checkpoint

    def state_dict(self) -> dict[str, Any]:
        """Seed, epoch and position of the training loader."""
        return self._loader.state_dict() if self._loader is not None else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Kept until `train_dataloader` makes the loader: Lightning may ask for it earlier."""
        self._resumed = state_dict or None
        if self._loader is not None and self._resumed is not None:
            self._loader.load_state_dict(self._resumed)


class CachedData(DataModule):
    """A source that is decoded or tokenised once, into a folder of the cache."""

    _folder: Path | None = None

    @abstractmethod
    def _cached(self) -> Path:
        """The folder of these data, filled now if it is not there."""

    def prepare_data(self) -> None:
        """Fill the cache; nothing when that is done."""
        self._folder = self._cached()

    def _cache_folder(self) -> Path:
        """What `prepare_data` has filled, on this process or another."""
        if self._folder is None:
            self._folder = self._cached()
        return self._folder
