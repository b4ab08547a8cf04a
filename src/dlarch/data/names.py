"""People's names: embedded lists, or your own file."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import cached_property
from importlib.metadata import version
from itertools import pairwise
from random import Random
from typing import Any, Literal, get_args

from dlarch.data.name_cleaning import clean_names
from dlarch.data.name_lists import embedded_names
from dlarch.data.readers import read_lines, read_rows
from dlarch.data.resolve import (
    LocalFile,
    LocalFolder,
    Resolved,
    content_hash,
    resolve_source,
)
from dlarch.data.splits import SPLITS
from dlarch.data.text_sources import (
    HubTexts,
    LabelledText,
    TextSource,
    check_has_data,
    check_has_labels,
)
from dlarch.data.texts import TextData
from dlarch.errors import DataError, OptionError
from dlarch.processing.text import TrainedLevel
from dlarch.registry import register_data

logger = logging.getLogger(__name__)

EMBEDDED = {"first_names": "gender", "last_names": "locale"}
"""The embedded lists, and what their classes are of when nothing else is asked for."""

NO_LABEL = "none"

Divide = Literal["distinct", "rows"]
"""What is divided into splits: names, each once, or rows as they come."""


@register_data("names")
class NamesData(TextData):
    """People's names with or without a class: gender, locale, language, country.

    Sources: `first_names` and `last_names`, embedded; a text file of one name a line; a folder of
    such files, each called after its class; a .csv, .tsv or .jsonl file, or data set of the Hub,
    with a column of names. Messy names are cleaned, and a report says what was
    changed and dropped. 80, 10 and 10 of 100 are for training, validation and the test.

    Args:
        source: where the names come from; see above.
        label: what the classes are: gender or locale of an embedded list, a column of a file, a
            name for those of a folder; `none` for names alone. Gender of `first_names`, locale of
            `last_names`, none of a file when not given.
        locales: of an embedded list, such as [de_DE, fr_FR]; those of its default when not given.
        name_column: column of the names in a file with several.
        columns: names of the columns of a file without a header, in their order.
        clean: mend and drop messy names.
        divide: split `distinct` names, of which each is in one split only and counts once for each
            of its classes; or `rows` as they come, so that a name may be in several.
        split_seed: of the random order that is divided. With 42, `rows` of a text file are divided
            as in the lectures that made names.txt known.
        tokens: what a token is: characters or bpe.
        options: those of `dlarch.data.texts.TextData`: vocabulary, classes, batches.
    """

    def __init__(
        self,
        source: str = "first_names",
        label: str | None = None,
        locales: list[str] | None = None,
        name_column: str = "name",
        columns: list[str] | None = None,
        clean: bool = True,
        divide: Divide = "distinct",
        split_seed: int = 42,
        tokens: TrainedLevel = "characters",
        **options: Any,
    ) -> None:
        super().__init__(tokens=tokens, **options)
        if divide not in get_args(Divide):
            raise OptionError(f"divide must be distinct or rows, not {divide!r}.")
        if locales is not None and source not in EMBEDDED:
            raise OptionError(f"locales are those of {' and '.join(EMBEDDED)}: leave them out.")
        self.source = source
        self.label = EMBEDDED.get(source) if label is None else label
        self.label = None if self.label == NO_LABEL else self.label
        self.locales = locales
        self.columns = (name_column, columns)
        self.clean = clean
        self.divide: Divide = divide
        self.split_seed = split_seed

    def open_source(self) -> TextSource:
        """The names with their classes."""
        content: dict[str, Any] = {
            "options": [self.source in EMBEDDED and self.source, self.label, self.locales],
            "columns": self.columns,
            "clean": self.clean,
            "divide": [self.divide, self.split_seed],
        }
        if self.source in EMBEDDED:
            content["faker"] = version("Faker")
            return Names(self._embedded, self.label, self.clean, self.divided, content)
        where = resolve_source(self.source, known=EMBEDDED)
        content["hash"] = content_hash(where)
        return Names(lambda: self._stored(where), self.label, self.clean, self.divided, content)

    def divided(self, rows: list[LabelledText]) -> dict[str, list[LabelledText]]:
        """Rows by split: 80, 10 and 10 of 100 of them, or of the distinct names."""
        if self.divide == "rows":
            units = [[row] for row in rows]
        else:
            groups: dict[str, dict[LabelledText, None]] = {}
            for name, label in rows:
                groups.setdefault(name.casefold(), {})[name, label] = None
            units = [list(group) for group in groups.values()]
            left = sum(map(len, units))
            logger.info(
                "%d distinct names; %d repeated rows left out.", len(units), len(rows) - left
            )
        Random(self.split_seed).shuffle(units)
        cuts = (0, int(0.8 * len(units)), int(0.9 * len(units)), len(units))
        return {
            split: [row for unit in units[begin:end] for row in unit]
            for split, (begin, end) in zip(SPLITS, pairwise(cuts), strict=True)
        }

    def _embedded(self) -> list[tuple[str, ...]]:
        if self.label not in (None, "gender", "locale"):
            raise OptionError(
                f"The label of {self.source} is gender, locale or {NO_LABEL}, not {self.label!r}."
            )
        rows = embedded_names("first" if self.source == "first_names" else "last", self.locales)
        if self.label is None:
            return [(row.name,) for row in rows]
        # What a list does not tell is no class.
        labelled = ((row.name, getattr(row, self.label)) for row in rows)
        return [(name, label) for name, label in labelled if label is not None]

    def _stored(self, where: Resolved) -> list[tuple[str, ...]]:
        name_column, columns = self.columns
        asked = [name for name in (name_column, self.label) if name is not None]
        if isinstance(where, LocalFile):
            if where.path.suffix.lower() == ".txt" and len(asked) == 1 and columns is None:
                return [(line,) for _, line in read_lines(where.path)]
            check_has_labels(where.path, asked, "--data.label")
            return list(read_rows(where.path, asked, columns, allow_empty=True))
        if isinstance(where, LocalFolder) and (files := sorted(where.path.glob("*.txt"))):
            rows = [(line, path.stem) for path in files for _, line in read_lines(path)]
            return [row[: len(asked)] for row in rows]
        if isinstance(where, LocalFolder):
            check_has_data(where, "add .txt files, each called after its class")
        return [
            (name,) if label is None else (name, label)
            for name, label in HubTexts(where, name_column, self.label).stored("train")
        ]


class Names(TextSource):
    """Names in memory, read when they are needed."""

    def __init__(
        self,
        rows: Callable[[], list[tuple[str, ...]]],
        label_name: str | None,
        clean: bool,
        divide: Callable[[list[LabelledText]], dict[str, list[LabelledText]]],
        content: dict[str, Any],
    ) -> None:
        self.content = content
        self.label_name = label_name
        self._rows, self._clean, self._divide = rows, clean, divide

    @cached_property
    def _splits(self) -> dict[str, list[LabelledText]]:
        rows = self._rows()
        if self._clean:
            rows, report = clean_names(rows)
            logger.info(report.text())
        if not rows:
            raise DataError("There are no names: give a file with one on each line.")
        return self._divide([(name, label[0] if label else None) for name, *label in rows])

    def read(self, split: str) -> Iterator[LabelledText]:
        """The names of a split."""
        return iter(self._splits[split])
