"""Checkpoint files: written whole or not at all, read without ever running code from them."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from dlarch.errors import CheckpointError, RunError

FORMAT = 1
"""Newest checkpoint format that this dlarch reads; tasks write it as `["dlarch"]["format"]`."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoint files that a kill, a full disk or a stranger cannot spoil.

    Lightning's own writes to a temporary folder and moves the file, which is not atomic between
    file systems. Remote paths (`s3://...`) are left to Lightning when writing.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write `checkpoint` to `path`; see `save_checkpoint`."""
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
        else:
            save_checkpoint(checkpoint, path)

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Callable[..., Any] | None = None,  # noqa: ARG002
        weights_only: bool | None = None,  # noqa: ARG002
    ) -> dict[str, Any]:
        """Read `path` onto the CPU, always with `weights_only=True`; see `load_checkpoint`."""
        return load_checkpoint(path)


def save_checkpoint(checkpoint: dict[str, Any], path: str | Path) -> None:
    """Write beside the final name, sync, then rename: `path` is always whole, old or new.

    Raises:
        RunError: the file cannot be written; what was at `path` is still there.
    """
    path = Path(path)
    # A fixed name: with a process id in it, leftovers of killed runs would pile up.
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            _write(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            reason = error.strerror or str(error)
            raise RunError(
                f"The checkpoint {path} cannot be written ({reason}); make room or choose another "
                "folder with DLARCH_RUNS. An earlier checkpoint of that name is kept."
            ) from error
        raise


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU without running any code that it may contain.

    Raises:
        CheckpointError: it is missing, truncated, damaged, no checkpoint, or needs code to be run.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise CheckpointError(f"There is no checkpoint file at {path}.")
        if _holds_script(path):
            raise CheckpointError(_refusal(path))
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except PermissionError as error:
        raise CheckpointError(f"The checkpoint {path} may not be read by this user.") from error
    except Exception as error:  # torch, zipfile and pickle raise a dozen kinds on damaged files
        raise CheckpointError(_what_is_wrong(path, error)) from error
    if not isinstance(checkpoint, dict):
        raise CheckpointError(
            f"{path} is no Lightning checkpoint: it holds a {type(checkpoint).__name__}."
        )
    return checkpoint


def _holds_script(path: Path) -> bool:
    """Whether a file is TorchScript, which torch.load runs before 2.6 even with weights_only."""
    try:
        with torch.serialization._open_zipfile_reader(str(path)) as reader:
            return bool(torch.serialization._is_torchscript_zip(reader))
    except RuntimeError:  # no archive, or a damaged one, of which torch.load tells more
        return False


def require_dlarch(checkpoint: dict[str, Any], path: str | Path) -> None:
    """Check that `checkpoint`, read from `path`, was written by a dlarch no newer than this one.

    Raises:
        CheckpointError: it was not.
    """
    added = checkpoint.get("dlarch")
    form = added.get("format") if isinstance(added, dict) else None
    if not isinstance(form, int) or "state_dict" not in checkpoint:
        raise CheckpointError(
            f"{path} was not written by dlarch; give a run folder or a .ckpt file of `dlarch fit`."
        )
    if form > FORMAT:
        raise CheckpointError(
            f"{path} has format {form} and this dlarch reads up to {FORMAT}: update dlarch."
        )


def _write(checkpoint: dict[str, Any], file: IO[bytes]) -> None:
    """`torch.save`, which reports a full disk as a RuntimeError, with the OSError behind it."""
    remembered = _RememberingFile(file)
    try:
        torch.save(checkpoint, remembered)  # type: ignore[arg-type]
    except RuntimeError:
        if remembered.error is not None:
            raise remembered.error from None
        raise


class _RememberingFile:
    """A file for writing that keeps the error which torch's C++ writer swallows."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()


def _what_is_wrong(path: Path, error: Exception) -> str:
    with path.open("rb") as file:
        start = file.read(4)
    if start[:1] == b"\x80" and isinstance(error, pickle.UnpicklingError):
        return _refusal(path)
    if start != b"PK\x03\x04":
        return f"{path} is no PyTorch checkpoint."
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip() is not None
    except Exception:  # a damaged archive raises whatever its bytes lead to
        damaged = True
    if damaged:
        return (
            f"The checkpoint {path} is truncated or damaged; use another one, such as best.ckpt or "
            "last.ckpt of the same run."
        )
    if isinstance(error, pickle.UnpicklingError):
        return _refusal(path)
    return f"{path} is no PyTorch checkpoint that this torch ({torch.__version__}) can read."


def _refusal(path: Path) -> str:
    return (
        f"The checkpoint {path} holds Python objects that would run code when loaded, so it is "
        "refused; only tensors and plain values are read."
    )
