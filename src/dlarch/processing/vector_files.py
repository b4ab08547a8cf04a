"""Files of pretrained word vectors, streamed: the words that are wanted, with their vectors.

What a file holds is seen from its content, whatever its name:

- text: a word and its numbers on each line, separated by spaces (GloVe), with or without a first
  line "COUNT DIMENSION" (word2vec, fastText's .vec);
- word2vec binary: the line "COUNT DIMENSION", then a word, a space and DIMENSION little-endian
  float32 for each word, with or without a line end after them;
- either of them compressed with gzip;
- a folder: a spaCy model with vectors, or its folder vocab (`pip install 'dlarch[spacy]'`).

Memory does not grow with a file; of a spaCy model it holds the whole table. Every line of
a text is checked for its encoding and the count of its numbers, but only the numbers of wanted
words are parsed.
"""

from __future__ import annotations

import gzip
import io
import logging
import re
import zlib
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from dlarch.errors import DataError

logger = logging.getLogger(__name__)

Vector = npt.NDArray[np.float32]

MAX_LINE_BYTES = 1 << 20
"""A longer line is taken for a file that is not text, before it fills the memory."""

MAX_WORD_BYTES = 1 << 12
"""A longer word in a binary file is taken for a damaged file."""

MAX_DIMENSION = 1 << 16
"""A header that promises more numbers per word is taken for a damaged one."""

CHUNK = 1 << 18
"""Bytes that are read at a time."""

_header = re.compile(rb"\s*(\d{1,18})\s+(\d{1,18})\s*")
_no_text = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"
_FOREIGN = (
    (b"PK\x03\x04", "is a zip archive: unpack it and name the file in it"),
    (b"\xba\x16\x4f\x2f", "is a model of fastText: give the .vec file that comes with it"),
    (b"\x80", "is a pickle, which is never opened: save the vectors in word2vec format"),
)
_DAMAGED = "the file is damaged: fetch it again, or correct or remove the line"


def stream_vectors(
    path: Path, wanted: Collection[bytes], dimension: int | None = None
) -> Iterator[tuple[bytes, Vector]]:
    """Yield the wanted words of a file or folder with their vectors (E,).

    A word that stands twice in a text or binary file comes twice.

    Args:
        path: a file of word vectors, or the folder of a spaCy model.
        wanted: words in UTF-8; one that is taken out meanwhile is not looked for any more.
        dimension: numbers per word that the caller needs, E; None takes what the file has.

    Raises:
        DataError: the file is missing, empty, damaged or of an unknown format, or has vectors of
            another dimension.
    """
    if path.is_dir():
        yield from _spacy_vectors(path, wanted, dimension)
        return
    try:
        with _open(path) as file:
            yield from _file_vectors(path, file, wanted, dimension)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} cannot be unpacked: {error}; fetch it again.") from error
    except FileNotFoundError as error:
        raise DataError(
            f"{path} does not exist; give the path of a file of word vectors."
        ) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


@dataclass(frozen=True)
class _Layout:
    """What the first line says of the lines after it."""

    path: Path
    dimension: int
    words: int | None  # only a header promises their number

    def check(self, dimension: int | None) -> None:
        """Raise DataError unless the asked dimension, if there is one, is that of the file."""
        if dimension is not None and dimension != self.dimension:
            raise DataError(
                f"{self.path}: the file has {_numbers(self.dimension)} per word, {dimension} are "
                f"asked for: give a file that has {dimension}, or ask for {self.dimension}."
            )

    def check_count(self, words: int) -> None:
        """Warn of a file that ends before all promised words came; raise DataError for none."""
        if words == 0:
            raise DataError(f"{self.path} holds no words; give another file of word vectors.")
        if self.words is not None and words < self.words:
            logger.warning(
                "%s promises %d words in its first line, but holds %d; if words are missing that "
                "should be there, fetch the file again.",
                self.path,
                self.words,
                words,
            )


