"""What a training step of the echo problem is."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torchmetrics import Metric

from dlarch import DataSpec
from dlarch.tasks import Task

from .batch import EchoBatch


class Echo(Task):
    """Repeat a vector; squared error."""

    batch_type = EchoBatch
    monitor = ("val/loss", "min")
    headline = "test/loss"

    @abstractmethod
    def forward(self, vector: Tensor) -> Tensor:
        """Vector (B, F) to its echo (B, F)."""

    @classmethod
    def example(cls, size: int, seed: int) -> tuple[DataSpec, EchoBatch]:
        """A spec of 3 features and `size` vectors."""
        vector = torch.randn(size, 3, generator=torch.Generator().manual_seed(seed))
        return DataSpec(in_features=3), EchoBatch(vector, vector)

    def metrics(self, stage: str) -> dict[str, Metric]:
        """Nothing beyond the loss, which the steps log."""
        return {}

    def training_step(self, batch: Sequence[Any], batch_index: int) -> Tensor:
        """Mean squared error of the batch."""
        pairs = EchoBatch(*batch)
        return F.mse_loss(self(pairs.vector), pairs.echo)

    def validation_step(self, batch: Sequence[Any], batch_index: int) -> None:
        """Log the epoch's squared error."""
        self._score(batch, "val/loss")

    def test_step(self, batch: Sequence[Any], batch_index: int) -> None:
        """Log the epoch's squared error."""
        self._score(batch, "test/loss")

    def _score(self, batch: Sequence[Any], tag: str) -> None:
        pairs = EchoBatch(*batch)
        loss = F.mse_loss(self(pairs.vector), pairs.echo)
        self.log(tag, loss, on_step=False, on_epoch=True, batch_size=len(pairs.vector))
