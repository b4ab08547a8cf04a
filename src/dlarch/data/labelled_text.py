"""Texts with a class: generated, from files, or from the Hub."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dlarch.data.generators import number_words
from dlarch.data.resolve import LocalFile, content_hash
from dlarch.data.text_sources import LabelledText, TextSource, open_texts
from dlarch.data.texts import TextData
from dlarch.errors import OptionError
from dlarch.processing.text import TrainedLevel
from dlarch.registry import register_data

NUMBER_WORDS = "number_words"
"""The embedded source."""

NO_LABEL = "none"
"""The label column of texts without classes."""

NUMBER_CLASSES = {
    "parity": lambda number: ("even", "odd")[number % 2],
    "digits": lambda number: str(len(str(number))),
}
"""What classes the numbers in words may have."""


@register_data("labelled_text")
class LabelledTextData(TextData):
    """Texts with a class: your own file or folder, a Hub id, or numbers in words.

    A file (.csv, .tsv, .jsonl) or data set of the Hub has a column of texts and one of classes; a
    folder has a folder of .txt files per class, directly or in `train/` and `test/`. Official
    splits stay as they are, missing ones are carved from train by a hash of the text. With the
    label column `none` there are no classes, and a .txt file may have a text on each line.

    Args:
        source: `number_words`, which is generated; a path; a Hub id.
        text_column: column of the texts.
        label_column: column of the classes; of `number_words` parity (even, odd) or digits (how
            many), parity when not given; else label. `none` for texts without.
        columns: names of the columns of a file without a header, in their order.
        language: of `number_words`: de, en, es, fr, it, nl or pt.
        tokens: what a token is: characters, words or bpe; characters for `number_words`, words for
            others when not given.
        lowercase: lower-case the texts; True for words when not given.
        min_frequency: rarer tokens become unknown; 2 for words when not given.
        options: those of `dlarch.data.texts.TextData`: vocabulary, lengths, classes, batches.
    """

    def __init__(
        self,
        source: str = NUMBER_WORDS,
        text_column: str = "text",
        label_column: str | None = None,
        columns: list[str] | None = None,
        language: str = "en",
        tokens: TrainedLevel | None = None,
        lowercase: bool | None = None,
        min_frequency: int | None = None,
        **options: Any,
    ) -> None:
        generated = source == NUMBER_WORDS
        words = tokens == "words" or (tokens is None and not generated)
        super().__init__(
            tokens=tokens or ("words" if words else "characters"),
            lowercase=words if lowercase is None else lowercase,
            min_frequency=min_frequency or (2 if words else 1),
            **options,
        )
        self.source = source
        self.columns = (text_column, label_column or ("parity" if generated else "label"), columns)
        self.language = language

    def open_source(self) -> TextSource:
        """The texts with their classes."""
        text_column, label, columns = self.columns
        label_column = None if label == NO_LABEL else label
        if self.source == NUMBER_WORDS:
            return NumberWords(label_column, self.language)
        return open_texts(self.source, text_column, label_column, columns)


class NumberWords(TextSource):
    """The numbers 0 to 9999 in words, and what is known of each."""

    def __init__(self, label_name: str | None, language: str) -> None:
        if label_name is not None and label_name not in NUMBER_CLASSES:
            known = ", ".join(NUMBER_CLASSES)
            raise OptionError(
                f"number_words has the label columns {known} and {NO_LABEL}, not {label_name}."
            )
        self.label_name = label_name
        self._pairs = number_words.number_pairs(language, number_words.DIGITS)
        code = content_hash(LocalFile(Path(inspect.getfile(number_words))))
        self.content = {"generator": "number_words", "code": code, "of": [label_name, language]}

    def read(self, split: str) -> Iterator[LabelledText]:
        """The numbers of a split."""
        classify = NUMBER_CLASSES.get(self.label_name or NO_LABEL, lambda _: None)
        for words, digits in self._pairs[split]:
            yield words, classify(int(digits))
