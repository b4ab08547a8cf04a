"""Sequences of different lengths in one flat file, memory-mapped and gathered by index.

A batch is made by a few array operations, never sequence by sequence; token ids take two bytes
when the vocabulary allows it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from dlarch.spec import PAD

BLOCK = 1 << 18
"""Bytes that a writer holds before they go to the file."""


class TokenWriter:
    """Writes sequences of ids to `STEM.tokens` and `STEM.offsets.npy`.

    Args:
        stem: path without the endings.
        vocab_size: number of ids, which decides how many bytes one takes.
    """

    def __init__(self, stem: Path, vocab_size: int) -> None:
        self.stem = stem
        self.code = "H" if vocab_size <= 1 << 16 else "i"
        self.lengths = array("i")
        self.longest = 0
        self._pending = array(self.code)
        self._file: BinaryIO = _tokens_path(stem, self.code).open("wb")

    def append(self, ids: Iterable[int]) -> None:
        """Add one sequence."""
        before = len(self._pending)
        self._pending.extend(ids)
        length = len(self._pending) - before
        self.lengths.append(length)
        self.longest = max(self.longest, length)
        if len(self._pending) * self._pending.itemsize > BLOCK:
            self._flush()

    def _flush(self) -> None:
        self._pending.tofile(self._file)
        self._pending = array(self.code)

    def close(self) -> None:
        """Write what is left, and the offsets."""
        self._flush()
        self._file.close()
        lengths = np.frombuffer(self.lengths, dtype=np.int32) if self.lengths else np.zeros(0, int)
        offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
        np.cumsum(lengths, out=offsets[1:])
        small = offsets[-1] < 1 << 31
        np.save(_offsets_path(self.stem), offsets.astype(np.int32) if small else offsets)


class TokenArray:
    """Sequences written by a `TokenWriter`, read where they are needed.

    Pickles as its path, so that a worker process opens its own map.
    """

    def __init__(self, stem: Path) -> None:
        self.stem = stem
        self.offsets = np.load(_offsets_path(stem))
        wide = _tokens_path(stem, "i")
        path, dtype = (wide, np.int32) if wide.exists() else (_tokens_path(stem, "H"), np.uint16)
        empty = path.stat().st_size == 0
        self.tokens = np.zeros(1, dtype) if empty else np.memmap(path, dtype, mode="r")

    def __reduce__(self) -> tuple[type[TokenArray], tuple[Path]]:
        return type(self), (self.stem,)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray[Any, np.dtype[np.int32]]:
        """Number of ids of each sequence, int32 (n,)."""
        lengths: np.ndarray[Any, np.dtype[np.int32]] = np.diff(self.offsets).astype(np.int32)
        return lengths

    def gather(self, index: np.ndarray) -> Tensor:
        """The sequences at `index`, (n, longest) int64, padded on the right."""
        start = self.offsets[index].astype(np.int64)
        length = self.offsets[index + 1] - start
        column = np.arange(length.max(initial=0))
        at = start[:, None] + column
        np.minimum(at, len(self.tokens) - 1, out=at)
        ids = torch.from_numpy(self.tokens[at].astype(np.int64))
        return ids.masked_fill_(torch.from_numpy(column >= length[:, None]), PAD)


class TextWriter:
    """Writes texts to `STEM.utf8` and `STEM.offsets.npy`."""

    def __init__(self, stem: Path) -> None:
        self.stem = stem
        self._ends = array("q", [0])
        self._file: BinaryIO = _text_path(stem).open("wb")

    def append(self, text: str) -> None:
        """Add one text."""
        self._ends.append(self._ends[-1] + self._file.write(text.encode("utf-8")))

    def close(self) -> None:
        """Write the offsets."""
        self._file.close()
        np.save(_offsets_path(self.stem), np.frombuffer(self._ends, dtype=np.int64))


class TextArray:
    """Texts written by a `TextWriter`; pickles as its path."""

    def __init__(self, stem: Path) -> None:
        self.stem = stem
        self.offsets = np.load(_offsets_path(stem))
        path = _text_path(stem)
        self.bytes = np.memmap(path, np.uint8, mode="r") if path.stat().st_size else b""

    def __reduce__(self) -> tuple[type[TextArray], tuple[Path]]:
        return type(self), (self.stem,)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> str:
        return bytes(self.bytes[self.offsets[index] : self.offsets[index + 1]]).decode("utf-8")


def _tokens_path(stem: Path, code: str) -> Path:
    return stem.with_name(f"{stem.name}.tokens.{'uint16' if code == 'H' else 'int32'}")


def _offsets_path(stem: Path) -> Path:
    return stem.with_name(f"{stem.name}.offsets.npy")


def _text_path(stem: Path) -> Path:
    return stem.with_name(f"{stem.name}.utf8")
