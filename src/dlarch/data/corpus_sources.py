"""Long texts and documents by split: files, folders of files, what is generated, tables."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from dlarch.data.readers import as_utf8, read_lines
from dlarch.data.resolve import LocalFile, LocalFolder, content_hash
from dlarch.data.splits import SPLIT_NAMES, SPLITS
from dlarch.data.text_sources import LabelledText, TextSource
from dlarch.errors import DataError, OptionError

SUFFIXES = (".txt", ".md", ".abc")
"""Endings of the texts in a folder, each also with .gz behind it."""

BLOCK = 1 << 16
"""Bytes that are read at a time."""

PIECE = 1 << 14
"""Characters of a long text that are encoded at a time, about."""


@dataclass(frozen=True)
class Shares:
    """How much is held out where there are no official splits.

    Attributes:
        validation: share for validation, above 0.
        test: share for the test; with 0 the test scores the validation split.
    """

    validation: float
    test: float

    def __post_init__(self) -> None:
        if not 0 < self.validation < 1 or not 0 <= self.test < 1 - self.validation:
            raise OptionError(
                "validation_share must be above 0, test_share at least 0, and both together below "
                f"1, not {self.validation} and {self.test}."
            )

    def of(self, split: str, official: Iterable[str] = ()) -> tuple[float, float]:
        """Where a split that is carved from train begins and ends, 0 to 1."""
        test = 0.0 if "test" in official else self.test
        validation = 0.0 if "validation" in official else self.validation
        if split == "test" and not test and "validation" not in official:
            split = "validation"
        first, second = 1 - validation - test, 1 - test
        return {"train": (0.0, first), "validation": (first, second), "test": (second, 1.0)}[split]


# ---- files


class TextFiles:
    """The files of a source by split; those of splits that are not official are in train.

    Args:
        where: a file, a folder of files, or one with folders or files called after the splits.

    Raises:
        DataError: there is none.
    """

    def __init__(self, where: LocalFile | LocalFolder) -> None:
        self.content = content_hash(where)
        if isinstance(where, LocalFile):
            self.by_split: Mapping[str, Sequence[Path]] = {"train": [where.path]}
            return
        found = sorted(path for path in where.path.rglob("*") if is_text(path))
        official = {
            split: [path for path in found if _split_of(path, where.path) == split]
            for split in SPLITS
        }
        self.by_split = {split: paths for split, paths in official.items() if paths}
        if "train" not in self.by_split:
            self.by_split = {"train": found}
        if not found:
            raise DataError(f"{where} holds no texts ({', '.join(SUFFIXES)}).")

    def __getitem__(self, split: str) -> Sequence[Path]:
        return self.by_split[split]


def is_text(path: Path) -> bool:
    """Whether a file is one of those that are read in a folder; a README tells of the others."""
    suffix = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    other = path.name.startswith(".") or path.stem.upper() == "README"
    return suffix.lower() in SUFFIXES and path.is_file() and not other


def _split_of(path: Path, root: Path) -> str | None:
    """The split after which a file, or the folder in the root that holds it, is called."""
    name = path.relative_to(root).parts[0].split(".")[0]
    return next((split for split, names in SPLIT_NAMES.items() if name in names), None)


def read_text(path: Path) -> Iterator[str]:
    """The text of a file in blocks, its lines ending in LF.

    Raises:
        DataError: it cannot be read, or is not text in UTF-8; names file and byte.
    """
    opened: Callable[..., Any] = gzip.open if path.suffix == ".gz" else open
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    newlines = io.IncrementalNewlineDecoder(None, translate=True)
    offset = 0  # of the block in the file
    try:
        with opened(path, "rb") as file:
            for block in chain(_blocks(file), [b""]):
                if (null := block.find(b"\0")) >= 0:
                    raise DataError(
                        f"{path}: a NUL byte at offset {offset + null} of the file; "
                        f"{as_utf8(b'' if offset else block)}."
                    )
                before = len(decoder.getstate()[0])
                try:
                    text = decoder.decode(block, final=not block)
                except UnicodeDecodeError as error:
                    place = offset - before + error.start
                    raise DataError(
                        f"{path}: byte 0x{error.object[error.start]:02x} at offset {place} of the "
                        f"file is not UTF-8; {as_utf8(b'' if offset else block)}."
                    ) from error
                offset += len(block)
                yield newlines.decode(text, final=not block)
    except (OSError, EOFError) as error:  # EOFError: a .gz that was cut short
        raise DataError(f"{path} cannot be read: {error}.") from error


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    return iter(lambda: file.read(BLOCK), b"")


# ---- one long text per split


class LongText(TextSource):
    """Files that follow each other as one text, divided by position where it is not yet.

    `read` gives pieces that follow each other, cut at the ends of lines or words.
    """

    def __init__(self, files: TextFiles, shares: Shares) -> None:
        self.files, self.shares = files, shares
        self.content = {"hash": files.content, "shares": [shares.validation, shares.test]}
        self._characters: int | None = None

    def read(self, split: str) -> Iterator[LabelledText]:
        """The pieces of a split.

        Raises:
            DataError: there is no text for it.
        """
        official = self.files.by_split
        paths = self.files[split if split in official else "train"]
        called = ", ".join(map(str, paths[:3])) + (", ..." if len(paths) > 3 else "")
        if split in official and split != "train":
            if not any(_joined(paths)):
                raise DataError(f"{called} is empty: write something, or remove it.")
            return _pieces(_joined(paths))
        if self._characters is None:
            self._characters = sum(map(len, _joined(paths)))
        start, stop = (int(self._characters * share) for share in self.shares.of(split, official))
        if not self._characters:
            raise DataError(f"{called} is empty: write something, or give another text.")
        if start == stop:
            raise DataError(
                f"{called} holds {self._characters} characters, of which none are left for "
                f"{split}: give more text, or another validation_share or test_share."
            )
        return _pieces(_between(_joined(paths), start, stop))


def _joined(paths: Sequence[Path]) -> Iterator[str]:
    """The blocks of all files, each beginning on a line of its own."""
    last = "\n"
    for path in paths:
        if last != "\n":
            yield "\n"
        for block in read_text(path):
            last = block[-1:] or last
            yield block


def _between(blocks: Iterator[str], start: int, stop: int) -> Iterator[str]:
    """Characters `start` to `stop`."""
    at = 0
    for block in blocks:
        if at >= stop:
            return
        yield block[max(start - at, 0) : stop - at]
        at += len(block)


def _pieces(blocks: Iterator[str]) -> Iterator[LabelledText]:
    """Blocks as pieces, which are cut between lines or words unless one is longer than a piece."""
    rest = ""
    for block in blocks:
        rest += block
        while len(rest) > PIECE:
            cut = max(rest.rfind("\n", 0, PIECE), rest.rfind(" ", 0, PIECE)) + 1 or PIECE
            yield rest[:cut], None
            rest = rest[cut:]
    if rest:
        yield rest, None


# ---- documents


class Documents(TextSource):
    """Documents that are divided by a hash of each, so that equal ones stay together.

    Args:
        content: what they depend on.
        stored: gives those of an official split.
        shares: of what is held out.
        official: the splits that there are.
    """

    def __init__(
        self,
        content: Any,
        stored: Callable[[str], Iterable[str]],
        shares: Shares,
        official: Iterable[str] = ("train",),
    ) -> None:
        self.content = {"hash": content, "shares": [shares.validation, shares.test]}
        self.shares = shares
        self._stored, self._official = stored, set(official)

    def read(self, split: str) -> Iterator[LabelledText]:
        """The documents of a split."""
        if split in self._official and split != "train":
            start, stop, documents = 0.0, 1.0, self._stored(split)
        else:
            start, stop = self.shares.of(split, self._official)
            documents = self._stored("train")
        for document in documents:
            if start <= zlib.crc32(document.encode()) / 2**32 < stop:
                yield document, None


def file_documents(files: TextFiles, shares: Shares) -> Documents:
    """Each file of a folder is a document; of a single file each paragraph, by empty lines."""

    def stored(split: str) -> Iterator[str]:
        paths = files[split]
        if files.by_split == {"train": paths} and len(paths) == 1:
            yield from _paragraphs(paths[0])
            return
        for path in paths:
            text = "".join(read_text(path))
            if not text.strip():
                raise DataError(f"{path} is empty: write something, or remove it.")
            yield text

    return Documents(files.content, stored, shares, files.by_split)


def _paragraphs(path: Path) -> Iterator[str]:
    lines: list[str] = []
    empty = True
    for _, line in chain(read_lines(path), [(0, "")]):
        if line.strip():
            lines.append(line + "\n")
        elif lines:
            yield "".join(lines)
            lines, empty = [], False
    if empty:
        raise DataError(f"{path} is empty: write something, or give another text.")


# ---- both from what is generated or stored in rows


class Sequenced(TextSource):
    """Documents as one long text per split, divided by position.

    Args:
        content: what they depend on.
        documents: gives all of them.
        between: what stands after each.
        shares: of what is held out.
    """

    def __init__(
        self, content: Any, documents: Callable[[], Sequence[str]], between: str, shares: Shares
    ) -> None:
        self.content = {"hash": content, "shares": [shares.validation, shares.test]}
        self.documents, self.between, self.shares = documents, between, shares

    def read(self, split: str) -> Iterator[LabelledText]:
        """The pieces of a split."""
        documents = self.documents()
        start, stop = (round(len(documents) * share) for share in self.shares.of(split))
        return _pieces(document + self.between for document in documents[start:stop])


class JoinedRows(TextSource):
    """Texts as one long text per split, each on lines of its own."""

    def __init__(self, texts: TextSource) -> None:
        self.texts = texts
        self.content = {"joined": texts.content}

    def read(self, split: str) -> Iterator[LabelledText]:
        """The pieces of a split."""
        return _pieces(text.removesuffix("\n") + "\n" for text, _ in self.texts.read(split))
