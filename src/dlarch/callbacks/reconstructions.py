"""What is left of texts that went through a code, and texts between two codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from typing_extensions import override

from dlarch.callbacks.protocols import no_failure, run_folder, shows, tensorboard_writers
from dlarch.callbacks.samples import WrittenText, text_block
from dlarch.callbacks.translations import table_cell


class Reconstruction(NamedTuple):
    """A text and what a model wrote from its code.

    Attributes:
        text: as the vocabulary can write it.
        written: the model's.
        exact: whether they are equal.
    """

    text: str
    written: str
    exact: bool


@runtime_checkable
class OffersReconstructions(Protocol):
    """A task that squeezes texts into codes."""

    def reconstructions(self) -> list[Reconstruction]:
        """Fixed validation texts, as they are reconstructed now."""
        ...

    def interpolations(self) -> list[list[str]]:
        """Texts on the way from one of these texts to another, for some pairs."""
        ...


def reconstruction_table(samples: Sequence[Reconstruction]) -> str:
    """A Markdown table: text, reconstruction, and a mark where they are equal."""
    rows = [
        f"| {table_cell(s.text)} | {table_cell(s.written)} | {'✓' if s.exact else ''} |"
        for s in samples
    ]
    return "\n".join(["| text | reconstruction | exact |", "| --- | --- | :---: |", *rows]) + "\n"


class Reconstructions(Callback):
    """Writes fixed validation texts from their codes, at each validation of a fit.

    TensorBoard: text `samples/reconstructions` and `samples/interpolations`. Run folder:
    `samples/reconstructions_0001200.md`.
    """

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write, wherever it can be seen."""
        if not shows(trainer) or not isinstance(pl_module, OffersReconstructions):
            return
        writers, folder = tensorboard_writers(trainer), run_folder(trainer)
        if not writers and folder is None:
            return
        with torch.no_grad():
            table = reconstruction_table(pl_module.reconstructions())
            lines = [[WrittenText(text) for text in way] for way in pl_module.interpolations()]
        between = "\n---\n\n".join(map(text_block, lines))
        for writer in writers:
            writer.add_text("samples/reconstructions", table, trainer.global_step)
            writer.add_text("samples/interpolations", between, trainer.global_step)
        if folder is not None:
            path = folder / "samples" / f"reconstructions_{trainer.global_step:07d}.md"
            with no_failure(str(path)):
                path.parent.mkdir(parents=True, exist_ok=True)
                title = f"Step {trainer.global_step}\n\n"
                path.write_text(f"{title}{table}\n{between}", encoding="utf-8")
