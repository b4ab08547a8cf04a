"""How a model of sequences goes on by itself, beside what really follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from matplotlib.figure import Figure
from typing_extensions import override

from dlarch.callbacks.figures import FAINT, INK, figure_pixels
from dlarch.callbacks.numbers import LINE, MISS, Numbers
from dlarch.callbacks.protocols import shows, tensorboard_writers


@dataclass(frozen=True)
class Forecast:
    """A sequence that was read in its first part and continued in its second.

    Attributes:
        name: of the number.
        truth: (T,), the sequence.
        fed: (k,), predictions of steps 2 to k + 1, each from the true values before.
        free: (T - k,), of the other steps: those after the first are made from predictions.
    """

    name: str
    truth: Numbers
    fed: Numbers
    free: Numbers


@runtime_checkable
class OffersForecasts(Protocol):
    """A task whose outputs can be read as its next inputs."""

    def forecasts(self, count: int) -> list[Forecast]:
        """Of the first `count` (or fewer) validation sequences; none where that makes no sense."""
        ...


class ForecastPicture(Callback):
    """Draws validation sequences and how the model continues them, at each validation of a fit.

    TensorBoard: image `forecast`. Silent with other loggers.

    Args:
        count: sequences that are drawn.
    """

    def __init__(self, count: int = 3) -> None:
        self.count = count

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, if there is a logger to draw for."""
        writers = tensorboard_writers(trainer) if shows(trainer) else []
        if not writers or not isinstance(pl_module, OffersForecasts):
            return
        with torch.no_grad(), isolate_rng(include_cuda=pl_module.device.type == "cuda"):
            shown = pl_module.forecasts(self.count)
        if not shown:
            return
        pixels = figure_pixels(forecast_figure(shown))
        for writer in writers:
            writer.add_image("forecast", pixels, trainer.global_step, dataformats="HWC")


def forecast_figure(shown: Sequence[Forecast]) -> Figure:
    """Draw a panel for each sequence: the truth, predictions from it, and the free run."""
    figure = Figure(
        figsize=(8.4, 0.5 + 1.7 * len(shown)), dpi=90, facecolor="white", layout="constrained"
    )
    panels = figure.subplots(len(shown), squeeze=False)[:, 0]
    for axes, each in zip(panels, shown, strict=True):
        steps = np.arange(1, len(each.truth) + 1)
        begins = len(each.truth) - len(each.free)
        axes.axvspan(begins + 0.5, len(each.truth), color="#eef3f8", linewidth=0)
        axes.plot(steps, each.truth, color="#c3cdd8", linewidth=2.6, label="truth")
        fed = slice(1, len(each.fed) + 1)
        axes.plot(steps[fed], each.fed, color=LINE, linewidth=1.1, label="predicted, truth fed")
        axes.plot(steps[begins:], each.free, color=MISS, linewidth=1.1, label="free running")
        error = np.mean((each.free - each.truth[begins:]) ** 2)
        axes.set_title(f"free running: mean squared error {error:.3g}", fontsize=8, color=INK,
                       loc="left")  # fmt: skip
        room = 0.5 * max(float(np.ptp(each.truth)), 1e-6)  # a free run may go far away
        axes.set_ylim(each.truth.min() - room, each.truth.max() + room)
        axes.set_xlim(1, len(each.truth))
        axes.set_ylabel(each.name, fontsize=8, color=FAINT)
        axes.tick_params(labelsize=8, labelcolor=FAINT, color="#c3cdd8")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].legend(
        fontsize=8, frameon=False, labelcolor=INK, loc="lower right", ncols=3,
        bbox_to_anchor=(1.0, 1.0),
    )  # fmt: skip
    panels[-1].set_xlabel("time step", fontsize=9, color=FAINT)
    return figure
