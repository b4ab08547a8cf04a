"""Texts that a model writes at each validation, on TensorBoard and in the run folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from typing_extensions import override

from dlarch.callbacks.protocols import no_failure, run_folder, shows, tensorboard_writers


class WrittenText(NamedTuple):
    """A text that a model wrote.

    Attributes:
        text: as it would be printed.
        condition: the class that it was asked to be of, or None.
    """

    text: str
    condition: str | None = None


@runtime_checkable
class OffersTexts(Protocol):
    """A task that writes texts."""

    def written_texts(self, count: int) -> list[WrittenText]:
        """Write `count` texts from a fixed seed, without touching the global random state."""
        ...


def text_block(samples: Sequence[WrittenText]) -> str:
    """Samples as Markdown that shows them as they are: one line each, or one after the other."""
    lines = [
        f"    {'' if sample.condition is None else sample.condition + ': '}{line}"
        for sample in samples
        for line in sample.text.splitlines() or [""]
    ]
    return "\n".join(lines) + "\n"


class WrittenTexts(Callback):
    """Writes texts from the same draws, at each validation of a fit.

    TensorBoard: text `samples/texts`. Run folder: `samples/step_0001200.md`.

    Args:
        count: texts that are written.
    """

    def __init__(self, count: int = 16) -> None:
        self.count = count

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write, wherever it can be seen."""
        if not shows(trainer) or not isinstance(pl_module, OffersTexts):
            return
        writers, folder = tensorboard_writers(trainer), run_folder(trainer)
        if not writers and folder is None:
            return
        with torch.no_grad():
            block = text_block(pl_module.written_texts(self.count))
        for writer in writers:
            writer.add_text("samples/texts", block, trainer.global_step)
        if folder is not None:
            path = folder / "samples" / f"step_{trainer.global_step:07d}.md"
            with no_failure(str(path)):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"Step {trainer.global_step}\n\n{block}", encoding="utf-8")
