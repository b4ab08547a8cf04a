"""Sentence pairs to batches and translations back to sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dlarch.batches import TranslationBatch
from dlarch.errors import DataError
from dlarch.processing.base import FORMAT, PROCESSOR_FILE, Processor, read_text, write_json
from dlarch.processing.text import TextProcessor
from dlarch.spec import BOS, EOS, PAD

TOKENIZER_FILE = "tokenizer.json"
_CHUNK = 1000


class TranslationProcessor(Processor, type="translation"):
    """Two text processors and the names of the languages.

    Args:
        source: processor of the language that is read.
        target: processor of the language that is written; the same object as `source` for a
            joint vocabulary.
        source_language: name of the source side, as in the columns of the data.
        target_language: name of the target side.
        max_target_length: tokens that a translation may have, from the training pairs.
    """

    def __init__(
        self,
        source: TextProcessor,
        target: TextProcessor,
        source_language: str,
        target_language: str,
        max_target_length: int | None = None,
    ) -> None:
        self.source = source
        self.target = target
        self.source_language = source_language
        self.target_language = target_language
        self.max_target_length = max_target_length

    @property
    def share(self) -> bool:
        """Whether both sides use one vocabulary."""
        return self.source is self.target

    def encode(self, raw: Sequence[str] | Sequence[tuple[str, str]]) -> TranslationBatch:
        """Encode B sources or B pairs.

        Returns:
            source (B, S) ends with EOS; target (B, T) is BOS ... EOS, or only BOS, (B, 1), when
            there are no targets. Texts are kept as they came.

        Raises:
            DataError: sources and pairs are mixed, or a text is no valid Unicode.
        """
        if isinstance(raw, str):
            raise DataError("Give a list of sentences, not one sentence.")
        sources: list[Any]
        targets: list[Any] | None = None
        if all(isinstance(example, str) for example in raw):
            sources = list(raw)
        elif all(isinstance(example, tuple | list) and len(example) == 2 for example in raw):
            sources = [example[0] for example in raw]
            targets = [example[1] for example in raw]
        else:
            raise DataError("Give a list of sentences, or a list of (source, target) pairs.")
        source = [[*ids, EOS] for ids in self.source.encode_batch(sources)]
        if targets is None:
            target = [[BOS] for _ in sources]
        else:
            target = [[BOS, *ids, EOS] for ids in self.target.encode_batch(targets)]
        return TranslationBatch(pad(source), pad(target), source_text=sources, target_text=targets)

    def decode(self, tensor: Tensor | Sequence[Sequence[int]]) -> list[str]:
        """The sentences of target ids (B, L): up to EOS, without special ids."""
        rows = tensor.tolist() if isinstance(tensor, Tensor) else tensor
        return [self.target.decode(row) for row in rows]

    def unknown_share(self, pairs: Iterable[tuple[str, str]]) -> tuple[float, float]:
        """Shares of unknown tokens, 0 to 1, among the sources and among the targets."""
        counts = [[0, 0], [0, 0]]
        iterator = iter(pairs)
        while chunk := list(islice(iterator, _CHUNK)):
            for side, processor in enumerate((self.source, self.target)):
                unknown, total = processor.count_unknown(pair[side] for pair in chunk)
                counts[side][0] += unknown
                counts[side][1] += total
        source, target = (unknown / max(total, 1) for unknown, total in counts)
        return source, target

    def to_dict(self) -> dict[str, Any]:
        """Languages and both text processors; `target` is None when the vocabulary is joint."""
        return {
            "type": self.type,
            "format": FORMAT,
            "source_language": self.source_language,
            "target_language": self.target_language,
            "max_target_length": self.max_target_length,
            "source": self.source.to_dict(),
            "target": None if self.share else self.target.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TranslationProcessor:
        """Inverse of `to_dict`.

        Raises:
            CheckpointError: a tokenizer is damaged.
        """
        source = TextProcessor.from_dict(values["source"])
        joint = values["target"] is None
        target = source if joint else TextProcessor.from_dict(values["target"])
        languages = (values["source_language"], values["target_language"])
        return cls(source, target, *languages, values["max_target_length"])

    def save(self, folder: str | Path) -> None:
        """Write processor.json, source/tokenizer.json and target/tokenizer.json into `folder`."""
        values = self.to_dict()
        for side, processor in (("source", self.source), ("target", self.target)):
            path = Path(folder) / side / TOKENIZER_FILE
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(processor.tokenizer_json(), encoding="utf-8", newline="")
            if values[side] is not None:
                del values[side]["tokenizer"]
        write_json(Path(folder) / PROCESSOR_FILE, values)

    @classmethod
    def read_parts(cls, folder: Path, values: dict[str, Any]) -> dict[str, Any]:
        """Put the tokenizer.json of each side back in its place."""
        values = dict(values)
        for side in ("source", "target"):
            if isinstance(values.get(side), dict):
                content = read_text(folder / side / TOKENIZER_FILE)
                values[side] = {**values[side], "tokenizer": content}
        return values


def pad(rows: Sequence[Sequence[int]]) -> Tensor:
    """Rows of ids as one tensor (B, longest), filled with PAD on the right."""
    longest = max(map(len, rows), default=0)
    padded = [[*row, *[PAD] * (longest - len(row))] for row in rows]
    return torch.tensor(padded, dtype=torch.long).reshape(len(rows), longest)
