"""Gradient health: looks closely at a step now and then, and says in words what ails a training."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningModule, Trainer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from typing_extensions import override

from dlarch.callbacks.diagnosis import Diagnosis, Layer, Look, Units
from dlarch.callbacks.figures import FAINT, INK, figure_pixels
from dlarch.callbacks.gradients import GradientNorms, gradient_norm
from dlarch.callbacks.protocols import shows, tensorboard_writers

logger = logging.getLogger(__name__)

ENOUGH = 100
"""Examples in a row for which a unit has to be 0 to count as dead."""
SAMPLE = 16_384
"""Weights of a layer, about, whose update is measured: whole units, evenly spaced."""
MOST_LAYERS = 60
"""Layers up to which bars can be read; of more, evenly spaced ones are drawn."""


class GradientHealth(GradientNorms):
    """Logs what `GradientNorms` does, figures per layer, and a sentence for each illness.

    Every `log_every_n_steps` one optimizer step is looked at: the gradient of each layer, the
    change of its weights as a share of them, the share of its units that are dead (ReLU) or
    saturated (sigmoid, tanh), the growth of the gradients since the first look. Layers are modules
    with weights of two dimensions or more; activations are found by their class, by hooks that
    stay for the look alone. A unit is a channel of maps (B, C, H, W), else a place along the last
    dimension. An activation that nothing follows is the model's output, and may saturate.

    TensorBoard: scalars `health/gradient/LAYER`, `health/update/LAYER`, `health/dead/ACTIVATION`,
    `health/saturated/ACTIVATION`, `health/growth`; image `health/layers` at each validation; text
    `health/diagnosis`. Sentences are warnings as well. Of several optimizers each is judged on its
    own; of several processes the first one looks. A resumed run begins to judge anew.

    Args:
        picture: draw the layers of the last look at each validation.
    """

    def __init__(self, picture: bool = True) -> None:
        super().__init__()
        self.picture = picture
        self.last: Look | None = None  # of the last optimizer
        self._diagnoses: dict[int, Diagnosis] = {}
        self._first: dict[int, float] = {}  # norm of the gradients at the first look
        self._hooks: list[RemovableHandle] = []
        self._silent: dict[tuple[str, int], Tensor] = {}  # examples since a unit was not 0
        self._saturated: dict[str, list[Tensor]] = {}
        self._kinds: dict[str, str] = {}
        self._steps: list[_Step] = []
        self._due = False
        self._drawn = -1

    # ---- the step that is looked at

    @override
    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Watch the activations, if the coming optimizer step is one to look at."""
        before, self._due = self._due, self.is_due(trainer)
        if before == self._due:  # nothing to look at, or a further batch of the same step
            return
        self._unhook()
        if not self._due:
            return
        for name, module in activations_of(pl_module):
            self._kinds[name] = type(module).__name__
            self._hooks.append(module.register_forward_hook(self._watch(name)))

    def _watch(self, name: str) -> Any:
        def hook(module: nn.Module, _: Any, output: Tensor) -> None:
            if not module.training or output.dim() < 2:
                return
            values = output.detach()
            if isinstance(module, nn.ReLU | nn.ReLU6):
                place = 1 if values.dim() > 3 else -1
                units = values.movedim(place, -1).flatten(0, -2)
                key = name, units.shape[1]
                before = self._silent.get(key)
                silent = len(values) + (0 if before is None else before)
                self._silent[key] = (units <= 0).all(0) * silent
            else:
                limit = 0.98
                centred = values if isinstance(module, nn.Tanh) else 2 * values - 1
                self._saturated.setdefault(name, []).append((centred.abs() > limit).float().mean())

        return hook

    @override
    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Gradients are complete and unscaled here, and weights as they were."""
        if not self._due:
            return
        super().on_before_optimizer_step(trainer, pl_module, optimizer)
        index = trainer.optimizers.index(optimizer)
        if any(step.optimizer == index for step in self._steps):  # it searches, and comes again
            return
        step = _Step(
            index,
            self.step_of(trainer),
            float(optimizer.param_groups[0]["lr"]),
            _weights(pl_module, optimizer),
        )
        self._steps += [step] if step.layers else []

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any
    ) -> None:
        """After the step: what it has changed, and what is to be said."""
        if not self._steps:
            return
        self._unhook()
        for look, step in zip(self._looks(outputs), self._steps, strict=True):
            self.last = look
            self._log(trainer, look, step.optimizer)
            sentence = self._diagnoses.setdefault(step.optimizer, Diagnosis()).judge(look)
            if sentence is not None:
                logger.warning("Step %d. %s", look.step, sentence)
                for writer in tensorboard_writers(trainer):
                    writer.add_text("health/diagnosis", sentence, look.step)
        self._steps, self._saturated, self._due = [], {}, False

    def _looks(self, outputs: Any) -> list[Look]:
        """Read all figures from the device at once."""
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        found: list[Tensor] = [loss if isinstance(loss, Tensor) else torch.tensor(math.nan)]
        for step in self._steps:
            for each in step.layers:
                found += each.figures()
        dead = [(silent >= ENOUGH).float().mean() for silent in self._silent.values()]
        saturated = [torch.stack(shares).mean() for shares in self._saturated.values()]
        found += [*dead, *saturated]
        device = self._steps[0].layers[0].gradient.device
        values = iter(torch.stack([f.detach().to(device, torch.float32) for f in found]).tolist())
        last = next(values)
        layers = [
            [Layer(each.name, *(next(values) for _ in range(3))) for each in step.layers]
            for step in self._steps
        ]
        units = [Units(name, self._kinds[name], dead=next(values)) for name, _ in self._silent]
        units += [Units(n, self._kinds[n], saturated=next(values)) for n in self._saturated]
        return [
            Look(step.step, step.learning_rate, last, found_here, units)
            for step, found_here in zip(self._steps, layers, strict=True)
        ]

    def _log(self, trainer: Trainer, look: Look, optimizer: int) -> None:
        first = self._first.setdefault(optimizer, look.gradient)
        name = "health/growth" if len(trainer.optimizers) == 1 else f"health/growth_{optimizer}"
        values = {name: look.gradient / first} if first > 0 else {}
        values |= {f"health/gradient/{layer.name}": layer.gradient for layer in look.layers}
        values |= {f"health/update/{layer.name}": layer.update for layer in look.layers}
        for units in look.units:
            kind = "dead" if "ReLU" in units.kind else "saturated"
            values[f"health/{kind}/{units.name}"] = getattr(units, kind)
        for each in trainer.loggers:
            each.log_metrics(values, step=look.step)

    # ---- the picture

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the layers of the last look, if there is a new one and a logger to draw for."""
        writers = tensorboard_writers(trainer) if shows(trainer) and self.picture else []
        if not writers or self.last is None or self.last.step == self._drawn:
            return
        self._drawn = self.last.step
        pixels = figure_pixels(health_figure(self.last))
        for writer in writers:
            writer.add_image("health/layers", pixels, trainer.global_step, dataformats="HWC")

    # ---- the end

    @override
    def on_exception(self, *_: Any) -> None:
        """Leave no hook behind."""
        self._unhook()

    @override
    def teardown(self, *_: Any, **__: Any) -> None:
        """Leave no hook behind."""
        self._unhook()

    def _unhook(self) -> None:
        for handle in self._hooks:
            handle.remove()
        self._hooks = []


