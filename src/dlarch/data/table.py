"""Rows of a table: scikit-learn's diabetes, or your own CSV or TSV."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dlarch.data.readers import read_header, read_rows
from dlarch.data.resolve import LocalFile, resolve_source
from dlarch.data.tables import Table, TableData
from dlarch.errors import DataError
from dlarch.registry import register_data

DIABETES = "diabetes"


@register_data("table")
class CSVData(TableData):
    """Rows of numbers with a target: a class or a number; diabetes, or your own CSV or TSV.

    A file has its column names in the first line. Targets that are all numbers are predicted as
    numbers, others are classes; so are numbers with `classify`.

    Args:
        source: path of a .csv or .tsv file; `diabetes` is embedded: 442 patients, ten measures,
            and how far the disease was a year later.
        target: column that is predicted; the last one when not given.
        columns: columns to predict from; all others when not given.
        classify: take the numbers of the target for classes.
        options: those of `dlarch.data.tables.TableData`.
    """

    def __init__(
        self,
        source: str = DIABETES,
        target: str | None = None,
        columns: list[str] | None = None,
        classify: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.source, self.target, self.columns = source, target, columns
        self.classify = classify

    def read(self) -> Table:
        """Read the rows."""
        if self.source == DIABETES:
            return self._diabetes()
        where = resolve_source(self.source, known=(DIABETES,))
        if not isinstance(where, LocalFile):
            raise DataError(f"{self.source} is no file; give a .csv or .tsv file.")
        return self._file(where.path)

    def _diabetes(self) -> Table:
        from sklearn.datasets import load_diabetes

        found = load_diabetes(scaled=False)
        names = [*found.feature_names, "progression"]
        rows = np.column_stack((found.data, found.target))
        target, columns = self._named(DIABETES, names)
        features = rows[:, [names.index(name) for name in columns]]
        return self._table(features, rows[:, names.index(target)].tolist(), columns, target)

    def _file(self, path: Path) -> Table:
        names = read_header(path)
        target, columns = self._named(str(path), names)
        features, targets = [], []
        for number, row in enumerate(read_rows(path, [*columns, target]), start=2):
            for name, field in zip(columns, row, strict=False):
                if not _is_number(field):
                    raise DataError(
                        f"{path}, line {number}: {field!r} in column {name!r} is no number; "
                        "correct it, or leave the column out with the option columns."
                    )
            features.append([float(field) for field in row[:-1]])
            targets.append(row[-1].strip())
        odd = [number for number, value in enumerate(targets, start=2) if not _is_number(value)]
        if 0 < len(odd) < len(targets) / 2 and not self.classify:
            raise DataError(
                f"{path}, line {odd[0]}: {targets[odd[0] - 2]!r} in column {target!r} is no "
                "number, as most others are; correct it, or say classify: true."
            )
        return self._table(np.array(features), targets, columns, target)

    def _named(self, where: str, names: list[str]) -> tuple[str, list[str]]:
        """The target and the columns to predict it from."""
        target = self.target or names[-1]
        columns = self.columns or [name for name in names if name != target]
        for name in (target, *columns):
            if name not in names:
                raise DataError(f"{where} has no column {name!r}, only {', '.join(names)}.")
        if target in columns:
            raise DataError(f"The target {target!r} must not be among the columns.")
        return target, columns

    def _table(self, features: Any, targets: list[Any], columns: list[str], target: str) -> Table:
        numbers = all(_is_number(value) for value in targets)
        if numbers and not self.classify:
            values = np.array([[float(value)] for value in targets])
            return Table(features, values, columns, [target])
        classes = sorted({str(value) for value in targets}, key=lambda n: (_number(n), n))
        if len(classes) < 2:
            raise DataError(f"The target {target!r} has one value only, {classes[0]!r}.")
        labels = np.array([classes.index(str(value)) for value in targets])
        return Table(features, labels, columns, [target], classes)


def _number(text: str) -> float:
    return float(text) if _is_number(text) else 0.0


def _is_number(value: Any) -> bool:
    try:
        return bool(np.isfinite(float(value)))
    except ValueError:
        return False
