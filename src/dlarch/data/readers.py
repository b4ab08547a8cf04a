"""Rows of local text files, one at a time: .tsv and .txt, .csv, .jsonl and .ndjson.

Files are UTF-8, with or without a byte order mark, lines ending in LF or CRLF. Text comes out as it
stands in the file: TSV knows no quoting, CSV is what Python's csv module reads, JSON Lines is one
object per line (Hugging Face's {"translation": {...}} too). Memory does not grow with the file, and
every error names file and line.

Which column is which, in TSV and CSV:

- A first line that holds the asked names is a header; it may name more columns than are asked for.
- Else the option `columns` names the columns in the order of the file. A file of English TAB French
  has `columns: [en, fr]`; source_language fr and target_language en then read it backwards.
- Else the file has just the asked columns, in the order asked: source, then target.
"""

import codecs
import csv
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dlarch.errors import DataError, did_you_mean

SUFFIXES = (".tsv", ".txt", ".csv", ".jsonl", ".ndjson")
"""Endings of the files that can be read."""

MAX_LINE_BYTES = 1 << 20
"""A longer line is taken for a file that is not text, before it fills the memory."""

_Row = tuple[int, list[str]]
_half_characters = re.compile("[\ud800-\udfff]")


def read_pairs(
    path: Path | str,
    source_column: str,
    target_column: str,
    columns: Sequence[str] | None = None,
) -> Iterator[tuple[str, str]]:
    """Read (source, target) pairs.

    Args:
        path: a file with one of `SUFFIXES`.
        source_column: name of the column of the sources, as a rule its language.
        target_column: name of the column of the targets.
        columns: names of all columns in the order of the file.

    Raises:
        DataError: for anything that keeps the file from being read; see `read_rows`.
    """
    rows = read_rows(path, (source_column, target_column), columns)
    return ((source, target) for source, target in rows)


def read_rows(
    path: Path | str,
    asked: Sequence[str],
    columns: Sequence[str] | None = None,
    allow_empty: bool = False,
) -> Iterator[tuple[str, ...]]:
    """Read the asked columns of a file, in the order asked.

    Args:
        path: a file with one of `SUFFIXES`.
        asked: names of the wanted columns.
        columns: names of all columns in the order of the file; not for JSON Lines.
        allow_empty: take empty fields as they are.

    Yields:
        One tuple of len(asked) texts per row; unless allowed, none is empty or only white space.

    Raises:
        DataError: when the file is missing, a folder, empty, not UTF-8 or not of its format, when a
            column is unknown, a row has another number of columns, or a field is empty.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(
            f"{path} ends in {suffix or 'nothing'!r}, but only {', '.join(SUFFIXES)} can be read; "
            "for parquet give the folder that holds it."
        )
    if len(set(asked)) != len(asked):
        raise DataError(f"The asked columns of {path} are not different: {', '.join(asked)}.")
    rows = 0
    for number, fields in _fields(path, suffix, asked, columns):
        for name, field in zip(asked, () if allow_empty else fields, strict=not allow_empty):
            if not field or field.isspace():
                raise DataError(
                    f"{path}, line {number}: the field of column {name!r} is empty; fill it in or "
                    "remove the line."
                )
        rows += 1
        yield tuple(fields)
    if rows == 0:
        raise DataError(f"{path} holds no rows; give it some lines, or another file as source.")


def read_header(path: Path | str) -> list[str]:
    """The names in the first line of a .csv or .tsv file.

    Raises:
        DataError: when it cannot be read, or the names are not all different.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".tsv"):
        raise DataError(f"{path} ends in {suffix or 'nothing'!r}, but must be .csv or .tsv.")
    _, names = next(_csv_rows(path) if suffix == ".csv" else _tab_rows(path), (0, []))
    if not names:
        raise DataError(f"{path} is empty: its first line must name the columns.")
    if len(set(names)) != len(names) or not all(names):
        raise DataError(
            f"{path}: the first line must name the columns, all differently, but is "
            f"{', '.join(names) or 'empty'}."
        )
    return names


def read_lines(path: Path | str) -> Iterator[tuple[int, str]]:
    """Read (number, line) from a text file, numbers from 1, lines without their ends.

    Empty lines at the end of the file are left out.

    Raises:
        DataError: when the file is missing, a folder, or not text in UTF-8.
    """
    path = Path(path)
    if path.is_dir():
        raise DataError(f"{path} is a folder; name a file in it.")
    try:
        with path.open("rb") as file:
            yield from _decoded_lines(path, file)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def as_utf8(start: bytes) -> str:
    """What to do with a file that is not UTF-8, whose first bytes may tell what it is."""
    sample = start[:1000]
    kind = "UTF-16" if sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else None
    if kind is None and len(sample) > 3:  # of most letters one of two bytes is 0
        for name, high, low in (
            ("UTF-16LE", sample[1::2], sample[::2]),
            ("UTF-16BE", sample[::2], sample[1::2]),
        ):
            if high.count(0) > len(high) / 2 and not low.count(0):
                kind = name
    if kind is None:
        return "convert the file to UTF-8 first"
    return (
        f"it looks like {kind}: save it as UTF-8, such as by `iconv -f {kind} -t UTF-8 OLD > NEW`"
    )


