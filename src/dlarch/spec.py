"""What a model must know of the data, and the ids that mean the same everywhere."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

PAD, UNK, BOS, EOS = 0, 1, 2, 3
"""Ids of padding, the unknown token, the beginning and the end of a sequence."""

SPECIAL_TOKENS = ("<pad>", "<unk>", "<bos>", "<eos>")
"""How the four special ids are written, in the order of their ids."""


@dataclass(frozen=True)
class DataSpec:
    """The facts of a data set that decide the shapes of a model; all are optional.

    Attributes:
        vocab_size: number of token ids, special ones included.
        source_vocab_size: the same for the source side of a pair.
        target_vocab_size: the same for the target side of a pair.
        num_classes: number of classes.
        image_shape: (C, H, W).
        in_features: number of input columns.
        out_features: number of output columns.
        num_users: number of users.
        num_items: number of items.
        observation_size: length of an observation vector.
        num_actions: number of actions.
        num_conditions: number of values of the condition.
        fingerprint: hash of the content of the training split; not a fact for `build`.
    """

    vocab_size: int | None = None
    source_vocab_size: int | None = None
    target_vocab_size: int | None = None
    num_classes: int | None = None
    image_shape: tuple[int, int, int] | None = None
    in_features: int | None = None
    out_features: int | None = None
    num_users: int | None = None
    num_items: int | None = None
    observation_size: int | None = None
    num_actions: int | None = None
    num_conditions: int | None = None
    fingerprint: str | None = None

    def facts(self) -> dict[str, Any]:
        """The facts that are known, by name; never the fingerprint."""
        return {
            name: value
            for name, value in self.to_dict().items()
            if value is not None and name != "fingerprint"
        }

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON types (`image_shape` stays a tuple until JSON makes it a list)."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DataSpec:
        """Inverse of `to_dict`; a list becomes the tuple it was."""
        known = {f.name for f in fields(cls)}
        picked = {name: values[name] for name in known if name in values}
        if picked.get("image_shape") is not None:
            picked["image_shape"] = tuple(picked["image_shape"])
        return cls(**picked)


FACT_NAMES = tuple(f.name for f in fields(DataSpec) if f.name != "fingerprint")
"""Names under which facts of the data appear in constructors and in `build`."""


def lacking_facts(build: Callable[..., Any], known: Mapping[str, Any]) -> list[str]:
    """The facts that `build` must have and that are not known.

    Those with the default None are alternatives, of which one must be known; a single one may be
    unknown.
    """
    parameters = inspect.signature(build).parameters
    facts = {name: known.get(name) for name in parameters if name in FACT_NAMES}
    required = [name for name in facts if parameters[name].default is inspect.Parameter.empty]
    optional = [name for name in facts if name not in required]
    lacking = [name for name in required if facts[name] is None]
    if len(optional) > 1 and all(facts[name] is None for name in optional):
        lacking.append(" or ".join(optional))
    return lacking


_WAYS_OUT = {
    "num_classes": "give them classes (label or label_column of texts, target or classify of a "
    "table)",
    "out_features": "give data that have numbers as targets, not classes",
}


def needs_facts(model: str, lacking: list[str]) -> str:
    """The complaint that a model cannot be built from what the data tell, with the way out."""
    ways = [_WAYS_OUT[name] for name in lacking if name in _WAYS_OUT]
    ways.append("take another model or other data (`dlarch list` shows all)")
    return (
        f"{model} needs {', '.join(lacking)}, which these data do not have: {', or '.join(ways)}."
    )


def as_tuples(value: Any) -> Any:
    """Lists as tuples, so that arguments from YAML or JSON equal those from Python."""
    return tuple(map(as_tuples, value)) if isinstance(value, list | tuple) else value
