"""Where inputs lie in the space of their codes: maps, and a projector at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import matplotlib
import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from dlarch.callbacks.features import small_squares
from dlarch.callbacks.figures import FAINT, figure_pixels
from dlarch.callbacks.projector import principal, write_points
from dlarch.callbacks.protocols import shows, tensorboard_writers

MOST_COLOURS = 20
"""Classes that are told apart by colour."""


class Codes(NamedTuple):
    """Codes of validation inputs.

    Attributes:
        codes: (N, D).
        classes: names, one for each input; empty where there are none.
        images: N small images (H, W, C); empty where inputs are none.
    """

    codes: Tensor
    classes: Sequence[str] = ()
    images: Sequence[NDArray[np.uint8]] = ()


@runtime_checkable
class OffersCodes(Protocol):
    """A task that squeezes inputs into codes."""

    def kept_codes(self) -> Codes | None:
        """Codes of the first inputs of the last validation; None where nothing was kept."""
        ...


def code_map(codes: Tensor, classes: Sequence[str]) -> Figure:
    """Draw codes (N, D) in the plane, coloured by class; of many numbers two components."""
    points = principal(codes.float().cpu(), 2).numpy()
    figure = Figure(figsize=(5.2, 4.4), dpi=80, layout="constrained")
    axes = figure.add_subplot()
    names = sorted(set(classes))
    if 1 < len(names) <= MOST_COLOURS:
        colours = matplotlib.colormaps["tab10" if len(names) <= 10 else "tab20"]
        for place, name in enumerate(names):
            own = points[[each == name for each in classes]]
            axes.scatter(own[:, 0], own[:, 1], s=6, color=colours(place), linewidths=0, label=name)
        axes.legend(fontsize=7, frameon=False, markerscale=2, loc="center left",
                    bbox_to_anchor=(1.0, 0.5))  # fmt: skip
    else:
        axes.scatter(points[:, 0], points[:, 1], s=6, color=FAINT, linewidths=0)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    of = "principal component" if codes.shape[1] > 2 else "number"
    axes.set_xlabel(f"first {of} of the code", fontsize=8)
    axes.set_ylabel(f"second {of} of the code", fontsize=8)
    return figure


class CodeMap(Callback):
    """Draws the codes of the first validation inputs, coloured by their class.

    TensorBoard: image `codes` at each validation of a fit, which shows the two principal components
    of codes of more numbers; projector `codes` at its end. Silent with other loggers, and for codes
    of one number.
    """

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, if there is a logger to draw for."""
        writers = tensorboard_writers(trainer) if shows(trainer) else []
        kept = pl_module.kept_codes() if writers and isinstance(pl_module, OffersCodes) else None
        if kept is None or kept.codes.shape[1] < 2:
            return
        pixels = figure_pixels(code_map(kept.codes, kept.classes))
        for writer in writers:
            writer.add_image("codes", pixels, trainer.global_step, dataformats="HWC")

    @override
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the projector's files, beside the events."""
        writers = tensorboard_writers(trainer) if trainer.is_global_zero else []
        kept = pl_module.kept_codes() if writers and isinstance(pl_module, OffersCodes) else None
        if kept is None:
            return
        images = small_squares(kept.images) if len(kept.images) else None
        classes = list(kept.classes) or None
        step = trainer.global_step
        write_points(writers, "codes", kept.codes, step, metadata=classes, label_img=images)
