"""Examples of different lengths: batches of similar length, bounded in examples or tokens."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlarch.data.base import CachedData
from dlarch.data.loading import bucketed_plan, evaluation_plan
from dlarch.errors import check_at_least_1
from dlarch.processing import Processor


class BucketedData(CachedData):
    """One source of tokens, tokenised once, in batches of similar length.

    Args:
        batch_size: examples per batch and process.
        batch_tokens: examples times longest example per batch instead, padding included.
        num_workers: processes that make batches.
        pin_memory: page-locked batches; when not given, if there is a CUDA device.
        processor: of a trained model, to read new data as it did its own.
    """

    def __init__(
        self,
        batch_size: int,
        batch_tokens: int | None = None,
        num_workers: int = 0,
        pin_memory: bool | None = None,
        processor: Processor | None = None,
    ) -> None:
        super().__init__(num_workers, pin_memory, processor)
        check_at_least_1(batch_size=batch_size, batch_tokens=batch_tokens)
        self.batch_size = batch_size
        self.batch_tokens = batch_tokens

    @abstractmethod
    def lengths(self, split: str) -> tuple[NDArray[Any], ...]:
        """Tokens of each example of a split; of pairs, of the costlier side and of the other."""

    def training_plan(self, seed: int, epoch: int) -> list[np.ndarray]:
        """Batches of similar length in random order."""
        lengths = self.lengths("train")
        return bucketed_plan(*lengths, seed=seed, epoch=epoch, **self._bounds_and_place())

    def evaluation_plan(self, split: str) -> list[np.ndarray]:
        """Batches of similar length, each example once."""
        return evaluation_plan(*self.lengths(split), **self._bounds_and_place())

    def _bounds_and_place(self) -> dict[str, Any]:
        return {
            "batch_size": None if self.batch_tokens else self.batch_size,
            "batch_tokens": self.batch_tokens,
            "world_size": self.world_size,
            "rank": self.rank,
        }
