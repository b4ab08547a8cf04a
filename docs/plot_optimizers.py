"""Draw the pictures of docs/optimizers.md: how each rule walks over a loss surface.

python docs/plot_optimizers.py          writes images/optimizer_paths.png, optimizer_losses.png,
                                        learning_rates.png, momentum.png and loss_surface.png
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from make_plots import IMAGES, dress, save
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from dlarch import optim

PATH, START, END = "#d1495b", "#17212b", "#f2a33a"
CURVES = ("#1f5fa8", "#3fa36b", "#f2a33a", "#d1495b", "#8a5fb0", "#5f9bd1", "#7a6a53", "#e07fb0",
          "#17212b")  # fmt: skip
STEPS = 200

RULES: dict[str, tuple[type[optim.SGD] | Any, dict[str, Any]]] = {
    "SGD": (optim.SGD, {}),
    "momentum 0.9": (optim.SGD, {"momentum": 0.9}),
    "Nesterov 0.9": (optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "Adagrad": (optim.Adagrad, {}),
    "Adadelta": (optim.Adadelta, {}),
    "RMSprop": (optim.RMSprop, {}),
    "Adam": (optim.Adam, {}),
    "Adamax": (optim.Adamax, {}),
    "NAdam": (optim.NAdam, {}),
}
RATES = [factor * 10.0**power for power in range(-4, 3) for factor in (1, 2, 5)]
"""Learning rates that are tried for each rule; see `best_walk`."""


class Path2D(NamedTuple):
    """Where an optimizer came along, (steps + 1, 2), and the loss there."""

    points: NDArray[np.float64]
    losses: NDArray[np.float64]


Surface = Callable[[Tensor, Tensor], Tensor]


def rippled_valley(x: Tensor, y: Tensor) -> Tensor:
    """A valley, 40 times steeper across than along, with local minima on its floor."""
    return 0.05 * x**2 + 2 * y**2 + 0.25 * (1 - torch.cos(2.5 * x))


def valley(x: Tensor, y: Tensor) -> Tensor:
    """A valley without ripples; curvatures 1 along and 20 across."""
    return 0.5 * (x**2 + 20 * y**2)


def walk(surface: Surface, start: tuple[float, float], steps: int, make: Any) -> Path2D:
    """Follow an optimizer over a surface."""
    place = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
    optimizer = make([place])
    points, losses = [], []
    for step in range(steps + 1):
        loss = surface(place[0], place[1])
        points.append(place.detach().numpy().copy())
        losses.append(float(loss.detach()))
        if step < steps:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return Path2D(np.array(points), np.array(losses))


def best_walk(name: str, surface: Surface, start: tuple[float, float]) -> tuple[float, Path2D]:
    """The path of a rule with the learning rate, among `RATES`, with which it ends lowest.

    Left out are paths that on the way come higher than they started.
    """
    kind, options = RULES[name]
    found = [
        (rate, walk(surface, start, STEPS, lambda p, rate=rate: kind(p, lr=rate, **options)))
        for rate in RATES
    ]
    steady = [(rate, path) for rate, path in found if path.losses.max() <= path.losses[0]]
    return min(steady, key=lambda each: each[1].losses[-10:].max())


# ---- pictures


def draw_paths(images: Path) -> None:
    """Every rule from the same start, and the loss on the way."""
    start = (-7.5, 1.5)
    figure = Figure(figsize=(9.0, 6.0), dpi=80, layout="constrained")
    losses, curves = figure_with_axes("step", 6.6, 3.6)
    for number, name in enumerate(RULES):
        rate, path = best_walk(name, rippled_valley, start)
        axes = figure.add_subplot(3, 3, number + 1)
        contours(axes, rippled_valley, (-9, 4), (-2, 2))
        draw_path(axes, path)
        axes.set_title(f"{name}, rate {rate:g}: {path.losses[-1]:.2g}", fontsize=9)
        curves.plot(path.losses, color=CURVES[number], label=name, linewidth=1.4)
        print(f"{name}: rate {rate:g}, loss {path.losses[-1]:.4g} after {STEPS} steps")
    curves.set_ylabel("loss", fontsize=9)
    curves.set_yscale("log")
    curves.set_ylim(1e-6, 20)
    curves.legend(frameon=False, fontsize=8, ncols=3)
    save(figure, images / "optimizer_paths.png")
    save(losses, images / "optimizer_losses.png")


def draw_learning_rates(images: Path) -> None:
    """Gradient descent in a plain valley, whose steepest curvature allows rates below 2 / 20."""
    options = [(f"rate {rate:g}", {"lr": rate}) for rate in (0.005, 0.05, 0.095, 0.102)]
    draw_settings(options, images / "learning_rates.png", steps=50)


def draw_momentum(images: Path) -> None:
    """The same rate with more and more momentum."""
    options = [(f"momentum {m:g}", {"lr": 0.02, "momentum": m}) for m in (0.0, 0.5, 0.9, 0.98)]
    draw_settings(options, images / "momentum.png", steps=100)


def draw_settings(options: Sequence[tuple[str, dict[str, Any]]], file: Path, steps: int) -> None:
    figure = Figure(figsize=(9.0, 4.8), dpi=80, layout="constrained")
    grid = figure.add_gridspec(2, len(options))
    below = figure.add_subplot(grid[1, :])
    dress(below, "step")
    below.set_ylabel("loss", fontsize=9)
    below.set_yscale("log")
    for number, (name, settings) in enumerate(options):
        path = walk(valley, (-4.0, 1.0), steps, lambda p, s=settings: optim.SGD(p, **s))
        axes = figure.add_subplot(grid[0, number])
        contours(axes, valley, (-5, 5), (-2.5, 2.5))
        draw_path(axes, path)
        axes.set_title(name, fontsize=9)
        below.plot(path.losses, color=CURVES[number], label=name, linewidth=1.4)
        print(f"{file.stem}, {name}: loss {path.losses[-1]:.4g} after {steps} steps")
    below.legend(frameon=False, fontsize=8)
    save(figure, file)


class SineUnit:
    """The loss of one unit sin(w x + b) that is fitted to 40 points, of all or of a few at a time.

    Args:
        batch_size: points that a call looks at, drawn anew each time; all if 40.
    """

    def __init__(self, batch_size: int = 40) -> None:
        generator = torch.Generator().manual_seed(0)
        self.inputs = torch.rand(40, generator=generator, dtype=torch.float64) * 6 - 3
        noise = torch.randn(40, generator=generator, dtype=torch.float64)
        self.targets = torch.sin(2.0 * self.inputs + 0.5) + 0.1 * noise
        self.batch_size, self.generator = batch_size, generator

    def __call__(self, w: Tensor, b: Tensor) -> Tensor:
        rows = torch.randperm(40, generator=self.generator)[: self.batch_size]
        outputs = torch.sin(w[..., None] * self.inputs[rows] + b[..., None])
        return (outputs - self.targets[rows]).square().mean(-1)


def draw_loss_surface(images: Path) -> None:
    """Paths over a loss surface with many minima, and how often the deepest are reached."""
    figure = Figure(figsize=(9.0, 6.4), dpi=80, layout="constrained")
    starts = [(-3.4, 1.5), (0.4, 0.3), (0.7, 2.2), (3.6, -1.2)]
    cases = {"all points": (40, 0.0), "all points, momentum 0.9": (40, 0.9),
             "batches of 4": (4, 0.0), "batches of 4, momentum 0.9": (4, 0.9)}  # fmt: skip
    everything = SineUnit()
    more = np.random.default_rng(0).uniform((-5, -math.pi), (5, math.pi), (200, 2))
    for number, (name, (batch_size, momentum)) in enumerate(cases.items()):

        def make(parameters: Any, momentum: float = momentum) -> Any:
            return optim.SGD(parameters, lr=0.1, momentum=momentum)

        ends = [walk(SineUnit(batch_size), tuple(each), STEPS, make).points[-1] for each in more]
        found = everything(*torch.from_numpy(np.array(ends)).T) < 0.05
        print(f"sine unit, {name}: {int(found.sum())} of {len(more)} starts end at the bottom")
        axes = figure.add_subplot(2, 2, number + 1)
        contours(axes, everything, (-5, 5), (-math.pi, math.pi), log=False)
        for start in starts:
            draw_path(axes, walk(SineUnit(batch_size), start, STEPS, make))
        axes.set_title(name, fontsize=9)
        axes.set_xlabel("w", fontsize=9)
        axes.set_ylabel("b", fontsize=9)
    save(figure, images / "loss_surface.png")


def contours(
    axes: Axes,
    surface: Surface,
    across: tuple[float, float],
    up: tuple[float, float],
    log: bool = True,
) -> None:
    """Lines of equal loss; logarithmically spaced where one minimum is deepest."""
    x, y = np.meshgrid(np.linspace(*across, 241), np.linspace(*up, 161))
    heights = surface(torch.from_numpy(x), torch.from_numpy(y)).numpy()
    if log:
        heights = np.maximum(heights, 1e-9)
        levels = np.geomspace(0.02, heights.max(), 14)
        axes.contourf(x, y, heights, levels, cmap="Blues", norm=LogNorm(), extend="min", alpha=0.75)
        axes.contour(x, y, heights, levels, colors="white", linewidths=0.4)
    else:
        axes.contourf(x, y, heights, 14, cmap="Blues", alpha=0.75)
        axes.contour(x, y, heights, 14, colors="white", linewidths=0.4)
    axes.set_xlim(*across)
    axes.set_ylim(*up)
    axes.tick_params(labelsize=7)


def draw_path(axes: Axes, path: Path2D) -> None:
    """Steps as dots, start and end marked."""
    axes.plot(*path.points.T, color=PATH, linewidth=0.9, marker=".", markersize=2.5)
    axes.plot(*path.points[0], marker="o", color=START, markersize=4)
    axes.plot(*path.points[-1], marker="*", color=END, markersize=9, markeredgecolor=START)


def figure_with_axes(x_label: str, width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), dpi=80, layout="constrained")
    axes = figure.add_subplot()
    dress(axes, x_label)
    return figure, axes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=Path, default=IMAGES, help="folder of the pictures")
    images = parser.parse_args().images
    images.mkdir(parents=True, exist_ok=True)
    draw_paths(images)
    draw_learning_rates(images)
    draw_momentum(images)
    draw_loss_surface(images)


if __name__ == "__main__":
    main()