def _open(path: Path) -> io.BufferedReader:
    """The file's bytes, unpacked."""
    with path.open("rb") as file:
        start = file.read(8)
    for mark, what in _FOREIGN:
        if start.startswith(mark):
            raise DataError(f"{path} {what}.")
    packed = start.startswith(_GZIP)
    stream = gzip.GzipFile(path, "rb") if packed else path.open("rb", buffering=0)
    return io.BufferedReader(cast(io.RawIOBase, stream), CHUNK)


def _file_vectors(
    path: Path, file: io.BufferedReader, wanted: Collection[bytes], dimension: int | None
) -> Iterator[tuple[bytes, Vector]]:
    lines = _lines(path, file)
    number, first = next(lines, (0, b""))
    if number == 0:
        raise DataError(f"{path} is empty; give a file of word vectors.")
    if header := _header.fullmatch(first):
        layout = _Layout(path, int(header[2]), int(header[1]))
        if not 0 < layout.dimension <= MAX_DIMENSION:
            raise DataError(
                f"{path}, line {number} promises {_numbers(layout.dimension)} per word; "
                f"1 to {MAX_DIMENSION} can be read, is this a file of word vectors?"
            )
        layout.check(dimension)
        start = file.peek(CHUNK)[: MAX_WORD_BYTES + 4 * layout.dimension]
        if _is_binary(start, layout.dimension):
            yield from _binary_vectors(layout, file, wanted)
            return
    else:
        layout = _Layout(path, _count_numbers(first), None)
        if layout.dimension == 0:
            raise DataError(
                f"{path}, line {number}: no numbers after a word; give a file with a word and its "
                "numbers on each line, separated by spaces."
            )
        layout.check(dimension)
        lines = chain([(number, first)], lines)
    yield from _text_vectors(layout, lines, wanted)


def _lines(path: Path, file: io.BufferedReader) -> Iterator[tuple[int, bytes]]:
    """(number, line) of the lines that are not empty, in UTF-8, without white space at the end."""
    number = 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            raise DataError(
                f"{path}, line {number} is longer than {MAX_LINE_BYTES} bytes; "
                "is this a file of word vectors?"
            )
        if not line.isascii():
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{path}, line {number}: byte 0x{line[error.start]:02x}, the "
                    f"{error.start + 1}. of the line, is not UTF-8; {_DAMAGED}."
                ) from error
            if number == 1:
                line = line.removeprefix(_BYTE_ORDER_MARK)
        if line := line.rstrip():
            yield number, line


def _text_vectors(
    layout: _Layout, lines: Iterator[tuple[int, bytes]], wanted: Collection[bytes]
) -> Iterator[tuple[bytes, Vector]]:
    dimension = layout.dimension
    words = 0
    for number, line in lines:  # millions of them: each of these steps was measured
        words += 1
        if line.count(b" ") == dimension:
            word = line[: line.find(b" ")]
            if word in wanted:
                yield word, _parse(layout, number, line.split(b" ")[1:])
        else:
            word, fields = _split_uneven(layout, number, line)
            if word in wanted:
                yield word, _parse(layout, number, fields)
    layout.check_count(words)


def _split_uneven(layout: _Layout, number: int, line: bytes) -> tuple[bytes, list[bytes]]:
    """Word and numbers of a line with more white space, or less, than one space per number.

    GloVe's words of web pages may have spaces in them (". . .").
    """
    fields = line.split()
    count = len(fields) - 1
    surplus = fields[1 : -layout.dimension]
    if count < layout.dimension or (surplus and all(map(_is_number, surplus))):
        where = "the first line has" if layout.words is None else "the first line promises"
        raise DataError(
            f"{layout.path}, line {number}: {_numbers(count)} instead of the {layout.dimension} "
            f"that {where}; {_DAMAGED}."
        )
    return line.rsplit(None, layout.dimension)[0], fields[-layout.dimension :]


def _parse(layout: _Layout, number: int, fields: list[bytes]) -> Vector:
    try:
        with np.errstate(over="ignore"):  # what is too large becomes infinite
            vector = np.array(list(map(float, fields)), dtype=np.float32)
    except ValueError as error:
        text = next(field for field in fields if not _is_number(field)).decode("utf-8", "replace")
        raise DataError(
            f"{layout.path}, line {number}: {text[:40]!r} is no number; {_DAMAGED}."
        ) from error
    _check_finite(layout, f"line {number}", vector)
    return vector


