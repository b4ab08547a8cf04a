"""What every processor offers, and how one is read back by its type."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from dlarch.errors import CheckpointError, DataError, did_you_mean

FORMAT = 1
"""Version of the stored form; a newer one is refused."""

PROCESSOR_FILE = "processor.json"
"""The file of a folder that says which processor it holds."""


class Processor(ABC):
    """Turns raw examples into a batch of tensors and tensors back into raw examples.

    A subclass names itself with `class MyProcessor(Processor, type="my_task")`, and is then found
    by `processor_from_dict` as soon as its module is imported.
    """

    type: ClassVar[str]

    def __init_subclass__(cls, type: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if type is not None:
            cls.type = type
            _TYPES[type] = cls

    @abstractmethod
    def encode(self, raw: Any) -> Any:
        """The batch (a NamedTuple of dlarch.batches) of a list of raw examples."""

    @abstractmethod
    def decode(self, tensor: Any) -> list[Any]:
        """Raw examples from a tensor that leads with the batch dimension."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Everything there is to know, in JSON types; holds `type` and `format`."""

    @classmethod
    @abstractmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Inverse of `to_dict`."""

    def hash(self) -> str:
        """SHA-256 in hexadecimal over the canonical JSON of `to_dict`."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode("ascii")).hexdigest()

    def save(self, folder: str | Path) -> None:
        """Write `processor.json` into `folder`, which is made if needed."""
        write_json(Path(folder) / PROCESSOR_FILE, self.to_dict())

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            CheckpointError: a file is missing, damaged or of another type.
        """
        path = Path(folder) / PROCESSOR_FILE
        values = read_json(path)
        try:
            owner = _class_of(values)
            processor = processor_from_dict(owner.read_parts(Path(folder), values))
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from error
        if not isinstance(processor, cls):
            raise CheckpointError(
                f"{path} holds a processor of type {processor.type!r}, not {cls.__name__}."
            )
        return processor

    @classmethod
    def read_parts(cls, folder: Path, values: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG003
        """Add to the content of processor.json what `save` wrote into files of their own."""
        return values

    def __eq__(self, other: object) -> bool:
        """Equal when everything that is stored is equal."""
        if not isinstance(other, Processor):
            return NotImplemented
        return self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]


_TYPES: dict[str, type[Processor]] = {}


def processor_from_dict(values: Mapping[str, Any]) -> Processor:
    """The processor that `to_dict` described.

    Raises:
        CheckpointError: the type is unknown, the format newer, or something is missing.
    """
    owner = _class_of(values)
    version = values.get("format", FORMAT)
    if not isinstance(version, int) or version > FORMAT:
        raise CheckpointError(
            f"The processor has format {version!r}, this dlarch reads up to {FORMAT};"
            " install a newer dlarch."
        )
    try:
        return owner.from_dict(values)
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"The stored {owner.type} processor is damaged: {error!r}."
        ) from error


def _class_of(values: Mapping[str, Any]) -> type[Processor]:
    name = values.get("type") if isinstance(values, Mapping) else None
    if not isinstance(name, str):
        raise CheckpointError("A stored processor must be a mapping with a 'type'.")
    if name not in _TYPES:
        raise CheckpointError(
            f"Unknown type of processor {name!r}; import the package that brings it first."
            + did_you_mean(name, _TYPES)
        )
    return _TYPES[name]


def load_processor(folder: str | Path) -> Processor:
    """The processor of any type that was saved in `folder`.

    Raises:
        CheckpointError: a file is missing or damaged.
    """
    return Processor.load(folder)  # type: ignore[type-abstract]


def label_of(name: str, class_names: Sequence[str]) -> int:
    """The label of a class.

    Raises:
        DataError: there is no such class.
    """
    if name not in class_names:
        raise DataError(
            f"There is no class {name!r}, only {', '.join(class_names) or 'none'}."
            f"{did_you_mean(name, class_names)}"
        )
    return class_names.index(name)


def write_json(path: Path, values: Any) -> None:
    """Write readable JSON in UTF-8; makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_text(path: Path) -> str:
    """The text of a file.

    Raises:
        CheckpointError: the file is missing or not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}.") from error


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object of a file.

    Raises:
        CheckpointError: the file is missing, truncated or holds something else.
    """
    try:
        values = json.loads(read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}); it may be truncated.") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} must hold a JSON object, not {type(values).__name__}.")
    return values
