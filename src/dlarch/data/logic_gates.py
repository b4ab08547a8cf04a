"""The truth tables of logic gates."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from dlarch.data.tables import Table, TableData, same_rows
from dlarch.errors import OptionError, did_you_mean
from dlarch.registry import register_data

GATES = {
    "and": lambda bits: all(bits),
    "or": lambda bits: any(bits),
    "nand": lambda bits: not all(bits),
    "nor": lambda bits: not any(bits),
    "xor": lambda bits: sum(bits) % 2 == 1,
}
"""Names and meanings of the gates; XOR of several inputs is their parity."""


@register_data("logic_gates")
class LogicGatesData(TableData):
    """The truth table of a logic gate: all rows are trained on, and all are tested.

    Args:
        gate: and, or, nand, nor or xor.
        inputs: number of inputs, 2 to 12; 2 to the power of it are the rows.
        options: those of `dlarch.data.tables.TableData`.
    """

    def __init__(self, gate: str = "xor", inputs: int = 2, **options: Any) -> None:
        super().__init__(**options)
        if gate not in GATES:
            raise OptionError(
                f"There is no gate '{gate}'.{did_you_mean(gate, GATES)} Gates: {', '.join(GATES)}."
            )
        if not 2 <= inputs <= 12:
            raise OptionError(f"inputs must be 2 to 12, not {inputs}.")
        self.gate, self.inputs = gate, inputs

    def read(self) -> Table:
        """The truth table."""
        rows = list(product((0, 1), repeat=self.inputs))
        return Table(
            features=np.array(rows, dtype=np.float64),
            targets=np.array([GATES[self.gate](row) for row in rows], dtype=np.int64),
            columns=[f"x{number}" for number in range(1, self.inputs + 1)],
            target_names=[self.gate],
            class_names=["false", "true"],
        )

    def divide(self, table: Table) -> dict[str, Table]:
        """All rows in each split: there are no others."""
        return same_rows(table)
