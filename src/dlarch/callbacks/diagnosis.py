"""What ails a training, in words: judged by a few figures per layer, seen several times."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

LOOKS = 3
"""Looks in a row that an illness must show at before it is told."""

VANISHED = 1e-4
"""Gradient of a lower layer, as a share of that of a layer above, below which it has vanished."""
GREW, WEIGHTS_GREW = 1e3, 1e2
"""Growth of the norm of all gradients, or of all weights, that is no learning any more."""
OVERSHOT = 1.0
"""Update of a layer in a step, as a share of its weights, above which nothing learnt is kept."""
SHRUNK = 1e-2
"""Norm of a layer's weights, as a share of the first, below which they go to 0."""
MOST_DEAD, MOST_SATURATED = 0.5, 0.75
"""Shares of a layer above which it is told."""
STILL, UNLEARNT = 1e-6, 0.9
"""Largest update of any layer, and loss as a share of the first, of a training that stagnates."""


@dataclass(frozen=True)
class Layer:
    """The weights of one layer in one step.

    Attributes:
        name: of the module.
        gradient: L2 norm of the gradient, before clipping.
        weight: L2 norm of the weights before the step.
        update: L2 norm of their change, as a share of `weight`.
    """

    name: str
    gradient: float
    weight: float
    update: float


@dataclass(frozen=True)
class Units:
    """What leaves one activation in one step.

    Attributes:
        name: of the module.
        kind: its class.
        dead: share of units that were 0 for all examples looked at of late; ReLU only.
        saturated: share of outputs within a hundredth of a limit; sigmoid and tanh only.
    """

    name: str
    kind: str
    dead: float = 0.0
    saturated: float = 0.0


@dataclass(frozen=True)
class Look:
    """One optimizer step, seen closely.

    Attributes:
        step: optimizer steps done before it.
        learning_rate: of the step.
        loss: of the batch; NaN where unknown.
        layers: from the input to the output, as far as their order in the model tells.
        units: likewise.
    """

    step: int
    learning_rate: float
    loss: float
    layers: Sequence[Layer]
    units: Sequence[Units] = ()

    @property
    def gradient(self) -> float:
        """Norm over all layers."""
        return math.hypot(*(layer.gradient for layer in self.layers))

    @property
    def weight(self) -> float:
        """Norm over all layers."""
        return math.hypot(*(layer.weight for layer in self.layers))


class Finding(NamedTuple):
    """A sign of an illness in one layer, the worst one having the largest `badness`."""

    layer: str
    badness: float
    words: str


@dataclass
class Diagnosis:
    """Judges look after look, and tells an illness once for each part of the model.

    Of several illnesses at once the first of `ILLNESSES` is told: the others follow from it, as a
    gradient does that vanishes because units are saturated.
    """

    _first: Look | None = None
    _held: Counter[tuple[str, str]] = field(default_factory=Counter)
    _told: set[tuple[str, str]] = field(default_factory=set)

    def judge(self, look: Look) -> str | None:
        """The sentence to tell after this look, if there is anything new."""
        self._first = self._first or look
        held: Counter[tuple[str, str]] = Counter()
        told: str | None = None
        known = False  # an illness that explains the others
        for illness, (signs, advice) in ILLNESSES.items():
            lasting = []
            for finding in signs(self._first, look):
                key = illness, finding.layer
                held[key] = self._held[key] + 1
                if held[key] >= LOOKS:
                    lasting.append(finding)
            if lasting and not known:
                known = True
                told = self._tell(illness, lasting, advice)
        self._held = held
        return told

    def _tell(self, illness: str, findings: list[Finding], advice: str) -> str | None:
        fresh = [f for f in findings if (illness, part_of(f.layer)) not in self._told]
        if not fresh:
            return None
        self._told |= {(illness, part_of(finding.layer)) for finding in fresh}
        worst = max(fresh, key=lambda finding: finding.badness)
        more = f" The same holds for {_layers(len(fresh) - 1)}." if len(fresh) > 1 else ""
        return f"{illness}: {worst.words}.{more} {advice}"


def part_of(layer: str) -> str:
    """The top-level part of the model that a layer is in."""
    return layer.partition(".")[0]


def _layers(count: int) -> str:
    return f"{count} more layer{'s' if count > 1 else ''}"


# ---- the illnesses: what shows them, in comparison with the first look


