"""Pretrained word vectors in the order of a vocabulary: read into one table, and written.

What files they come from is said in `dlarch.processing.vector_files`. Memory grows with the
vocabulary, not with the file. Of a word that comes twice the first counts.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dlarch.errors import DataError, OptionError, check_at_least_1
from dlarch.processing.vector_files import Vector, stream_vectors
from dlarch.spec import PAD, SPECIAL_TOKENS

logger = logging.getLogger(__name__)


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
        path: a file of word vectors, or the folder of a spaCy model; see `stream_vectors`.
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
    table: Vector | None = None
    for word, vector in stream_vectors(path, wanted, dimension):
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
    check_at_least_1(dimension=dimension)


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


def _fill_missing(table: Vector, found: npt.NDArray[np.bool_], special: int, seed: int) -> None:
    """Draw the rows that were not found; until then they are zeros."""
    count = int(found.sum())
    mean = table.sum(axis=0, dtype=np.float64) / count
    squares = np.einsum("ve,ve->e", table, table, dtype=np.float64) / count
    deviation = np.sqrt(np.maximum(squares - mean**2, 0.0))
    generator = np.random.default_rng(seed)
    for row in np.flatnonzero(~found):
        if not special or row != PAD:
            table[row] = generator.normal(mean, deviation)
