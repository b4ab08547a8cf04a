"""Labelled images as they lie in the cache: flat files of pixels and labels, mapped into memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dlarch.batches import ImageBatch
from dlarch.data.classes import LEFT_OUT
from dlarch.data.splits import Rows

KNOWN = ("factors", "mask", "box")
"""What may lie beside the pixels: fields of `ImageBatch`, a row for each image."""


class PixelDataset:
    """Images of the cache; indexing with an array of positions gives their batch.

    Pickles as its arguments, so that a worker process opens its own map.

    Args:
        folder: of the cache.
        split: as it is stored.
        shape: (C, H, W).
        rows: positions among the stored images; all when not given.
        finish: what each batch is passed through.
        by_position: positions (B,) in place of the pixels, which are elsewhere.
        new_labels: of each label that is stored, -1 for classes left out; the same when not given.
    """

    def __init__(
        self,
        folder: Path,
        split: str,
        shape: tuple[int, int, int],
        rows: Rows | None = None,
        finish: Callable[[ImageBatch], ImageBatch] | None = None,
        by_position: bool = False,
        new_labels: NDArray[np.int64] | None = None,
    ) -> None:
        self.labels: NDArray[np.int64] = np.load(labels_file(folder, split))
        if new_labels is not None:
            self.labels = new_labels[self.labels]
        self.rows = np.arange(len(self.labels)) if rows is None else rows
        channels, height, width = shape
        size = (len(self.labels), height, width, _stored_channels(channels))
        self.pixels = np.memmap(pixels_file(folder, split), np.uint8, mode="r", shape=size)
        self.known = {
            name: np.load(known_file(folder, split, name), mmap_mode="r")
            for name in KNOWN
            if known_file(folder, split, name).exists()
        }
        self.finish, self.by_position = finish, by_position
        self._arguments: dict[str, Any] = {
            "folder": folder, "split": split, "shape": shape, "rows": self.rows,
            "finish": finish, "by_position": by_position, "new_labels": new_labels,
        }  # fmt: skip

    def __reduce__(self) -> Any:
        return partial(PixelDataset, **self._arguments), ()

    def but(self, **changes: Any) -> PixelDataset:
        """The same with other arguments."""
        return PixelDataset(**self._arguments | changes)

    def of_known_classes(self) -> PixelDataset:
        """The same without images of classes that are left out."""
        return self.but(rows=self.rows[self.labels[self.rows] != LEFT_OUT])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Rows) -> ImageBatch:
        rows = self.rows[index]
        example = torch.from_numpy(np.asarray(index, dtype=np.int64))
        batch = ImageBatch(
            image=example if self.by_position else torch.from_numpy(self.pixels[rows]),
            label=torch.from_numpy(self.labels[rows]),
            example=example,
            **{name: torch.from_numpy(values[rows]) for name, values in self.known.items()},
        )
        return batch if self.finish is None else self.finish(batch)


def _stored_channels(channels: int) -> int:
    return 4 if channels == 3 else channels


def as_stored(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pixels (n, H, W, C) as the cache holds them: three colours and a byte that is 0.

    A pixel is then one 32-bit word, and moved as such.
    """
    more = _stored_channels(pixels.shape[-1]) - pixels.shape[-1]
    return np.pad(pixels, ((0, 0), (0, 0), (0, 0), (0, more)))


def pixels_file(folder: Path, split: str) -> Path:
    """Where the pixels of a split lie."""
    return folder / f"{split}.pixels.uint8"


def labels_file(folder: Path, split: str) -> Path:
    """Where the labels of a split lie."""
    return folder / f"{split}.labels.npy"


def known_file(folder: Path, split: str, name: str) -> Path:
    """Where one of `KNOWN` lies, if the source has it."""
    return folder / f"{split}.{name}.npy"
