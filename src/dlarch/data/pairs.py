"""Sentence pairs by split, whatever they come from: a generator, a file or the Hub."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from dlarch.data.generators import Pairs
from dlarch.data.generators.dates import date_format_pairs, date_pairs
from dlarch.data.generators.number_words import number_pairs
from dlarch.data.generators.sequences import addition_pairs, copy_pairs, reverse_pairs
from dlarch.data.hub_rows import hub_columns, hub_splits, iterate_hub
from dlarch.data.readers import read_pairs
from dlarch.data.resolve import LocalFile, Resolved, content_hash, resolve_source
from dlarch.data.splits import carved_by_hash
from dlarch.errors import DataError, OptionError

Pair = tuple[str, str]

GENERATORS: Mapping[str, Callable[..., dict[str, Pairs]]] = {
    "dates": date_pairs,
    "date_formats": date_format_pairs,
    "number_words": number_pairs,
    "addition": addition_pairs,
    "copy": copy_pairs,
    "reverse": reverse_pairs,
}
"""The generated sources by name."""

DEFAULT_LANGUAGES = ("fr", "en")
"""Source and target of generated pairs and of files."""

WITH_LANGUAGES = ("dates", "date_formats", "number_words")
"""Generated sources that are written in two languages."""


class PairSource(ABC):
    """Pairs that can be read as often as needed, without holding the training pairs in memory.

    Attributes:
        content: what the pairs depend on, in JSON types: hash of the files, or the arguments.
    """

    content: dict[str, Any]

    @abstractmethod
    def read(self, split: str) -> Iterator[Pair]:
        """The pairs of "train", "validation" or "test", in their order."""


class GeneratedPairs(PairSource):
    """Pairs made from a seed."""

    def __init__(self, name: str, **options: Any) -> None:
        # The code decides the pairs as much as the options do.
        code = content_hash(LocalFile(Path(inspect.getfile(GENERATORS[name]))))
        self.content = {"generator": name, "code": code, **options}
        self._make = partial(GENERATORS[name], **options)

    @cached_property
    def _pairs(self) -> dict[str, Pairs]:
        return self._make()

    def read(self, split: str) -> Iterator[Pair]:
        """The pairs of a split."""
        return iter(self._pairs[split])


class StoredPairs(PairSource):
    """Pairs of a file, a folder or a Hub data set; official splits stay as they are.

    Splits that are missing are carved from `train` by a hash of the source side; `undivided`, each
    of them is the whole.
    """

    def __init__(
        self,
        where: Resolved,
        source_column: str,
        target_column: str,
        columns: Sequence[str] | None,
        train_size: int | None,
        undivided: bool = False,
    ) -> None:
        self.where = where
        self.undivided = undivided
        self.names = (source_column, target_column)
        self.columns = columns
        self.train_size = train_size
        self.content = {
            "hash": content_hash(where),
            "columns": [*self.names, list(columns) if columns else None],
            "train_size": train_size,
            "undivided": undivided,
        }

    @cached_property
    def splits(self) -> dict[str, str]:
        """Official splits, each with the data set's own name; looked up when a cache is built."""
        if isinstance(self.where, LocalFile):
            return {"train": "train"}
        splits = hub_splits(self.where)
        if "train" not in splits:
            raise DataError(f"{self.where} has no split train, only {', '.join(splits)}.")
        return splits

    def read(self, split: str) -> Iterator[Pair]:
        """The pairs of a split."""
        if split in self.splits and split != "train":
            return self._stored(self.splits[split])
        if self.undivided:
            return self._stored(self.splits["train"])
        training = self._stored(self.splits["train"])
        return carved_by_hash(training, split, self.splits, self.train_size)

    def _stored(self, name: str) -> Iterator[Pair]:
        if isinstance(self.where, LocalFile):
            return read_pairs(self.where.path, *self.names, self.columns)
        return ((pair[0], pair[1]) for pair in iterate_hub(self.where, name, self.names))


def default_languages(source: str) -> tuple[str, str]:
    """Source and target language when none are given.

    French to English; for a data set of the Hub with two text columns these, English (or else the
    second) being the target.

    Raises:
        DataError: the source cannot be found or read, or has another number of text columns.
    """
    if source in GENERATORS:
        return DEFAULT_LANGUAGES
    where = resolve_source(source, known=GENERATORS)
    if isinstance(where, LocalFile):
        return DEFAULT_LANGUAGES
    names = hub_columns(where)
    if set(DEFAULT_LANGUAGES) <= set(names):
        return DEFAULT_LANGUAGES
    if len(names) != 2:
        raise DataError(
            f"{source} has the text columns {', '.join(names) or 'none'}: name two of them with "
            "--data.source_language and --data.target_language."
        )
    target = "en" if "en" in names else names[1]
    return next(name for name in names if name != target), target


def open_pairs(
    source: str,
    source_language: str,
    target_language: str,
    *,
    columns: Sequence[str] | None,
    train_size: int | None,
    digits: int | None,
    seed: int,
    undivided: bool = False,
) -> PairSource:
    """The pairs of a source; see `dlarch.data.translation.TranslationData` for the arguments.

    Raises:
        DataError: the source cannot be found or read.
        OptionError: an option does not fit the source.
    """
    if digits is not None and source != "addition":
        raise OptionError(f"digits are those of the operands of addition; {source} has none.")
    if source not in GENERATORS:
        where = resolve_source(source, known=GENERATORS)
        languages = (source_language, target_language)
        return StoredPairs(where, *languages, columns, train_size, undivided)
    if undivided:
        raise OptionError(f"The source {source} is generated, test pairs and all: no test_all.")
    if columns is not None:
        raise OptionError(f"The source {source} is generated: it has no columns; leave them out.")
    options: dict[str, Any] = {"seed": seed}
    if source in WITH_LANGUAGES:
        options |= {"source_language": source_language, "target_language": target_language}
    if source == "addition":
        options["digits"] = 3 if digits is None else digits
    if train_size is not None:
        options["train"] = train_size
    return GeneratedPairs(source, **options)
