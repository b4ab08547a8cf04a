"""Texts with or without a class, by split, whatever they come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dlarch.data.hub_rows import hub_features, hub_records, hub_splits
from dlarch.data.readers import read_lines, read_rows
from dlarch.data.resolve import (
    FILE_SUFFIXES,
    HubId,
    LocalFile,
    LocalFolder,
    content_hash,
    resolve_source,
)
from dlarch.data.splits import carved_by_hash, split_folders
from dlarch.errors import DataError, did_you_mean

LabelledText = tuple[str, str | None]
"""A text, and the name of its class if it has one."""


class TextSource(ABC):
    """Texts that can be read as often as needed, without holding them in memory.

    Attributes:
        content: what the texts depend on, in JSON types.
        label_name: what the classes are of, such as "language"; None for texts without.
        class_names: in the order of the labels where that is known beforehand, else None.
    """

    content: dict[str, Any]
    label_name: str | None = None
    class_names: list[str] | None = None

    @abstractmethod
    def read(self, split: str) -> Iterator[LabelledText]:
        """The texts of "train", "validation" or "test", in their order."""


class DividedTexts(TextSource):
    """Texts whose official splits stay as they are; others are carved from train by a hash."""

    splits: Sequence[str]
    """Which of the three splits are official; "train" is among them."""

    @abstractmethod
    def stored(self, split: str) -> Iterator[LabelledText]:
        """The texts of an official split."""

    def read(self, split: str) -> Iterator[LabelledText]:
        """The texts of a split."""
        if split != "train" and split in self.splits:
            return self.stored(split)
        return carved_by_hash(self.stored("train"), split, self.splits)


class HubTexts(DividedTexts):
    """A data set in the Hub's layout with a column of texts and one of classes."""

    def __init__(
        self, where: LocalFolder | HubId, text_column: str, label_column: str | None
    ) -> None:
        self.where = where
        self._own_names = hub_splits(where)
        if "train" not in self._own_names:
            raise DataError(f"{where} has no split train, only {', '.join(self._own_names)}.")
        self.splits = list(self._own_names)
        features = hub_features(where)
        for name in filter(None, (text_column, label_column)):
            if name not in features:
                raise DataError(
                    f"{where} has no column {name!r}, only {', '.join(features)}."
                    f"{did_you_mean(name, features)}"
                )
        self._columns = (text_column, label_column)
        self.label_name = label_column
        names = getattr(features.get(label_column or ""), "names", None)
        self.class_names = None if names is None else list(names)
        self.content = {"hash": content_hash(where), "columns": [text_column, label_column]}

    def stored(self, split: str) -> Iterator[LabelledText]:
        """The texts of an official split."""
        text_column, label_column = self._columns
        records = hub_records(self.where, self._own_names[split])
        for number, record in enumerate(records, start=1):
            where = f"{self.where}, row {number} of split {split}"
            text = record[text_column]
            if not isinstance(text, str) or not text.strip():
                raise DataError(f"{where}: column {text_column!r} holds no text: remove the row.")
            yield text, None if label_column is None else self._named(record[label_column], where)

    def _named(self, value: Any, where: str) -> str:
        if self.class_names is None:
            if value is None or not str(value).strip():
                raise DataError(f"{where} has no class: remove the row.")
            return str(value)
        if not isinstance(value, int) or not 0 <= value < len(self.class_names):
            raise DataError(f"{where} has no class that there is, but {value!r}: remove the row.")
        return self.class_names[value]


