"""Classes of a data set: some of them, or new ones made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from dlarch.errors import DataError, OptionError, did_you_mean

LEFT_OUT = -1
"""New label of a class that is left out."""


def chosen_classes(
    asked: Sequence[str | int] | Mapping[str, Sequence[str | int]], names: Sequence[str]
) -> tuple[list[str], NDArray[np.int64]]:
    """What classes are called that were chosen or put together, and the new label of each old one.

    Args:
        asked: names of the classes that are kept; or names of new ones, each with those of the
            classes that it is made of.
        names: those that there are, in the order of their labels.

    Raises:
        DataError: a class that there is not.
        OptionError: a class is named twice, or fewer than two classes are left.
    """
    parts = asked if isinstance(asked, Mapping) else {name: [name] for name in asked}
    chosen = {str(new): [str(name) for name in olds] for new, olds in parts.items()}
    labels = np.full(len(names), LEFT_OUT, dtype=np.int64)
    for label, olds in enumerate(chosen.values()):
        for name in olds:
            if name not in names:
                raise DataError(
                    f"There is no class {name!r}, only {', '.join(names)}."
                    f"{did_you_mean(name, names)}"
                )
            if labels[names.index(name)] != LEFT_OUT:
                raise OptionError(f"classes names {name!r} twice: each class can be in one only.")
            labels[names.index(name)] = label
    empty = [new for new, olds in chosen.items() if not olds]
    if empty:
        raise OptionError(f"The new class {empty[0]!r} is made of none: name some or omit it.")
    if len(chosen) < 2 or len(chosen) < len(asked):
        raise OptionError(f"classes must name at least two different ones, not {asked}.")
    return list(chosen), labels


def check_classes(
    labels: Mapping[str, NDArray[np.int64]], names: Sequence[str], things: str, way_out: str
) -> None:
    """See that the training split holds each class that validation or test asks for.

    Args:
        labels: of the examples of each split; `LEFT_OUT` is no class.
        names: of the classes.
        things: what the examples are called in the message.
        way_out: what else helps than more training examples.

    Raises:
        DataError: it does not.
    """
    for split, found in labels.items():
        unknown = np.setdiff1d(found, [*np.unique(labels["train"]), LEFT_OUT])
        if len(unknown):
            raise DataError(
                f"Split {split} has {things} of {', '.join(names[label] for label in unknown)}, "
                f"but train has none: add some to train, or {way_out}."
            )
