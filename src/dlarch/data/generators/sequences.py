"""Sums and strings: small tasks whose rule is exact and whose held-out values are new."""

import hashlib
from collections.abc import Callable, Iterator
from random import Random

from dlarch.data.generators import Pairs
from dlarch.errors import OptionError

ALPHABET = "abcdefghijklmnopqrstuvwxyz"
"""Symbols of the copy and reverse tasks, unless others are given."""


def addition_pairs(
    digits: int = 3,
    *,
    train: int | None = None,
    validation: int | None = None,
    test: int | None = None,
    seed: int = 0,
) -> dict[str, Pairs]:
    """Pair sums with their results: ("123+45", "168").

    The operands are drawn evenly from 0 to 10 ** digits - 1, each pair of them once, in the order
    drawn. a+b and b+a count as one pair, so neither is in train when the other is held out.

    Args:
        digits: digits of the largest operand, 1 to 18.
        train: number of pairs; when not given, 45,000 or all that are left.
        validation: number of pairs; when not given, 5,000, or a tenth of them all if that is less.
        test: likewise.
        seed: decides the operands.

    Returns:
        The pairs by split: "train", "validation", "test".

    Raises:
        OptionError: for digits out of range or more pairs than there are.
    """
    if not 1 <= digits <= 18:
        raise OptionError(f"digits is {digits}; choose a number from 1 to 18.")
    size = 10**digits
    available = size * (size + 1) // 2
    held_out = min(5_000, available // 10)
    test = held_out if test is None else test
    validation = held_out if validation is None else validation
    train = min(45_000, available - test - validation) if train is None else train
    sizes = {"test": test, "validation": validation, "train": train}
    _check_sizes("addition", sizes, available, "raise digits")

    def operands() -> Iterator[tuple[int, int]]:
        random = Random(seed)
        seen = set()
        while True:
            a, b = int(random.random() * size), int(random.random() * size)
            key = (min(a, b), max(a, b))
            if key not in seen:
                seen.add(key)
                yield a, b

    drawn = operands()
    # Test first: it stays the same when more training pairs are asked for.
    made = {
        split: [(f"{a}+{b}", str(a + b)) for _, (a, b) in zip(range(count), drawn, strict=False)]
        for split, count in sizes.items()
    }
    return {split: made[split] for split in ("train", "validation", "test")}


def copy_pairs(
    alphabet: str = ALPHABET,
    *,
    min_length: int = 1,
    max_length: int = 20,
    train: int = 20_000,
    validation: int = 1_000,
    test: int = 1_000,
    seed: int = 0,
) -> dict[str, Pairs]:
    """Pair random strings with themselves; lengths and symbols are drawn evenly.

    A string belongs to the split that its hash says (90 : 5 : 5), so no seed ever trains on a
    string that another seed tests.

    Args:
        alphabet: the symbols, each once.
        min_length: length of the shortest string, at least 1.
        max_length: length of the longest string.
        train: number of pairs.
        validation: number of pairs.
        test: number of pairs.
        seed: decides the strings.

    Returns:
        The pairs by split: "train", "validation", "test"; no string occurs twice.

    Raises:
        OptionError: for an unusable alphabet or lengths, or more pairs than there are.
    """
    sizes = {"train": train, "validation": validation, "test": test}
    return _string_pairs("copy", str, alphabet, min_length, max_length, sizes, seed)


def reverse_pairs(
    alphabet: str = ALPHABET,
    *,
    min_length: int = 1,
    max_length: int = 20,
    train: int = 20_000,
    validation: int = 1_000,
    test: int = 1_000,
    seed: int = 0,
) -> dict[str, Pairs]:
    """Pair random strings with themselves read backwards; all else as in `copy_pairs`."""
    sizes = {"train": train, "validation": validation, "test": test}
    return _string_pairs(
        "reverse", lambda text: text[::-1], alphabet, min_length, max_length, sizes, seed
    )


def _string_pairs(
    task: str,
    target: Callable[[str], str],
    alphabet: str,
    min_length: int,
    max_length: int,
    sizes: dict[str, int],
    seed: int,
) -> dict[str, Pairs]:
    """Draw strings until each split has its number of different ones."""
    if not alphabet or len(set(alphabet)) != len(alphabet):
        raise OptionError(f"alphabet of {task} is {alphabet!r}; give different symbols, each once.")
    if not 1 <= min_length <= max_length:
        raise OptionError(
            f"min_length {min_length} and max_length {max_length} of {task} are no range; "
            "choose 1 <= min_length <= max_length."
        )
    longer = "raise max_length or widen the alphabet"
    available = sum(len(alphabet) ** n for n in range(min_length, max_length + 1))
    _check_sizes(task, sizes, available, longer)

    random = Random(seed)
    lengths = max_length - min_length + 1
    sources: dict[str, dict[str, None]] = {split: {} for split in sizes}  # as an ordered set
    tries = 0
    while any(len(sources[split]) < size for split, size in sizes.items()):
        tries += 1
        # Splits hold only about their share of the strings there are, which cannot be counted
        # beforehand; 40 draws per pair suffice by far wherever there are strings enough.
        if tries > 1000 + 40 * (sizes["train"] + 20 * (sizes["validation"] + sizes["test"])):
            missing = next(split for split, size in sizes.items() if len(sources[split]) < size)
            raise OptionError(
                f"{task} found only {len(sources[missing])} different {missing} strings of "
                f"{sizes[missing]}; ask for fewer or {longer}."
            )
        length = min_length + int(random.random() * lengths)
        text = "".join(alphabet[int(random.random() * len(alphabet))] for _ in range(length))
        split = _split_of(text)
        if len(sources[split]) < sizes[split]:
            sources[split][text] = None
    return {split: [(text, target(text)) for text in texts] for split, texts in sources.items()}


def _split_of(source: str) -> str:
    """The split of a source, by a hash that is the same in every process."""
    number = int.from_bytes(hashlib.sha256(source.encode()).digest()[:8], "big") / 2**64
    return "train" if number < 0.90 else "validation" if number < 0.95 else "test"


def _check_sizes(task: str, sizes: dict[str, int], available: int, way_out: str) -> None:
    """Refuse negative sizes and more pairs than there are."""
    for split, size in sizes.items():
        if size < 0:
            raise OptionError(f"{split} of {task} is {size}; give 0 or more.")
    if sum(sizes.values()) > available:
        raise OptionError(
            f"{task} has {available} different sources, but {sum(sizes.values())} are asked for; "
            f"ask for fewer or {way_out}."
        )
