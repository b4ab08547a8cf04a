"""Pretrained word vectors, read into one table in the order of a vocabulary, and written.

What a file holds is seen from its content, whatever its name:

- text: a word and its numbers on each line, separated by spaces (GloVe), with or without a first
  line "COUNT DIMENSION" (word2vec, fastText's .vec);
- word2vec binary: the line "COUNT DIMENSION", then a word, a space and DIMENSION little-endian
  float32 for each word, with or without a line end after them;
- either of them compressed with gzip;
- a folder: a spaCy model with vectors, or its folder vocab (needs spaCy).

Files are streamed: memory grows with the vocabulary, not with the file. Every line of a text is
checked for its encoding and the count of its numbers, but only the numbers of wanted words are
parsed. Of a word that comes twice the first counts.
"""

from __future__ import annotations

import gzip
import io
import logging
import re
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dlarch.errors import DataError, OptionError
from dlarch.spec import PAD, SPECIAL_TOKENS

logger = logging.getLogger(__name__)

MAX_LINE_BYTES = 1 << 20
"""A longer line is taken for a file that is not text, before it fills the memory."""

MAX_WORD_BYTES = 1 << 12
"""A longer word in a binary file is taken for a damaged file."""

MAX_DIMENSION = 1 << 16
"""A header that promises more numbers per word is taken for a damaged one."""

_CHUNK = 1 << 18
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

_Vector = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)  # tensors have no equality of one truth value
class AlignedVectors:
    """Word vectors in the order of a vocabulary.

    Attributes:
        table: float32 (V, E), one row for each token, as `nn.Embedding.from_pretrained` takes it.
        found: boolean (V,), whether the row comes from the file.
        coverage: share of the tokens that are not special whose row comes from the file, 0 to 1.
    """

    table: Tensor
    found: Tensor
    coverage: float


def read_vectors(
    path: Path | str,
    tokens: Sequence[str],
    *,
    special: int = len(SPECIAL_TOKENS),
    dimension: int | None = None,
    other_cases: bool = True,
    seed: int = 0,
) -> AlignedVectors:
    """Read the vectors of a vocabulary.

    A token is looked up as it stands, then lower-cased, then title-cased (`str.title`): the first
    of the three that the file has is taken. Special tokens are looked up only as they stand.

    The row of `<pad>` is zeros. Any other row without a vector is drawn from a normal distribution
    with the mean and the standard deviation, dimension by dimension, of the rows that were found;
    the draw depends on `seed` and no global random state.

    Args:
        path: a file of word vectors, or the folder of a spaCy model; see the head of this module.
        tokens: V tokens in the order of their ids, as `TextProcessor.tokens_by_id` has them.
        special: so many of the first tokens are the special ones of `dlarch.spec`; 0 for a list of
            words alone, of which none is padding.
        dimension: numbers per word that the caller needs, E; None takes what the file has.
        other_cases: whether the lower-cased and the title-cased form are tried too.
        seed: of the draw for tokens without a vector.

    Raises:
        OptionError: the first tokens are not the special ones, or an option cannot be used.
        DataError: the file is missing, empty, damaged or of an unknown format, has vectors of
            another dimension, or none for any of the tokens.
    """
    path = Path(path)
    _check_options(tokens, special, dimension)
    wanted = _wanted_forms(tokens, special, other_cases)
    used = np.full(len(tokens), _NO_FORM, dtype=np.uint8)  # which form of each token was found
    table: _Vector | None = None
    for word, vector in _vectors(path, wanted, dimension):
        if table is None:
            table = np.zeros((len(tokens), len(vector)), dtype=np.float32)
        for row, form in wanted.pop(word):  # so that a second time it is no longer wanted
            if form < used[row]:
                table[row] = vector
                used[row] = form
    found = used < _NO_FORM
    words = len(tokens) - special
    if table is None or not found[special:].any():
        examples = ", ".join(repr(token) for token in tokens[special : special + 3])
        raise DataError(
            f"{path} has a vector for none of the {words} words ({examples or 'no words at all'}); "
            "give vectors of the same language, and a vocabulary of words."
        )
    _fill_missing(table, found, special, seed)
    count = int(found[special:].sum())
    logger.info(
        "%s has vectors for %d of %d words (%.1f %%).", path, count, words, 100 * count / words
    )
    return AlignedVectors(torch.from_numpy(table), torch.from_numpy(found), count / words)


def write_vectors(path: Path | str, tokens: Sequence[str], table: Tensor) -> None:
    """Write vectors as word2vec text; reading them back gives equal float32 values.

    The file is written beside its final name, then renamed.

    Args:
        path: the file; its folder is made.
        tokens: V tokens, none empty or with white space in it.
        table: (V, E), the vectors in the order of the tokens.

    Raises:
        OptionError: the table does not have one row for each token.
        DataError: a token or a number cannot be written in this format, or the file not at all.
    """
    path = Path(path)
    if table.dim() != 2 or len(table) != len(tokens) or 0 in table.shape:
        raise OptionError(
            f"{len(tokens)} tokens need a table of the shape ({len(tokens)}, numbers per word), "
            f"not {tuple(table.shape)}."
        )
    table = table.detach().to("cpu", torch.float32)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(b"%d %d\n" % tuple(table.shape))
            for token, row in zip(tokens, table, strict=True):
                file.write(_text_line(path, token, row))
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise DataError(f"{path} cannot be written: {error.strerror or error}.") from error
        raise


