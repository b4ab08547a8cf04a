"""Where a trained model is, and what is stored of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from dlarch.compat.checkpoint_io import FORMAT, load_checkpoint
from dlarch.errors import CheckpointError, OptionError
from dlarch.hub.remote import download, is_hub_id
from dlarch.processing import Processor, load_processor, processor_from_dict
from dlarch.processing.base import PROCESSOR_FILE, read_json
from dlarch.runs import Run, newest_in, resolve_checkpoint, runs_root

logger = logging.getLogger(__name__)

CONFIG_FILE, WEIGHTS_FILE, CARD_FILE = "config.json", "model.safetensors", "README.md"

PROCESSOR_FILES = (CONFIG_FILE, PROCESSOR_FILE, "*/tokenizer.json")
ALL_FILES = (*PROCESSOR_FILES, WEIGHTS_FILE)
"""What is downloaded; the card is for people."""

RENAMED_ARGUMENTS: dict[tuple[str, str], str] = {}
"""(registry name, argument as it was called) to its name today; applied to all that is stored."""


def rename_arguments(model: str | None, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Stored arguments of the model called `model`, by the names that they have today."""
    return {
        RENAMED_ARGUMENTS.get((model or "", name), name): value for name, value in arguments.items()
    }


def display_name(model: nn.Module) -> str:
    """How messages call a model: its own registry name, or its class."""
    return str(vars(type(model)).get("registry_name") or type(model).__name__)


@dataclass(frozen=True)
class Stored:
    """What is stored of a model.

    Attributes:
        path: pretrained folder or checkpoint file.
        values: what config.json holds, checked.
        checkpoint: content of the file; None for a folder.
    """

    path: Path
    values: dict[str, Any]
    checkpoint: dict[str, Any] | None

    def processor(self) -> Processor | None:
        """The processor, if the model has one."""
        stored = self.values.get("processor")
        if stored is None:
            return None
        if self.checkpoint is None:
            return load_processor(self.path)
        try:
            return processor_from_dict(stored)
        except CheckpointError as error:
            raise CheckpointError(f"{self.path}: {error}") from error

    def weights(self) -> dict[str, Tensor]:
        """Tensors by name."""
        if self.checkpoint is not None:
            weights = self.checkpoint.get("state_dict")
            if not isinstance(weights, dict) or not all(
                isinstance(name, str) and isinstance(weight, Tensor)
                for name, weight in weights.items()
            ):
                raise CheckpointError(f"{self.path} holds no weights.")
            return weights
        path = self.path / WEIGHTS_FILE
        try:
            return load_file(path)
        except FileNotFoundError as error:
            raise CheckpointError(f"{path} does not exist.") from error
        except (OSError, SafetensorError, ValueError) as error:
            raise CheckpointError(
                f"{path} cannot be read ({error}); it may be truncated."
            ) from error


def open_stored(
    where: str | Path, revision: str | None, files: tuple[str, ...] = ALL_FILES
) -> Stored:
    """What is stored at `where`; of a repository only the files that match `files` are fetched.

    Raises:
        CheckpointError: there is nothing, or it is damaged, foreign or of a newer dlarch.
    """
    path = _locate(where, revision, files)
    if path.is_dir():
        return Stored(path, _checked(path, read_json(path / CONFIG_FILE)), None)
    checkpoint = load_checkpoint(path)
    added = checkpoint.get("dlarch")
    if not isinstance(added, dict):
        raise CheckpointError(f"{path} is a checkpoint, but not of a dlarch model.")
    hparams, provenance = checkpoint.get("hyper_parameters"), _provenance_of(path)
    values = _checked(path, {**added, "hparams": hparams, "provenance": provenance})
    return Stored(path, values, checkpoint)


def _checked(path: Path, values: dict[str, Any]) -> dict[str, Any]:
    """The values of config.json, arguments by their names of today."""
    written = values.get("format")
    if not isinstance(written, int) or not isinstance(values.get("class"), str):
        raise CheckpointError(f"{path} was not written by dlarch: it names no class of a model.")
    if written > FORMAT:
        raise CheckpointError(
            f"{path} has format {written}, this dlarch reads up to {FORMAT}: update dlarch."
        )
    kinds = {
        "model": str | None,
        "hparams": dict,
        "spec": dict | None,
        "provenance": dict | None,
    }
    for name, kind in kinds.items():
        if not isinstance(values.get(name), kind):
            raise CheckpointError(f"{path} is damaged: its '{name}' cannot be used.")
    provenance = values.get("provenance") or {}
    for name, kind in {"metrics": dict | None, "command": str | None, "card": dict | None}.items():
        if not isinstance(provenance.get(name), kind):
            raise CheckpointError(f"{path} is damaged: the '{name}' of its provenance is no such.")
    hparams = {str(name): value for name, value in values["hparams"].items()}
    hparams = rename_arguments(values.get("model"), hparams)
    return {**values, "hparams": hparams, "provenance": provenance}


def _provenance_of(checkpoint: Path) -> dict[str, Any]:
    """What RUN/metrics.json tells of the checkpoint that was tested; empty for another one."""
    run = Run(checkpoint.parent.parent)
    tested = run.best_weights if run.best_weights.is_file() else run.last
    if checkpoint != tested or not run.metrics.is_file():
        return {}
    try:
        values = read_json(run.metrics)
    except CheckpointError as error:  # the card can do without
        logger.warning("%s", error)
        return {}
    return {name: values[name] for name in ("metrics", "command") if name in values}


def _locate(where: str | Path, revision: str | None, files: tuple[str, ...]) -> Path:
    """A pretrained folder or a checkpoint file, downloaded if need be."""
    text, path = str(where), Path(where).expanduser()
    is_local = path.exists() or text in ("best", "last") or (runs_root() / text).exists()
    if is_local and revision is not None:
        raise OptionError(f"{text} is on this machine; a revision belongs to an id on the Hub.")
    if (path / CONFIG_FILE).is_file():
        return path
    is_run = path.name == "checkpoints" or Run(path).checkpoints.is_dir()
    if path.is_dir() and not is_run and newest_in(path) is None:
        raise CheckpointError(
            f"{path} is neither a pretrained folder, which has a {CONFIG_FILE}, nor a run folder, "
            "which has checkpoints."
        )
    if is_local:
        return resolve_checkpoint(str(path), prefer="best")
    if not is_hub_id(text):
        raise CheckpointError(
            f"There is no '{text}' here. Give a pretrained folder, a run folder, a checkpoint, "
            "or an id on the Hub such as 'user/model'."
        )
    folder = download(text, revision, files)
    if not (folder / CONFIG_FILE).is_file():
        raise CheckpointError(f"'{text}' on the Hub is no dlarch model: it has no {CONFIG_FILE}.")
    return folder
