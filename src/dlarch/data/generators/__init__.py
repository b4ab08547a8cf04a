"""Pairs made from a seed, for tasks that need no download: dates, number words, sums, strings.

Each module has functions that give `{"train": pairs, "validation": pairs, "test": pairs}`, pairs
being lists of (source, target). The same arguments give the same pairs on every machine and Python
version, and the values in test and validation never occur in train.
"""

from collections.abc import Sequence
from random import Random

from dlarch.errors import OptionError, did_you_mean

Pairs = list[tuple[str, str]]
"""(source, target), in the order in which they were drawn."""


def shuffled(count: int, random: Random) -> list[int]:
    """The numbers 0 to count - 1 in random order.

    Only `Random.random()` is promised to give the same numbers in every Python version;
    `Random.shuffle` and numpy's generators are not.
    """
    keys = [random.random() for _ in range(count)]
    return sorted(range(count), key=keys.__getitem__)


def check_languages(
    what: str, source_language: str, target_language: str, known: Sequence[str]
) -> None:
    """Raise OptionError unless source and target are two different known languages."""
    for option, code in (("source", source_language), ("target", target_language)):
        if code not in known:
            raise OptionError(
                f"{what} cannot be written in {option}_language {code!r}; choose one of "
                f"{', '.join(known)}.{did_you_mean(code, known)}"
            )
    if source_language == target_language:
        raise OptionError(
            f"source_language and target_language of {what} are both {source_language!r}; "
            "choose two."
        )