def _decoded_lines(path: Path, file: Any) -> Iterator[tuple[int, str]]:
    offset = 0  # of the line in the file, in bytes
    empty_lines = 0  # seen, but not handed on before another line follows
    number = 0
    while raw := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(raw) > MAX_LINE_BYTES:
            raise DataError(
                f"{path}, line {number} is longer than {MAX_LINE_BYTES} bytes; "
                "is this a text file of one row per line?"
            )
        if (null := raw.find(b"\0")) >= 0:
            raise DataError(
                f"{path}, line {number}: a NUL byte at offset {offset + null} of the file; "
                f"{as_utf8(b'' if offset else raw)}."
            )
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path}, line {number}: byte 0x{raw[error.start]:02x} at offset "
                f"{offset + error.start} of the file is not UTF-8; "
                f"{as_utf8(b'' if offset else raw)}."
            ) from error
        offset += len(raw)
        if number == 1:
            text = text.removeprefix("\ufeff")
        text = text.removesuffix("\n").removesuffix("\r")
        if text:
            yield from ((number - n, "") for n in range(empty_lines, 0, -1))
            empty_lines = 0
            yield number, text
        else:
            empty_lines += 1


def _fields(
    path: Path, suffix: str, asked: Sequence[str], columns: Sequence[str] | None
) -> Iterator[_Row]:
    """(line number, asked fields) of each row."""
    if suffix in (".jsonl", ".ndjson"):
        if columns is not None:
            raise DataError(f"{path} names its columns itself; leave out the option columns.")
        return _json_rows(path, asked)
    rows = _csv_rows(path) if suffix == ".csv" else _tab_rows(path)
    return _picked(path, rows, asked, columns)


def _tab_rows(path: Path) -> Iterator[_Row]:
    for number, line in read_lines(path):
        yield number, line.split("\t")


def _csv_rows(path: Path) -> Iterator[_Row]:
    # Strict: a quote that is never closed is an error, not the rest of the file in one field.
    reader = csv.reader((line + "\n" for _, line in read_lines(path)), strict=True)
    start = 1
    try:
        for row in reader:
            yield start, row
            start = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{path}, line {start}: not CSV ({error}); check the quotes, or write TSV, without any."
        ) from error


def _picked(
    path: Path, rows: Iterator[_Row], asked: Sequence[str], columns: Sequence[str] | None
) -> Iterator[_Row]:
    """The asked fields of rows, whose first may be a header."""
    names = list(columns) if columns is not None else None
    if names is not None:
        _check_columns(path, names, asked, "the option columns")
    indices: list[int] = []
    for number, row in rows:
        if number == 1:
            if set(asked) <= set(row) or row == names:
                if names is not None and row != names:
                    raise DataError(
                        f"The header of {path} is {', '.join(row)}, but the option columns says "
                        f"{', '.join(names)}; leave the option out or make them equal."
                    )
                names = row
                _check_columns(path, names, asked, "its header")
                indices = [names.index(name) for name in asked]
                continue
            if names is None and set(asked) & set(row):
                _check_columns(path, row, asked, "its header")
        if not indices:
            names = names or list(asked)
            indices = [names.index(name) for name in asked]
        assert names is not None
        if len(row) != len(names):
            raise DataError(_wrong_count(path, number, row, names))
        yield number, [row[i] for i in indices]


def _check_columns(path: Path, names: Sequence[str], asked: Sequence[str], where: str) -> None:
    """Raise DataError unless the asked columns are among names that are all different."""
    if len(set(names)) != len(names):
        raise DataError(f"{path} has the same column twice by {where}: {', '.join(names)}.")
    for name in asked:
        if name not in names:
            raise DataError(
                f"{path} has no column {name!r} by {where} ({', '.join(names)})."
                f"{did_you_mean(name, names)}"
            )


def _wrong_count(path: Path, number: int, row: Sequence[str], names: Sequence[str]) -> str:
    found = f"{len(row)} column" + ("" if len(row) == 1 else "s")
    message = f"{path}, line {number}: {found} instead of {len(names)} ({', '.join(names)}); "
    if len(row) > len(names):
        others = [f"other{i}" for i in range(1, len(row) - len(names) + 1)]
        return message + (
            "if all lines have them, name the columns in the order of the file with the option "
            f"columns, such as columns: [{', '.join((*names, *others[:3]))}]."
        )
    return message + "correct or remove the line."


def _json_rows(path: Path, asked: Sequence[str]) -> Iterator[_Row]:
    for number, line in read_lines(path):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            raise DataError(
                f"{path}, line {number}: not JSON ({reason}); write one object per line."
            ) from error
        if not isinstance(record, dict):
            raise DataError(
                f"{path}, line {number}: no JSON object; write one with the keys "
                f"{', '.join(asked)} on each line."
            )
        yield number, _json_fields(path, number, unnested(record), asked)


def _json_fields(
    path: Path, number: int, record: dict[str, Any], asked: Sequence[str]
) -> list[str]:
    fields = []
    for name in asked:
        if name not in record:
            raise DataError(
                f"{path}, line {number}: no key {name!r} among {', '.join(record) or 'none'}."
                f"{did_you_mean(name, record)}"
            )
        field = record[name]
        if not isinstance(field, str):
            raise DataError(
                f"{path}, line {number}: key {name!r} holds {json.dumps(field)[:40]}, not a text; "
                "put it in quotes."
            )
        # Escapes can write what UTF-8 cannot: NUL bytes and halves of characters.
        if "\0" in field or _half_characters.search(field):
            raise DataError(
                f"{path}, line {number}: key {name!r} holds a NUL or half a character "
                "(\\ud800 to \\udfff); correct the escape."
            )
        fields.append(field)
    return fields


def unnested(record: dict[str, Any]) -> dict[str, Any]:
    """A record whose fields stand in {"translation": {...}}, without that layer."""
    inner = record.get("translation")
    return {**record, **inner} if isinstance(inner, dict) else record
