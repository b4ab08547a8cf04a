"""Caches: what was decoded once, kept in the user's cache folder, keyed by content and settings."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from dlarch.errors import DataError

logger = logging.getLogger(__name__)

FINGERPRINT = "fingerprint"
"""File of a cache that holds the content hash of the training split."""

MANIFEST = "manifest.json"
"""Sizes of the files of a complete cache; written last."""


def cache_root() -> Path:
    """`$DLARCH_CACHE`, else the user's cache folder."""
    given = os.environ.get("DLARCH_CACHE")
    if given:
        return Path(given).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "dlarch"


def cache_key(settings: Mapping[str, Any]) -> str:
    """A name for what these settings (JSON types) make."""
    text = json.dumps(settings, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def cached(kind: str, key: str, build: Callable[[Path], None]) -> Path:
    """The folder that `build` filled, built now if it is missing, damaged or was cut short.

    Built under a temporary name and renamed, by one process at a time.

    Args:
        kind: name of the data module; a folder of the cache.
        key: from `cache_key`.
        build: fills the empty folder that it is given.

    Raises:
        DataError: the cache folder cannot be written.
    """
    folder = cache_root() / kind / key
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(str(folder) + ".lock"):
            if _complete(folder):
                return folder
            if folder.exists():
                logger.warning("The cache %s is incomplete or damaged; building it anew.", folder)
                shutil.rmtree(folder)
            unfinished = folder.with_name(f".{key}.building")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            try:
                build(unfinished)
                _write_manifest(unfinished)
            except BaseException:
                shutil.rmtree(unfinished, ignore_errors=True)
                raise
            unfinished.rename(folder)
    except OSError as error:
        raise DataError(
            f"The cache folder {folder.parent} cannot be used ({error.strerror or error}): free "
            "space there, or set DLARCH_CACHE to another folder."
        ) from error
    return folder


def _write_manifest(folder: Path) -> None:
    sizes = {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    (folder / MANIFEST).write_text(json.dumps(sizes), encoding="utf-8")


def _complete(folder: Path) -> bool:
    try:
        sizes = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):  # AttributeError: JSON, but no manifest
        return False
