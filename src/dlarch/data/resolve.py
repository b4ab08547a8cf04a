"""Where a `source` is: a local path, a path under $DLARCH_DATA, or a data set of the Hub.

Data sets of the Hub are fetched whole into Hugging Face's own cache and then read like a local
folder of the same layout, so that they can be used again without a network. Only data files are
fetched: no code of a stranger arrives, and none is ever run.
"""

import hashlib
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any

from dlarch.data.readers import unnested
from dlarch.errors import DataError, did_you_mean

HUB_SECONDS = 6.0
"""How long the Hub may take to answer before the machine counts as offline."""

FILE_SUFFIXES = (".tsv", ".txt", ".csv", ".jsonl", ".ndjson", ".json", ".parquet", ".gz", ".zip")
"""Endings by which a source is taken for a path of a file rather than a Hub id."""

SPLIT_NAMES: Mapping[str, Sequence[str]] = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test",),
}
"""Names that data sets of the Hub give to the three official splits."""

_HUB_FILES = (
    "README.md",
    "**.parquet",
    "**.jsonl",
    "**.json",
    "**.csv",
    "**.tsv",
    "**.txt",
    "**.gz",
)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LocalFile:
    """A file on this machine."""

    path: Path


@dataclass(frozen=True)
class LocalFolder:
    """A folder on this machine in the Hub's layout, such as parquet files under data/."""

    path: Path


@dataclass(frozen=True)
class HubId:
    """A data set of the Hugging Face Hub, OWNER/NAME."""

    name: str


Resolved = LocalFile | LocalFolder | HubId


def resolve_source(source: str | Path, known: Iterable[str] = ()) -> Resolved:
    """Find a source: existing local path, then under $DLARCH_DATA, then an id of the Hub.

    Args:
        source: path of a file or folder, or OWNER/NAME. The Hub is not asked yet.
        known: other names the caller accepts, for the hint at a misspelling.

    Raises:
        DataError: when it is no path that exists and cannot be an id of the Hub.
    """
    text = str(source)
    if not text or "\0" in text:
        raise DataError("The source is empty; give a file, a folder or a Hub id OWNER/NAME.")
    candidates = _candidates(text)
    for path in candidates:
        if path.is_file():
            return LocalFile(path)
        if path.is_dir():
            return LocalFolder(path)
    looks_like_file = Path(text).suffix.lower() in FILE_SUFFIXES
    if re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", text) and not looks_like_file:
        return HubId(text)
    places = " or ".join(repr(str(path)) for path in candidates)
    raise DataError(
        f"No file or folder {places}, and {text!r} is no Hub id OWNER/NAME.{_near(text, known)}"
    )


def _candidates(text: str) -> list[Path]:
    """The local paths that a source may mean."""
    paths = [Path(text).expanduser()]
    if root := os.environ.get("DLARCH_DATA"):
        under_root = Path(root).expanduser() / text
        if under_root != paths[0]:  # as for an absolute path
            paths.append(under_root)
    return paths


def _near(text: str, known: Iterable[str] = ()) -> str:
    """A hint at names like the one that was not found."""
    parents = [path.parent for path in _candidates(text)]
    names = list(known)
    for parent in parents:
        if parent.is_dir():
            names += [entry.name for entry in islice(parent.iterdir(), 10_000)]
    if not any(parent.is_dir() for parent in parents):
        return f" There is no folder {str(parents[0])!r} either."
    return did_you_mean(Path(text).name, names)


@cache
def fetch(name: str) -> LocalFolder:
    """The folder of a data set of the Hub, downloaded if need be; offline, one fetched before.

    Raises:
        DataError: when the Hub has no such data set, or cannot be reached within `HUB_SECONDS` and
            none was downloaded before.
    """
    from huggingface_hub import snapshot_download

    reachable = _hub_answers(name)
    try:
        folder = snapshot_download(
            name,
            repo_type="dataset",
            allow_patterns=list(_HUB_FILES),
            local_files_only=not reachable,
        )
    except Exception as error:  # the Hub's library raises those of two HTTP libraries and its own
        if reachable:
            raise DataError(
                f"The data set {name!r} could not be downloaded: {_one_line(error)}; try again, or "
                f"{_how_to_place(name)}."
            ) from error
        raise DataError(
            f"{name!r} is neither here nor under $DLARCH_DATA, and the Hugging Face Hub cannot be "
            f"reached; {_how_to_place(name)}.{_near(name)}"
        ) from error
    return LocalFolder(Path(folder))


def _hub_answers(name: str) -> bool:
    """Whether the Hub can be reached, found out within `HUB_SECONDS`.

    Raises:
        DataError: when it can, but has no such data set.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    answers: Queue[Exception | None] = Queue()

    def ask() -> None:
        try:
            HfApi().dataset_info(name, timeout=HUB_SECONDS * 2 / 3)
            answers.put(None)
        except Exception as error:
            answers.put(error)

    # In a thread, because neither looking up a host nor a server that drips is bounded by timeout.
    Thread(target=ask, daemon=True, name="ask-hub").start()
    try:
        error = answers.get(timeout=HUB_SECONDS)
    except Empty:
        return False
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, HfHubHTTPError) and status in (401, 403, 404):
        raise DataError(
            f"The Hugging Face Hub has no data set {name!r} that you may read; check the name, or "
            "log in with `hf auth login`."
        ) from error
    return error is None


def _how_to_place(name: str) -> str:
    return (
        f"place it at $DLARCH_DATA/{name} in the Hub's layout (parquet files under data/), for "
        f"example with `hf download {name} --repo-type dataset --local-dir $DLARCH_DATA/{name}` "
        "where there is a network"
    )


def hub_splits(source: LocalFolder | HubId) -> dict[str, str]:
    """Which of "train", "validation" and "test" a data set has, each with its own name for it.

    Raises:
        DataError: when it cannot be opened, or has none of them.
    """
    folder = _folder(source)
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
    folder = _folder(source)
    split = next(iter(hub_splits(source).values()))
    first = next(_records(folder, _open(folder)[split]), None)
    if first is None:
        raise DataError(f"{folder} has no rows in split {split}.")
    return [name for name, value in unnested(first).items() if isinstance(value, str)]


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

    folder = _folder(source)
    features = _open(folder)[next(iter(hub_splits(source).values()))].features or {}
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
    folder = _folder(source)
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
    folder = _folder(source)
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
                f"{folder} cannot be read: {_one_line(error)}; are its files whole and of one kind?"
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
        raise DataError(
            f"{folder} is no data set in the Hub's layout (parquet files under data/): "
            f"{_one_line(error)}."
        ) from error


def _folder(source: LocalFolder | HubId) -> Path:
    return (fetch(source.name) if isinstance(source, HubId) else source).path


def content_hash(source: Resolved) -> str:
    """SHA-256 in hexadecimal of a file's bytes, or of names and bytes of a folder's files.

    Hidden files are left out. Two folders with the same files have the same hash wherever they are.
    """
    if isinstance(source, LocalFile):
        return _file_hash(source.path)
    folder = _folder(source)
    total = hashlib.sha256()
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    for name, path in sorted(files.items()):
        if path.is_file() and not any(part.startswith(".") for part in name.split("/")):
            total.update(f"{name}\0{_file_hash(path)}\n".encode())
    return total.hexdigest()


def _file_hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def _one_line(error: BaseException) -> str:
    """The first line of what a library says, without its full stop."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(".")