def _text_line(path: Path, token: str, row: Tensor) -> bytes:
    try:
        word = token.encode("utf-8")
    except UnicodeEncodeError:
        word = b""
    if word.split() != [word]:
        raise DataError(
            f"{path} cannot hold the token {token!r}: a word must be valid Unicode, not empty and "
            "without white space; leave out this token and its row."
        )
    if not torch.isfinite(row).all():
        raise DataError(
            f"{path}: the vector of {token!r} holds a number that is not finite; leave out this "
            "token and its row."
        )
    # Nine digits tell every two float32 apart.
    return word + "".join(f" {number:.9g}" for number in row.tolist()).encode("ascii") + b"\n"


# The vocabulary -----------------------------------------------------------------------------

_NO_FORM = 3


def _check_options(tokens: Sequence[str], special: int, dimension: int | None) -> None:
    if not 0 <= special <= len(SPECIAL_TOKENS):
        raise OptionError(f"special must be 0 to {len(SPECIAL_TOKENS)}, not {special}.")
    if tuple(tokens[:special]) != SPECIAL_TOKENS[:special]:
        raise OptionError(
            f"The vocabulary must begin with {', '.join(SPECIAL_TOKENS[:special])}, not with "
            f"{', '.join(map(repr, tokens[:special])) or 'nothing'}; for a list of words alone say "
            "special=0."
        )
    if dimension is not None and dimension < 1:
        raise OptionError(f"dimension must be at least 1, not {dimension}.")


def _wanted_forms(
    tokens: Sequence[str], special: int, other_cases: bool
) -> dict[bytes, list[tuple[int, int]]]:
    """(row, 0 as it stands, 1 lower-cased or 2 title-cased) of all rows that a word may fill."""
    wanted: dict[bytes, list[tuple[int, int]]] = {}
    for row, token in enumerate(tokens):
        if special and row == PAD:
            continue
        forms = [token]
        if other_cases and row >= special:
            forms += [token.lower(), token.title()]
        for form, word in enumerate(forms):
            if word not in forms[:form]:
                # Half a character cannot be encoded strictly; no file has it.
                encoded = word.encode("utf-8", "surrogatepass")
                wanted.setdefault(encoded, []).append((row, form))
    return wanted


def _fill_missing(table: _Vector, found: npt.NDArray[np.bool_], special: int, seed: int) -> None:
    """Draw the rows that were not found; until then they are zeros."""
    count = int(found.sum())
    mean = table.sum(axis=0, dtype=np.float64) / count
    squares = np.einsum("ve,ve->e", table, table, dtype=np.float64) / count
    deviation = np.sqrt(np.maximum(squares - mean**2, 0.0))
    generator = np.random.default_rng(seed)
    for row in np.flatnonzero(~found):
        if not special or row != PAD:
            table[row] = generator.normal(mean, deviation)


# The file -----------------------------------------------------------------------------------


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


def _vectors(
    path: Path, wanted: Collection[bytes], dimension: int | None
) -> Iterator[tuple[bytes, _Vector]]:
    """The wanted words of a file or folder with their vectors (E,), all of one length."""
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


def _open(path: Path) -> io.BufferedReader:
    """The file's bytes, unpacked."""
    with path.open("rb") as file:
        start = file.read(8)
    for mark, what in _FOREIGN:
        if start.startswith(mark):
            raise DataError(f"{path} {what}.")
    packed = start.startswith(_GZIP)
    stream = gzip.GzipFile(path, "rb") if packed else path.open("rb", buffering=0)
    return io.BufferedReader(cast(io.RawIOBase, stream), _CHUNK)


def _file_vectors(
    path: Path, file: io.BufferedReader, wanted: Collection[bytes], dimension: int | None
) -> Iterator[tuple[bytes, _Vector]]:
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
        start = file.peek(_CHUNK)[: MAX_WORD_BYTES + 4 * layout.dimension]
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
) -> Iterator[tuple[bytes, _Vector]]:
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


def _parse(layout: _Layout, number: int, fields: list[bytes]) -> _Vector:
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


def _check_finite(layout: _Layout, where: str, vector: _Vector) -> None:
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
) -> Iterator[tuple[bytes, _Vector]]:
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
            if not (more := file.read(_CHUNK)):
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
) -> Iterator[tuple[bytes, _Vector]]:
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
        from spacy.vectors import Vectors  # type: ignore[import-not-found]
    except ImportError as error:
        raise DataError(f"To read the spaCy model {path}, pip install spacy.") from error
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
