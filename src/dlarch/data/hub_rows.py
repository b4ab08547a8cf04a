"""The rows of a data set in the Hub's layout, read a thousand at a time."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlarch.data.readers import unnested
from dlarch.data.resolve import HubId, LocalFolder, folder_of, one_line
from dlarch.data.splits import SPLIT_NAMES
from dlarch.errors import DataError, did_you_mean

_log = logging.getLogger(__name__)


def hub_splits(source: LocalFolder | HubId) -> dict[str, str]:
    """Which of "train", "validation" and "test" a data set has, each with its own name for it.

    Raises:
        DataError: when it cannot be opened, or has none of them.
    """
    folder = folder_of(source)
    names = list(_open(folder))
    found = {}
    for split, usual in SPLIT_NAMES.items():
        own = next((name for name in usual if name in names), None)
        if own is not None:
            found[split] = own
    if not found:
        raise DataError(
            f"{folder} has no split train, validation or test, only {', '.join(names) or 'none'}."
        )
    return found


def hub_columns(source: LocalFolder | HubId) -> list[str]:
    """Names of the columns that hold text in the first row of a data set.

    Raises:
        DataError: when it cannot be opened, or is empty.
    """
    folder = folder_of(source)
    split = next(iter(hub_splits(source).values()))
    first = next(_records(folder, _open(folder)[split]), None)
    if first is None:
        raise DataError(f"{folder} has no rows in split {split}.")
    return [name for name, value in unnested(first).items() if isinstance(value, str)]


def hub_features(source: LocalFolder | HubId) -> Mapping[str, Any]:
    """The columns of a data set by name, each with what `datasets` knows of it.

    Raises:
        DataError: when it cannot be opened.
    """
    rows = _open(folder_of(source))[next(iter(hub_splits(source).values()))]
    return dict(rows.features or {})


@dataclass(frozen=True)
class Classes:
    """Columns of images and labels of a data set, and what the labels are called."""

    columns: tuple[str, str]
    names: list[str]


def hub_classes(
    source: LocalFolder | HubId, image_column: str | None = None, label_column: str | None = None
) -> Classes:
    """Where a data set keeps images and their classes; the only such columns when not given.

    Raises:
        DataError: it cannot be opened, or there is no such column, or are several.
    """
    from datasets import ClassLabel, Image

    folder = folder_of(source)
    features = hub_features(source)
    found: list[str] = []
    for option, asked, kind, called in (
        ("image_column", image_column, Image, "images"),
        ("label_column", label_column, ClassLabel, "class labels"),
    ):
        fitting = [name for name, feature in features.items() if isinstance(feature, kind)]
        if asked is not None and asked not in fitting:
            raise DataError(
                f"{folder} has no column {asked!r} of {called}, only {', '.join(fitting) or 'none'}"
                f".{did_you_mean(asked, fitting)}"
            )
        if asked is None and len(fitting) != 1:
            raise DataError(
                f"{folder} has {len(fitting)} columns of {called} ({', '.join(fitting) or 'none'}):"
                f" name one with {option}."
                if fitting
                else f"{folder} has no column of {called}, only {', '.join(features) or 'none'}."
            )
        found.append(asked or fitting[0])
    return Classes((found[0], found[1]), list(features[found[1]].names))


def hub_records(
    source: LocalFolder | HubId, split: str, encoded: str | None = None
) -> Iterator[dict[str, Any]]:
    """The rows of one split, a thousand in memory at a time.

    Args:
        source: what `resolve_source` gave.
        split: the data set's own name of the split; see `hub_splits`.
        encoded: column of images that are given as the bytes of their files, as {"bytes": ...}.
    """
    folder = folder_of(source)
    rows = _open(folder)[split]
    if encoded is not None:
        from datasets import Image

        rows = rows.cast_column(encoded, Image(decode=False))
    return _records(folder, rows)


def iterate_hub(
    source: LocalFolder | HubId, split: str, columns: Sequence[str]
) -> Iterator[tuple[str, ...]]:
    """Read the texts of some columns of one split, a thousand rows in memory at a time.

    Columns inside a column `translation` are found as well. Rows with an empty field are left out,
    since nobody can mend a data set of the Hub; their number is logged.

    Args:
        source: what `resolve_source` gave.
        split: the data set's own name of the split; see `hub_splits`.
        columns: names of the wanted columns.

    Yields:
        One tuple of len(columns) texts per row.

    Raises:
        DataError: when there is no such split or column, a field is no text, or a file is damaged.
    """
    folder = folder_of(source)
    splits = _open(folder)
    if split not in splits:
        near = did_you_mean(split, splits)
        raise DataError(f"{folder} has no split {split!r}, only {', '.join(splits)}.{near}")
    left_out = 0
    for row, nested in enumerate(_records(folder, splits[split]), start=1):
        record = unnested(nested)
        for name in columns:
            if name not in record:
                raise DataError(
                    f"{folder} has no column {name!r} in split {split}, only {', '.join(record)}."
                    f"{did_you_mean(name, record)}"
                )
            if record[name] is not None and not isinstance(record[name], str):
                raise DataError(
                    f"{folder}, row {row} of split {split}: column {name!r} holds "
                    f"{type(record[name]).__name__}, not text; name another column."
                )
        fields = tuple(record[name] or "" for name in columns)
        if all(field and not field.isspace() for field in fields):
            yield fields
        else:
            left_out += 1
    if left_out:
        _log.warning("%s, split %s: left out %d rows with an empty field", folder, split, left_out)


def _records(folder: Path, dataset: Any) -> Iterator[dict[str, Any]]:
    """The rows of a streamed data set; what its library raises becomes a DataError."""
    batches = dataset.iter(batch_size=1000)
    while True:
        try:
            batch = next(batches, None)
        except Exception as error:  # pyarrow's, json's, datasets' own
            raise DataError(
                f"{folder} cannot be read: {one_line(error)}; are its files whole and of one kind?"
            ) from error
        if batch is None:
            return
        for values in zip(*batch.values(), strict=True):
            yield dict(zip(batch, values, strict=True))


def _open(folder: Path) -> Any:
    """The splits of a folder by name, not yet read."""
    # Old releases of datasets would offer to run it.
    if (folder / f"{folder.name}.py").exists():
        raise DataError(
            f"{folder} holds a loading script, which is never run; place its data as parquet files "
            "under data/ instead."
        )
    from datasets import load_dataset

    try:
        return load_dataset(str(folder.resolve()), streaming=True)
    except Exception as error:
        reason = one_line(error)
        if isinstance(error, FileNotFoundError):  # datasets says so of the folder, in its words
            reason = "it holds no files of data"
        raise DataError(
            f"{folder} is no data set in the Hub's layout (parquet files under data/): {reason}."
        ) from error