def exploding(first: Look, look: Look) -> Iterable[Finding]:
    """Gradients or weights that have grown out of all proportion, or steps beyond all weights."""
    since = f"since step {first.step}"
    if not math.isfinite(look.gradient):
        yield Finding("", math.inf, "gradients are not finite")
    elif look.gradient >= GREW * first.gradient > 0:
        yield Finding(
            "",
            math.inf,
            f"the norm of the gradients has grown from {first.gradient:.2g} to "
            f"{look.gradient:.2g} {since}",
        )
    elif look.weight >= WEIGHTS_GREW * first.weight > 0:
        yield Finding(
            "",
            math.inf,
            f"the norm of the weights has grown from {first.weight:.2g} to {look.weight:.2g} "
            f"{since}",
        )
    for layer in look.layers:
        if layer.update > OVERSHOT:
            words = f"a step changes the weights of {layer.name} by {layer.update:.2g} times their"
            yield Finding(layer.name, layer.update, f"{words} own size")


def shrinking(first: Look, look: Look) -> Iterable[Finding]:
    """Weights that go to 0."""
    before = {layer.name: layer.weight for layer in first.layers}
    for layer in look.layers:
        share = layer.weight / before[layer.name] if before.get(layer.name) else 1.0
        if share < SHRUNK:
            yield Finding(
                layer.name,
                1 - share,
                f"the weights of {layer.name} have shrunk to {share:.1g} of what they were at "
                f"step {first.step}",
            )


def saturated(_: Look, look: Look) -> Iterable[Finding]:
    """Sigmoid or tanh at its limits for nearly all inputs."""
    for units in look.units:
        if units.saturated > MOST_SATURATED:
            yield Finding(
                units.name,
                units.saturated,
                f"{units.saturated:.0%} of the outputs of {units.name} ({units.kind}) are at a "
                "limit, where the slope is nearly 0",
            )


def dead(_: Look, look: Look) -> Iterable[Finding]:
    """ReLUs that are 0 whatever comes in."""
    for units in look.units:
        if units.dead > MOST_DEAD:
            yield Finding(
                units.name,
                units.dead,
                f"{units.dead:.0%} of the units of {units.name} are 0 for every example, so that "
                "nothing is learnt through them",
            )


def vanishing(_: Look, look: Look) -> Iterable[Finding]:
    """Gradients that are next to nothing beside that of an upper layer, from the lowest one on."""
    layers = look.layers
    for index, layer in enumerate(layers[:-1]):
        upper = max(layers[index + 1 :], key=lambda each: each.gradient)
        if not layer.gradient < VANISHED * upper.gradient:
            return
        share = layer.gradient / upper.gradient
        if layer.update < upper.update / 100:
            so = "so that lower layers stand still while upper ones move"
        else:
            so = "and the optimizer enlarges it, noise and all"
        words = f"the gradient of {layer.name} is {share:.0e} of that of {upper.name}, {so}"
        yield Finding(layer.name, 1 - share, words)


def stagnating(first: Look, look: Look) -> Iterable[Finding]:
    """No layer moves though little has been learnt."""
    largest = max(layer.update for layer in look.layers)
    unlearnt = look.loss > UNLEARNT * first.loss > 0
    # A learning rate that has been taken back stops training on purpose.
    if largest < STILL and unlearnt and look.learning_rate >= first.learning_rate / 2:
        yield Finding(
            "",
            1.0,
            f"no step changes any layer by more than {largest:.0e} of its weights, at a learning "
            f"rate of {look.learning_rate:.2g} and a loss of {look.loss:.3g}, which was "
            f"{first.loss:.3g} at first",
        )


Signs = Callable[[Look, Look], Iterable[Finding]]

ILLNESSES: dict[str, tuple[Signs, str]] = {
    "Exploding gradients": (
        exploding,
        "Lower the learning rate, set --trainer.gradient_clip_val 1.0, or start with smaller "
        "weights (an initializer that suits the activation).",
    ),
    "Weights go to 0": (
        shrinking,
        "Weaken the weight decay or penalty.",
    ),
    "Saturation": (
        saturated,
        "Start with smaller weights, normalise before the activation, or try relu.",
    ),
    "Dead units": (
        dead,
        "Lower the learning rate, normalise before the activation, or try leaky_relu.",
    ),
    "Vanishing gradients": (
        vanishing,
        "Try relu with He's initializer, normalisation, residual connections, or fewer layers.",
    ),
    "Stagnation": (
        stagnating,
        "Raise the learning rate.",
    ),
}
"""Name to what shows it and what to do about it; causes stand before what follows from them."""
