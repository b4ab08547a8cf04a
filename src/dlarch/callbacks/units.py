"""What single hidden units do while a text is read, at each validation, on TensorBoard."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

import matplotlib
import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from matplotlib.figure import Figure
from numpy.typing import NDArray
from typing_extensions import override

from dlarch.callbacks.figures import FAINT, INK, figure_pixels
from dlarch.callbacks.protocols import shows, tensorboard_writers

COLUMNS = 72
"""Characters of a line."""

FONT_POINTS, LINE_POINTS = 8.0, 13.0
ADVANCE = 0.6
"""Width of a character of DejaVu Sans Mono in whole pixels, as a share of its size."""

NEWLINE = "↵"


class UnitsOverText(NamedTuple):
    """A text as tokens, and the hidden units after each of them.

    Attributes:
        tokens: as they are written.
        activations: (T, N).
    """

    tokens: list[str]
    activations: torch.Tensor


@runtime_checkable
class OffersUnits(Protocol):
    """A task that reads texts."""

    def units_over_text(self) -> UnitsOverText | None:
        """Read a passage of the validation split; None if none was seen."""
        ...


class UnitActivations(Callback):
    """Colours a validation passage by the units that vary most, at each validation of a fit.

    TensorBoard: image `units`. Silent with other loggers.

    Args:
        count: units that are drawn.
    """

    def __init__(self, count: int = 4) -> None:
        self.count = count

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, if there is a logger to draw for."""
        writers = tensorboard_writers(trainer) if shows(trainer) else []
        if not writers or not isinstance(pl_module, OffersUnits):
            return
        with torch.no_grad():
            found = pl_module.units_over_text()
        if found is None:
            return
        pixels = figure_pixels(units_figure(found, self.count))
        for writer in writers:
            writer.add_image("units", pixels, trainer.global_step, dataformats="HWC")


def units_figure(found: UnitsOverText, count: int = 4) -> Figure:
    """The text once for each of the units that vary most: red is positive, blue negative."""
    activations = found.activations.float().cpu().numpy()
    chosen = np.argsort(-activations.std(0), kind="stable")[:count]
    lines, at = _laid_out(found.tokens)
    panel = len(lines) + 2
    size = (COLUMNS * ADVANCE * FONT_POINTS / 72, len(chosen) * panel * LINE_POINTS / 72)
    figure = Figure(figsize=size, dpi=120)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, COLUMNS)
    axes.set_ylim(len(chosen) * panel, 0)
    axes.axis("off")
    for place, unit in enumerate(chosen):
        top = place * panel + 1
        colours = _coloured(activations[:, unit], at)
        axes.imshow(colours, extent=(0, COLUMNS, top + len(lines), top), aspect="auto")
        style: dict[str, Any] = {
            "family": "DejaVu Sans Mono",
            "fontsize": FONT_POINTS,
            "va": "center",
        }
        axes.text(0, top - 0.5, f"unit {unit}", color=FAINT, **style)
        for row, line in enumerate(lines):
            text = line.replace("$", r"\$")  # no formula begins here
            axes.text(0, top + row + 0.5, text, color=INK, **style)
    return figure


def _laid_out(tokens: list[str]) -> tuple[list[str], NDArray[np.int64]]:
    """Lines of at most `COLUMNS` characters, and which token stands at each place; -1 for none."""
    lines, at = [""], [list[int]()]
    for index, token in enumerate(tokens):
        for sign in token.replace("\n", NEWLINE):
            if len(lines[-1]) == COLUMNS or lines[-1].endswith(NEWLINE):
                lines.append("")
                at.append([])
            lines[-1] += sign if sign.isprintable() else " "
            at[-1].append(index)
    return lines, np.array([row + [-1] * (COLUMNS - len(row)) for row in at])


def _coloured(values: NDArray[np.float32], at: NDArray[np.int64]) -> NDArray[np.float64]:
    """The colour of each place, (lines, columns, 3), pale enough to be read on."""
    scaled = values / max(float(np.abs(values).max()), 1e-9)
    colours = matplotlib.colormaps["RdBu_r"](0.5 + 0.35 * scaled)[:, :3]
    return np.where((at < 0)[..., None], 1.0, colours[at])
