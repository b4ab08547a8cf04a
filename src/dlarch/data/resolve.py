"""Where a `source` is: a local path, a path under $DLARCH_DATA, or a data set of the Hub.

Data sets of the Hub are fetched whole into Hugging Face's own cache and then read like a local
folder of the same layout, so that they can be used again without a network. Only data files are
fetched: no code of a stranger arrives, and none is ever run.
"""

import hashlib
import logging
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from queue import Empty, Queue
from threading import Thread

from dlarch.errors import DataError, did_you_mean

HUB_SECONDS = 6.0
"""How long the Hub may take to answer before the machine counts as offline."""

FILE_SUFFIXES = (".tsv", ".txt", ".csv", ".jsonl", ".ndjson", ".json", ".parquet", ".gz", ".zip")
"""Endings by which a source is taken for a path of a file rather than a Hub id."""

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

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class LocalFolder:
    """A folder on this machine in the Hub's layout, such as parquet files under data/."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class HubId:
    """A data set of the Hugging Face Hub, OWNER/NAME."""

    name: str

    def __str__(self) -> str:
        return str(self.name)


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
                f"The data set {name!r} could not be downloaded: {one_line(error)}; try again, or "
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


def folder_of(source: LocalFolder | HubId) -> Path:
    """The folder of a data set, fetched if need be."""
    return (fetch(source.name) if isinstance(source, HubId) else source).path


def content_hash(source: Resolved) -> str:
    """SHA-256 in hexadecimal of a file's bytes, or of names and bytes of a folder's files.

    Hidden files are left out. Two folders with the same files have the same hash wherever they are.
    """
    if isinstance(source, LocalFile):
        return _file_hash(source.path)
    folder = folder_of(source)
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


def one_line(error: BaseException) -> str:
    """The first line of what a library says, without its full stop."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(".")
