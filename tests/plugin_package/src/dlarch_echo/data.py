"""Vectors drawn from a seed."""

import numpy as np
import torch

from dlarch import DataSpec, register_data
from dlarch.data import DataModule

from .batch import EchoBatch


class Vectors:
    """A split: an index array makes a batch."""

    def __init__(self, vectors: torch.Tensor) -> None:
        self.vectors = vectors

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, index: np.ndarray) -> EchoBatch:
        picked = self.vectors[torch.from_numpy(index)]
        return EchoBatch(picked, picked)


@register_data("echo")
class EchoData(DataModule):
    """Vectors to be repeated.

    Args:
        length: of a vector.
        examples: in each split.
        batch_size: vectors per batch.
    """

    batch_type = EchoBatch

    def __init__(self, length: int = 5, examples: int = 64, batch_size: int = 16) -> None:
        super().__init__()
        self.length, self.examples, self.batch_size = length, examples, batch_size

    def setup(self, stage: str) -> None:
        """Draw the splits."""
        generator = torch.Generator().manual_seed(1)
        self.vectors = torch.randn(3, self.examples, self.length, generator=generator)
        self.spec = DataSpec(in_features=self.length)

    def dataset(self, split: str) -> Vectors:
        """The vectors of a split."""
        return Vectors(self.vectors[("train", "validation", "test").index(split)])

    def training_plan(self, seed: int, epoch: int) -> list[np.ndarray]:
        """Shuffled batches, shared among the processes."""
        order = np.random.default_rng((seed, epoch)).permutation(self.examples)
        batches = np.split(order, range(self.batch_size, self.examples, self.batch_size))
        return batches[self.rank :: self.world_size]

    def evaluation_plan(self, split: str) -> list[np.ndarray]:
        """Batches in order, shared among the processes."""
        order = np.arange(self.examples)
        batches = np.split(order, range(self.batch_size, self.examples, self.batch_size))
        return batches[self.rank :: self.world_size]
