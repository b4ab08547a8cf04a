"""Texts whose first sign has to be remembered to their end."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase
from typing import Any

import numpy as np

from dlarch.data.resolve import LocalFile, content_hash
from dlarch.data.splits import SPLITS
from dlarch.data.text_sources import LabelledText, TextSource
from dlarch.data.texts import TextData
from dlarch.errors import OptionError
from dlarch.registry import register_data


@register_data("recall")
class RecallData(TextData):
    """A capital letter, then small letters that mean nothing; the class is the capital.

    The long time lag problem of Hochreiter and Schmidhuber (1997), their experiment 2b, with as
    many classes as wanted. Guessing is right once in `symbols` texts.

    Args:
        length: letters of a text.
        symbols: capital letters, which are the classes.
        distractors: small letters that follow at random.
        train_size: number of training texts.
        eval_size: number of those in validation, and of those in the test.
        generator_seed: of the texts.
        options: those of `dlarch.data.texts.TextData` but for its vocabulary.
    """

    def __init__(
        self,
        length: int = 50,
        symbols: int = 4,
        distractors: int = 4,
        train_size: int = 10_000,
        eval_size: int = 1000,
        generator_seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(tokens="characters", **options)
        if not (2 <= symbols <= 26 and 1 <= distractors <= 26):
            raise OptionError(
                f"There are 26 letters of each size: symbols={symbols} must be 2 to 26, "
                f"distractors={distractors} 1 to 26."
            )
        if length < 1 or min(train_size, eval_size) < 2 * symbols:
            raise OptionError(
                f"recall needs texts of at least 1 letter and {2 * symbols} of them, not "
                f"length={length}, train_size={train_size}, eval_size={eval_size}."
            )
        self.plan = (length, symbols, distractors, train_size, eval_size, generator_seed)

    def open_source(self) -> TextSource:
        """The texts with their first letters."""
        return RecallTexts(*self.plan)


class RecallTexts(TextSource):
    """Letters drawn from a seed."""

    label_name = "first letter"

    def __init__(
        self,
        length: int,
        symbols: int,
        distractors: int,
        train_size: int,
        eval_size: int,
        seed: int,
    ) -> None:
        self.length, self.distractors, self.seed = length, distractors, seed
        self.sizes = {"train": train_size, "validation": eval_size, "test": eval_size}
        self.class_names = list(ascii_uppercase[:symbols])
        code = content_hash(LocalFile(Path(inspect.getfile(sys.modules[__name__]))))
        drawn = [length, symbols, distractors, train_size, eval_size, seed]
        self.content = {"generator": "recall", "code": code, "of": drawn}

    def read(self, split: str) -> Iterator[LabelledText]:
        """The texts of a split."""
        assert self.class_names is not None
        random = np.random.RandomState([self.seed, SPLITS.index(split)])
        letters = np.array(list(ascii_lowercase[: self.distractors]))
        # As many of each class as there can be.
        names = np.array(self.class_names)[np.arange(self.sizes[split]) % len(self.class_names)]
        for name in random.permutation(names).tolist():
            yield name + "".join(letters[random.randint(0, len(letters), self.length - 1)]), name
