"""How far back a loss reaches: its gradient with respect to the state after each step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from matplotlib.figure import Figure
from torch import Tensor
from typing_extensions import override

from dlarch.callbacks.figures import FAINT, INK, figure_pixels
from dlarch.callbacks.gradients import GradientNorms
from dlarch.callbacks.protocols import shows, tensorboard_writers

COLOURS = ("#1f5fa8", "#d1495b", "#5f9bd1", "#e0a030", "#6b7a89", "#3c8d5a")
"""Of the layers; further ones begin again."""


class WatchedStates(Protocol):
    """The states of a layer of a recurrent network, step after step."""

    @property
    def name(self) -> str:
        """As the parameters of the layer end, such as "_l0" or "_l0_reverse"."""
        ...

    @property
    def states(self) -> list[Tensor]:
        """Of each step, (n, N), in the order of the inputs."""
        ...


@runtime_checkable
class OffersStates(Protocol):
    """A task that may have recurrent layers."""

    def watch_states(self) -> AbstractContextManager[Sequence[WatchedStates]]:
        """Gather the states that are computed while it is open."""
        ...


@dataclass(frozen=True)
class ThroughTime:
    """Gradients of a loss by time step.

    Attributes:
        step: optimizer steps before it.
        layers: norm of the gradient with respect to the states after each step, by layer.
    """

    step: int
    layers: dict[str, list[float]]


def gradients_through_time(watched: Sequence[WatchedStates]) -> dict[str, list[float]]:
    """Norms of the gradients that were kept of states, of all sequences together, by layer.

    Args:
        watched: states whose gradient is kept, after the backward pass; others are left out.
    """
    found: dict[str, list[float]] = {}
    for layer in watched:
        gradients = [state.grad for state in layer.states if state.grad is not None]
        if len(gradients) < 2:  # of one there is no course
            continue
        number, _, backwards = layer.name.removeprefix("_l").partition("_")
        name = f"layer {int(number) + 1}" + (", from the end" if backwards else "")
        while name in found:  # of another network of the model
            name += "'"
        found[name] = torch.stack([_norm(each) for each in gradients]).tolist()
    return found


def _norm(gradient: Tensor) -> Tensor:
    """The L2 norm; also of numbers so small that their squares would be 0."""
    largest = gradient.float().abs().amax().clamp(min=torch.finfo(torch.float32).tiny)
    norm: Tensor = torch.linalg.vector_norm(gradient.float() / largest)
    return norm * largest


class GradientThroughTime(Callback):
    """Draws the gradient of the training loss with respect to the state after each time step.

    Every `log_every_n_steps` the states of recurrent layers are kept for one optimizer step, and
    their gradients are read after its backward pass: the total derivative, with all that later
    steps make of a state. Where it falls towards the beginning, the weights cannot learn from what
    was read there. Of an LSTM the cells are looked at. On a GPU that step is computed as written
    out in `dlarch.nn`, which takes longer.

    TensorBoard: image `gradients/through_time` at each validation, the first look beside the last.
    Silent where a model has no recurrent layers, and with other loggers.
    """

    def __init__(self) -> None:
        self.first: ThroughTime | None = None
        self.last: ThroughTime | None = None
        self._watched: Sequence[WatchedStates] = []
        self._open = ExitStack()

    @override
    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Watch the states, if the coming optimizer step is one to look at."""
        self._close()
        if GradientNorms.is_due(trainer) and isinstance(pl_module, OffersStates):
            self._watched = self._open.enter_context(pl_module.watch_states())

    @override
    def on_before_backward(
        self, trainer: Trainer, pl_module: LightningModule, loss: Tensor
    ) -> None:
        """Have the gradients kept."""
        self._open.close()
        for layer in self._watched:
            for state in layer.states:
                if state.requires_grad:
                    state.retain_grad()

    @override
    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read them."""
        layers = gradients_through_time(self._watched)
        self._close()
        if layers:
            self.last = ThroughTime(GradientNorms.step_of(trainer), layers)
            self.first = self.first or self.last

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, if there is a logger to draw for."""
        writers = tensorboard_writers(trainer) if shows(trainer) else []
        if not writers or self.last is None or self.first is None:
            return
        pixels = figure_pixels(through_time_figure(self.first, self.last))
        for writer in writers:
            tag = "gradients/through_time"
            writer.add_image(tag, pixels, trainer.global_step, dataformats="HWC")

    @override
    def on_exception(self, *_: Any) -> None:
        """Watch no longer."""
        self._close()

    @override
    def teardown(self, *_: Any, **__: Any) -> None:
        """Watch no longer."""
        self._close()

    def _close(self) -> None:
        self._open.close()
        self._watched = []


def through_time_figure(first: ThroughTime, last: ThroughTime) -> Figure:
    """Draw norms by time step on a logarithmic scale, the first look dashed."""
    figure = Figure(figsize=(5.6, 3.6), dpi=90, facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    for look, style, width in ((first, (0, (3, 2)), 1.0), (last, "-", 1.8)):
        for place, (name, norms) in enumerate(look.layers.items()):
            heights = [norm if 0 < norm < math.inf else math.nan for norm in norms]
            colour = COLOURS[place % len(COLOURS)]
            label = f"{name}, step {look.step}"
            axes.plot(
                range(1, len(heights) + 1), heights, color=colour, linewidth=width,
                linestyle=style, label=label,
            )  # fmt: skip
        if first is last:
            break
    axes.set_yscale("log")
    axes.set_xlabel("time step", fontsize=9, color=FAINT)
    axes.set_ylabel("gradient of the loss by the state", fontsize=9, color=FAINT)
    axes.tick_params(which="both", labelsize=8, labelcolor=FAINT, color="#c3cdd8")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False, labelcolor=INK)
    return figure