class FileTexts(DividedTexts):
    """A .csv, .tsv or .jsonl file with a column of texts and one of classes, or texts alone."""

    splits = ("train",)

    def __init__(
        self,
        path: Path,
        text_column: str,
        label_column: str | None,
        columns: Sequence[str] | None,
    ) -> None:
        self.path = path
        self.columns = columns
        self.label_name = label_column
        self._asked = [name for name in (text_column, label_column) if name is not None]
        self.content = {
            "hash": content_hash(LocalFile(path)),
            "columns": [*self._asked, list(columns) if columns else None],
        }

    def stored(self, split: str) -> Iterator[LabelledText]:  # noqa: ARG002
        """The rows of the file; of a .txt file without classes its lines."""
        if self.path.suffix.lower() == ".txt" and len(self._asked) == 1 and not self.columns:
            for number, line in read_lines(self.path):
                if not line.strip():
                    raise DataError(f"{self.path}, line {number} is empty: remove it.")
                yield line, None
            return
        check_has_labels(self.path, self._asked, "--data.label_column")
        for text, *label in read_rows(self.path, self._asked, self.columns):
            yield text, label[0].strip() if label else None


class FolderTexts(DividedTexts):
    """A folder with a folder of .txt files per class, directly or within folders for the splits."""

    def __init__(self, folder: Path) -> None:
        self._roots = split_folders(folder)
        self.splits = list(self._roots)
        train = self._roots["train"]
        self.class_names = sorted(path.name for path in train.iterdir() if _holds_texts(path))
        if len(self.class_names) < 2:
            raise DataError(
                f"{train} needs at least two folders of .txt files, one per class; a folder in the "
                "Hub's layout has parquet files."
            )
        self.label_name = "class"
        self.content = {"hash": content_hash(LocalFolder(folder))}

    def stored(self, split: str) -> Iterator[LabelledText]:
        """The files of a split, class after class, sorted."""
        assert self.class_names is not None
        for name in self.class_names:
            for path in sorted((self._roots[split] / name).glob("*.txt")):
                text = "\n".join(line for _, line in read_lines(path))
                if not text.strip():
                    raise DataError(f"{path} is empty: write something, or remove it.")
                yield text, name


def _holds_texts(path: Path) -> bool:
    return path.is_dir() and next(path.glob("*.txt"), None) is not None


def open_texts(
    source: str,
    text_column: str = "text",
    label_column: str | None = "label",
    columns: Sequence[str] | None = None,
) -> TextSource:
    """The texts of a path or Hub id.

    Args:
        source: .csv, .tsv or .jsonl file, folder of class folders, folder in the Hub's layout, or
            Hub id.
        text_column: column of the texts.
        label_column: column of the classes; None reads the texts alone.
        columns: names of the columns of a file without a header, in their order.

    Raises:
        DataError: it cannot be found or read.
    """
    where = resolve_source(source)
    if isinstance(where, LocalFile):
        return FileTexts(where.path, text_column, label_column, columns)
    if isinstance(where, LocalFolder):
        check_has_data(where, "add a folder of .txt files for each class")
        if _holds(where, "txt") and not _holds(where, "parquet"):
            return FolderTexts(where.path)
    return HubTexts(where, text_column, label_column)


def check_has_data(folder: LocalFolder, way_out: str) -> None:
    """Refuse a folder without a file that can be read.

    Raises:
        DataError: there is none.
    """
    if not any(path.suffix.lower() in FILE_SUFFIXES for path in folder.path.rglob("*")):
        raise DataError(f"{folder} holds no data: {way_out}, or parquet files in the Hub's layout.")


def check_has_labels(path: Path, asked: Sequence[str], option: str) -> None:
    """Refuse a .txt file of texts alone of which classes are asked.

    Args:
        path: a file.
        asked: columns that are asked for, the texts first.
        option: that says which column has the classes.

    Raises:
        DataError: its first line is a text alone.
    """
    if path.suffix.lower() != ".txt" or len(asked) < 2:
        return
    _, first = next(read_lines(path), (0, "\t"))
    if "\t" not in first:
        raise DataError(
            f"{path} has a {asked[0]} on each line and no {asked[1]}: say {option} none, or give "
            f"a .csv or .tsv file with the columns {', '.join(asked)}."
        )


def _holds(folder: LocalFolder, ending: str) -> bool:
    return next(folder.path.rglob(f"*.{ending}"), None) is not None
