"""A table of translations at each validation, on TensorBoard and in the run folder."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from lightning.pytorch import Callback, LightningModule, Trainer
from typing_extensions import override

from dlarch.callbacks.protocols import (
    TranslationSample,
    no_failure,
    run_folder,
    shows,
    tensorboard_writers,
    translation_samples,
)

MARKDOWN = re.compile(r"([\\`*_{}\[\]|])")


def translation_table(samples: Sequence[TranslationSample]) -> str:
    """A Markdown table: source, reference, translation, and a mark where the last two are equal.

    Text appears as it was written, whatever signs of Markdown or HTML it holds.
    """
    rows = [
        f"| {table_cell(s.source)} | {table_cell(s.reference)} | {table_cell(s.translation)} "
        f"| {'✓' if s.exact else ''} |"
        for s in samples
    ]
    header = ["| source | reference | translation | exact |", "| --- | --- | --- | :---: |"]
    return "\n".join(header + rows) + "\n"


def table_cell(text: str) -> str:
    """A text as it shall appear in a cell of a table in Markdown."""
    one_line = " ".join(text.split())
    return MARKDOWN.sub(r"\\\1", html.escape(one_line, quote=False))


class TranslationTable(Callback):
    """Writes what the model makes of fixed validation examples, at each validation of a fit.

    TensorBoard: text `samples/translations`. Run folder: `samples/step_0001200.md`.

    Args:
        count: examples in the table.
    """

    def __init__(self, count: int = 8) -> None:
        self.count = count

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Translate, and write the table wherever it can be seen."""
        if not shows(trainer):
            return
        writers, folder = tensorboard_writers(trainer), run_folder(trainer)
        samples = translation_samples(pl_module, self.count) if writers or folder else []
        if not samples:
            return
        table = translation_table(samples)
        for writer in writers:
            writer.add_text("samples/translations", table, trainer.global_step)
        if folder is not None:
            path = folder / "samples" / f"step_{trainer.global_step:07d}.md"
            exact = sum(sample.exact for sample in samples)
            title = f"Step {trainer.global_step}: {exact} of {len(samples)} exact\n\n"
            with no_failure(str(path)):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(title + table, encoding="utf-8")