# ---- what is looked at


class _Weights(NamedTuple):
    """A layer before its step."""

    name: str
    gradient: Tensor  # its norm
    some: list[Tensor]  # a part of the weights, which the step will change
    before: list[Tensor]  # a copy of it
    part: float  # how many of the weights that is, as a share

    def figures(self) -> list[Tensor]:
        """Norms of gradient and weights, and the change as a share of them; 0 where they were 0."""
        changes = zip(self.some, self.before, strict=True)
        change = gradient_norm([after - before for after, before in changes])
        size = gradient_norm(self.before)
        update = torch.where(size > 0, change / size, 0.0)
        return [self.gradient, size / math.sqrt(self.part), update]


class _Step(NamedTuple):
    """An optimizer's step that is being looked at."""

    optimizer: int
    step: int
    learning_rate: float
    layers: list[_Weights]


def weights_of(module: nn.Module) -> Iterable[tuple[str, list[nn.Parameter]]]:
    """Names and weights of layers: what a module itself has of two dimensions or more."""
    seen: set[int] = set()
    for name, each in module.named_modules():
        own = [p for p in each.parameters(recurse=False) if p.dim() > 1 and id(p) not in seen]
        seen |= {id(parameter) for parameter in own}
        if own:
            yield name, own


def _weights(module: nn.Module, optimizer: torch.optim.Optimizer) -> list[_Weights]:
    ours = {id(p) for group in optimizer.param_groups for p in group["params"]}
    layers = []
    for name, parameters in weights_of(module):
        moved = [p for p in parameters if p.grad is not None and id(p) in ours]
        if not moved:
            continue
        gradient = gradient_norm([p.grad for p in moved if p.grad is not None])
        some = [p.detach()[:: max(1, min(len(p), p.numel() // SAMPLE))] for p in moved]
        part = sum(p.numel() for p in some) / sum(p.numel() for p in moved)
        layers.append(
            _Weights(name or "model", gradient, some, [each.clone() for each in some], part)
        )
    return layers


def activations_of(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """Names and modules of ReLU, sigmoid and tanh, but for those that no layer follows."""
    found: list[tuple[str, nn.Module]] = []
    followed = 0
    for name, each in module.named_modules():
        if isinstance(each, nn.ReLU | nn.ReLU6 | nn.Sigmoid | nn.Tanh):
            found.append((name, each))
        elif any(p.dim() > 1 for p in each.parameters(recurse=False)):
            followed = len(found)
    return found[:followed]


def where_not_finite(module: nn.Module) -> str:
    """A sentence on the layers whose weights are not finite, or whose gradient was largest.

    To be asked after a loss that is not finite; empty without any weights or gradients.
    """
    layers = list(weights_of(module))
    broken = [n for n, own in layers if not all(bool(p.isfinite().all()) for p in own)]
    if broken:
        others = f" and {len(broken) - 1} more" if len(broken) > 1 else ""
        return f" The weights of {broken[0]}{others} are not finite since an earlier step."
    norms = {
        name: float(gradient_norm([p.grad for p in own if p.grad is not None]))
        for name, own in layers
        if any(p.grad is not None for p in own)
    }
    if not norms:
        return ""
    worst = max(norms, key=lambda name: norms[name] if math.isfinite(norms[name]) else math.inf)
    return f" The largest gradient of the step before was that of {worst}: {norms[worst]:.2g}."


# ---- the figure


def health_figure(look: Look) -> Figure:
    """Draw bars per layer, the input's at the bottom: gradient, update, dead or saturated units.

    Gradients and updates are on a logarithmic scale; one that is 0 or no number has no bar.
    """
    stride = math.ceil(len(look.layers) / MOST_LAYERS)
    layers = look.layers[::stride]
    panels: list[tuple[str, str, dict[str, float]]] = [
        ("norm of the gradient", "#1f5fa8", {layer.name: layer.gradient for layer in layers}),
        ("update / weights", "#5f9bd1", {layer.name: layer.update for layer in layers}),
    ]
    shares = {units.name: units.dead or units.saturated for units in look.units[::stride]}
    if shares:
        panels.append(("dead or saturated units", "#d1495b", shares))
    room = 0.3 + 0.085 * max(len(name) for _, _, bars in panels for name in bars)
    width, height = room + 2.2, 0.9 + 0.24 * max(len(layers), 3)
    figure = Figure(figsize=(width * len(panels), height), dpi=80, facecolor="white")
    for column, (title, colour, bars) in enumerate(panels):
        corner = (column * width + room) / (width * len(panels)), 0.55 / height
        size = 1.95 / (width * len(panels)), 1 - 0.9 / height
        axes = figure.add_axes((*corner, *size))
        _bars(axes, list(bars.values()), colour, logarithmic=bars is not shares)
        axes.set_yticks(range(len(bars)), list(bars))
        axes.tick_params(labelsize=8, length=0, labelcolor=INK)
        axes.set_title(title, fontsize=9, color=INK, loc="left")
        for side, spine in axes.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set_color("#c3cdd8")
    figure.text(0.5, 0.04, f"step {look.step}", fontsize=8, color=FAINT, ha="center")
    return figure


def _bars(axes: Axes, values: list[float], colour: str, *, logarithmic: bool) -> None:
    """Horizontal bars; exponents stand in for a logarithmic axis, which takes long to draw."""
    if not logarithmic:
        axes.barh(range(len(values)), values, color=colour)
        axes.set_xlim(0, 1)
        return
    exponents = [math.log10(v) if 0 < v < math.inf else math.nan for v in values]
    known = [exponent for exponent in exponents if not math.isnan(exponent)] or [0.0]
    low, high = math.floor(min(known) - 0.1), math.ceil(max(known) + 0.1)
    axes.barh(
        range(len(values)), [exponent - low for exponent in exponents], left=low, color=colour
    )
    axes.set_xlim(low, high)
    places = range(low, high + 1, math.ceil((high - low) / 4))
    axes.set_xticks(places, [f"{10.0**place:g}" for place in places])