def _check_finite(layout: _Layout, where: str, vector: Vector) -> None:
    if not np.isfinite(vector).all():
        place = int(np.flatnonzero(~np.isfinite(vector))[0]) + 1
        raise DataError(
            f"{layout.path}, {where}: number {place} of {layout.dimension} is not finite in "
            f"float32; {_DAMAGED}."
        )


def _is_binary(start: bytes, dimension: int) -> bool:
    """Whether what follows a header is float32 and not text.

    Text begins with a word and numbers. Whatever else is either a damaged text or, with bytes that
    no text has, binary.
    """
    fields = start.split(b"\n", 1)[0].split(b" ")[1 : 1 + min(dimension, 2)]
    if fields and all(map(_is_number, fields)):
        return False
    if _no_text.search(start):
        return True
    try:
        start.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.end < len(start)  # else it is a character that the end cuts in two
    return False


def _binary_vectors(
    layout: _Layout, file: io.BufferedReader, wanted: Collection[bytes]
) -> Iterator[tuple[bytes, Vector]]:
    width = 4 * layout.dimension
    words = start = 0
    buffer = b""
    while True:
        space = buffer.find(b" ", start)
        end = space + 1 + width
        if (space if space >= 0 else len(buffer)) - start > MAX_WORD_BYTES:
            raise DataError(
                f"{layout.path}, word {words + 1} is longer than {MAX_WORD_BYTES} bytes; the file "
                f"is damaged or has no {layout.dimension} numbers per word: fetch it again."
            )
        if space < 0 or end > len(buffer):
            if not (more := file.read(CHUNK)):
                break
            buffer, start = buffer[start:] + more, 0
            continue
        words += 1
        word = buffer[start:space].lstrip(b"\n")
        if word in wanted:
            vector = np.frombuffer(buffer, "<f4", layout.dimension, space + 1)
            _check_finite(layout, f"word {words}", vector)
            yield word, vector
        start = end
    if buffer[start:].strip():
        raise DataError(
            f"{layout.path} ends within word {words + 1} of {layout.words}; the file is cut off: "
            "fetch it again."
        )
    layout.check_count(words)


# A spaCy model ------------------------------------------------------------------------------


def _spacy_vectors(
    path: Path, wanted: Collection[bytes], dimension: int | None
) -> Iterator[tuple[bytes, Vector]]:
    """Vectors of a spaCy model; spaCy holds the whole table of the model in memory."""
    # The folder of a package holds that of the model.
    folders = [path / "vocab", path, *sorted(path.glob("*/vocab"))]
    folder = next((folder for folder in folders if (folder / "vectors").is_file()), None)
    if folder is None:
        raise DataError(
            f"{path} is a folder, and no spaCy model: it has no vocab/vectors; name a file of word "
            "vectors, or a model that has them."
        )
    try:
        from spacy.vectors import Vectors
    except ImportError as error:
        raise DataError(f"To read the spaCy model {path}, pip install 'dlarch[spacy]'.") from error
    try:
        vectors: Any = Vectors().from_disk(folder, exclude=["strings"])
        count, size = vectors.shape
    except Exception as error:  # each of the libraries below has its own
        raise DataError(f"{folder} cannot be read by spaCy: {error}.") from error
    if count == 0 or size == 0:
        raise DataError(f"{path} is a spaCy model without vectors; those in _md and _lg have them.")
    layout = _Layout(path, size, None)
    layout.check(dimension)
    for word in list(wanted):
        text = word.decode("utf-8", "replace")
        with suppress(KeyError):
            vector = np.asarray(vectors[text], dtype=np.float32)
            _check_finite(layout, f"word {text!r}", vector)
            yield word, vector


# Numbers ------------------------------------------------------------------------------------


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _count_numbers(line: bytes) -> int:
    """How many fields at the end of a line are numbers; the first field is the word."""
    fields = line.split()
    others = (n for n, field in enumerate(reversed(fields[1:])) if not _is_number(field))
    return next(others, len(fields) - 1)


def _numbers(count: int) -> str:
    return f"{count} number" + ("" if count == 1 else "s")
