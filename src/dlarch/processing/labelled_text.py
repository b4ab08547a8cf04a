"""Texts to batches of ids, with the names of their classes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import torch
from torch import Tensor

from dlarch.batches import TextBatch
from dlarch.errors import DataError, OptionError
from dlarch.processing.base import (
    FORMAT,
    PROCESSOR_FILE,
    Processor,
    label_of,
    read_text,
    write_json,
)
from dlarch.processing.text import TextProcessor
from dlarch.processing.translation import TOKENIZER_FILE, pad
from dlarch.spec import BOS, EOS, SPECIAL_TOKENS

Item = TypeVar("Item", int, str)

Keep = Literal["first", "last", "both"]
"""Which tokens of a text that is too long are kept: of both ends, each gives half."""


class LabelledTextProcessor(Processor, type="text"):
    """The vocabulary of a text, the longest that is read of it, and its classes.

    Args:
        tokens: the vocabulary.
        class_names: in the order of their labels; None for texts without.
        label_name: what the classes are of, such as "language".
        max_length: tokens that are read of a text; all when not given.
        keep: which, of a longer one.
        longest: tokens of the longest training text, by which a model that writes knows when to
            stop.
    """

    def __init__(
        self,
        tokens: TextProcessor,
        class_names: Sequence[str] | None = None,
        label_name: str | None = None,
        max_length: int | None = None,
        keep: Keep = "first",
        longest: int | None = None,
    ) -> None:
        if keep not in get_args(Keep):
            raise OptionError(f"keep must be first, last or both, not {keep!r}.")
        self.tokens = tokens
        self.class_names = None if class_names is None else list(class_names)
        self.label_name = label_name
        self.max_length = max_length
        self.keep: Keep = keep
        self.longest = longest

    def encode(self, raw: Sequence[str] | Sequence[tuple[str, str]]) -> TextBatch:
        """Encode B texts, or B texts with the names of their classes.

        Raises:
            DataError: there is no text, an empty one, or a class that the model does not know.
        """
        if isinstance(raw, str):
            raise DataError("Give a list of texts, not one text.")
        rows = [(example, None) if isinstance(example, str) else tuple(example) for example in raw]
        labels = None
        if rows and all(label is not None for _, label in rows):
            labels = torch.tensor([self.label(str(name)) for _, name in rows])
        texts = [str(text) for text, _ in rows]
        for place, text in enumerate(texts, start=1):
            if not text.strip():
                raise DataError(f"Text {place} is empty: give at least one word.")
        return TextBatch(pad(self.encode_rows(texts)), labels, text=texts)

    def encode_rows(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of many texts, cut if they are too long, each between BOS and EOS."""
        return [[BOS, *self._cut(ids), EOS] for ids in self.tokens.encode_batch(texts)]

    def pieces(self, text: str) -> list[str]:
        """What each id of `encode` stands for; unknown ones as they stand in the text.

        Words are followed by a space, so that joining the pieces gives a text to read.
        """
        gap = " " if self.tokens.level == "words" else ""
        found = self._cut([token + gap for token in self.tokens.pieces(text)])
        return [SPECIAL_TOKENS[BOS] + gap, *found, SPECIAL_TOKENS[EOS]]

    def _cut(self, row: list[Item]) -> list[Item]:
        most = self.max_length
        if most is None or len(row) <= most:
            return row
        if self.keep == "first":
            return row[:most]
        if self.keep == "last":
            return row[-most:]
        return row[: most - most // 2] + row[len(row) - most // 2 :]

    def label(self, name: str) -> int:
        """The label of a class.

        Raises:
            DataError: there is no such class.
        """
        return label_of(name, self.class_names or [])

    def decode(self, tensor: Tensor | Sequence[Sequence[int]]) -> list[str]:
        """The texts of ids (B, T): up to EOS, without special ids."""
        rows = tensor.tolist() if isinstance(tensor, Tensor) else tensor
        return [self.tokens.decode(row) for row in rows]

    def unknown_share(self, texts: Iterable[str]) -> float:
        """Share of unknown tokens among those of texts, 0 to 1."""
        return self.tokens.unknown_share(texts)

    def to_dict(self) -> dict[str, Any]:
        """Classes, lengths and the vocabulary."""
        return {
            "type": self.type,
            "format": FORMAT,
            "class_names": self.class_names,
            "label_name": self.label_name,
            "max_length": self.max_length,
            "keep": self.keep,
            "longest": self.longest,
            "tokens": self.tokens.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LabelledTextProcessor:
        """Inverse of `to_dict`.

        Raises:
            CheckpointError: the tokenizer is damaged.
        """
        return cls(
            TextProcessor.from_dict(values["tokens"]),
            values["class_names"],
            values["label_name"],
            values["max_length"],
            values["keep"],
            values["longest"],
        )

    def save(self, folder: str | Path) -> None:
        """Write processor.json and tokenizer.json into `folder`."""
        values = self.to_dict()
        del values["tokens"]["tokenizer"]
        write_json(Path(folder) / PROCESSOR_FILE, values)
        path = Path(folder) / TOKENIZER_FILE
        path.write_text(self.tokens.tokenizer_json(), encoding="utf-8", newline="")

    @classmethod
    def read_parts(cls, folder: Path, values: dict[str, Any]) -> dict[str, Any]:
        """Put the tokenizer.json back in its place."""
        content = read_text(folder / TOKENIZER_FILE)
        return {**values, "tokens": {**values["tokens"], "tokenizer": content}}
