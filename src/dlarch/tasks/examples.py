"""Training examples as a whole, for what a model computes of them once; random ones for tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import lightning as L  # noqa: N812
import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch.utilities.seed import isolate_rng

from dlarch.batches import TextBatch
from dlarch.callbacks.resume import LazyLoader
from dlarch.processing.translation import pad
from dlarch.spec import BOS, EOS


def training_batches(trainer: L.Trainer) -> Iterator[Any]:
    """All training batches, on the device; neither loader nor random states are moved.

    A dlarch data module gives each process all examples in their order, not augmented. Any other
    loader is read as it is: shuffled, and by each process its share.

    Args:
        trainer: that trains, from `on_train_start` to `on_train_end`.

    Yields:
        Batches of the task's type, or of whatever the loader gives.
    """
    data = getattr(trainer, "datamodule", None)
    if data is not None and hasattr(data, "in_order"):
        for batch in data.in_order("train"):
            yield move_data_to_device(batch, trainer.strategy.root_device)
        return
    loader = trainer.train_dataloader
    state = loader.state_dict() if isinstance(loader, LazyLoader) else None  # type: ignore[attr-defined]
    with isolate_rng():
        for batch in loader:  # type: ignore[union-attr]
            yield trainer.strategy.batch_to_device(batch, dataloader_idx=0)
    if isinstance(loader, LazyLoader) and state is not None:
        loader.load_state_dict(state)


def random_texts(size: int, seed: int) -> TextBatch:
    """Random texts of mixed lengths, of 11 ids and 3 classes."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for _ in range(size):
        length = int(torch.randint(1, 9, (1,), generator=generator))
        words = torch.randint(EOS + 1, 11, (length,), generator=generator)
        rows.append([BOS, *words.tolist(), EOS])
    return TextBatch(pad(rows), torch.arange(size) % 3, torch.arange(size))
