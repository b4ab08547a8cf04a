"""Draw the pictures of depth_and_width.md; trains small networks on curves and in the plane.

python docs/make_capacity_plots.py [NAME ...]      about two minutes on one CPU core for all
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from small_networks import (
    FAINT,
    PALE,
    RED,
    draw_all,
    grid,
    label,
    legend,
    prepared,
    save,
    score,
    trained,
)
from torch import optim

from dlarch.callbacks.plane import draw_surface, surface

SEEDS = (1, 2, 3)
ADAM = partial(optim.Adam, lr=0.01)


# ---- width

WIDTHS = (1, 2, 3, 5, 10, 30, 100, 300)
CURVES = {"400 points": {"size": 500, "noise": 0.1}, "32 points": {"size": 40, "noise": 0.3}}
EPOCHS = 1500
FRESH = 2000
"""Points of the same curve, with as much noise, that no network was fitted to."""


def fitted(points: dict[str, Any], width: int, seed: int) -> tuple[Any, Any]:
    """A network of one hidden layer, and the points of a sine that it was fitted to."""
    data = prepared("curves_1d", curve="sine", generator_seed=seed, **points)
    return trained(data, EPOCHS, seed, hidden_sizes=[width], optimizer=ADAM), data


def width_fits(images: Path) -> None:
    """What networks of one hidden layer make of a sine, by width."""
    widths = (1, 3, 10, 300)
    figure, panels = grid(2, len(widths), 2.0, 1.8)
    for row, (name, points) in zip(panels, CURVES.items(), strict=True):
        for axes, width in zip(row, widths, strict=True):
            model, data = fitted(points, width, seed=1)
            x = np.linspace(-1, 1, 400)[:, None]
            with torch.no_grad():
                y = data.processor.decode(model(data.processor.normalize(x)))
            train = data._tables["train"]
            axes.scatter(train.features, train.targets, s=4, color=PALE)
            axes.plot(x, np.sin(2 * np.pi * x), color=FAINT, linewidth=0.8, linestyle=(0, (4, 3)))
            axes.plot(x, np.array(y), color=RED, linewidth=1.4)
            axes.set_ylim(-2, 2)
            label(axes, f"{width} unit{'s' if width > 1 else ''}, {name}")
    save(figure, images / "width_fits.png")


def width_errors(images: Path) -> None:
    """Error on the points that were fitted, and on fresh ones, by width."""
    figure, (row,) = grid(1, 2, 3.9, 2.7)
    for axes, (name, points) in zip(row, CURVES.items(), strict=True):
        found: dict[str, list[list[float]]] = {"fitted points": [], "fresh points": []}
        for width in WIDTHS:
            errors: dict[str, list[float]] = {split: [] for split in found}
            for seed in SEEDS:
                model, data = fitted(points, width, seed)
                more = {"size": FRESH, "noise": points["noise"], "generator_seed": 1000 + seed}
                fresh = prepared("curves_1d", curve="sine", processor=data.processor, **more)
                unit = data.processor.target_std[0]
                errors["fitted points"].append(score(model, data, "train").figure * unit)
                errors["fresh points"].append(score(model, fresh, "train").figure * unit)
            for split, each in errors.items():
                found[split].append(each)
        for (split, by_width), colour in zip(found.items(), (PALE, RED), strict=True):
            spread = np.array(by_width)
            low, mean, high = spread.min(1), spread.mean(1), spread.max(1)
            axes.fill_between(WIDTHS, low, high, color=colour, alpha=0.2, linewidth=0)
            axes.loglog(WIDTHS, mean, color=colour, label=split, marker=".")
            means = [f"{width}: {each:.3f}" for width, each in zip(WIDTHS, mean, strict=True)]
            print(f"{name}, {split}: {', '.join(means)}")
        axes.axhline(points["noise"], color=FAINT, linewidth=0.9, linestyle=(0, (4, 3)))
        axes.annotate("noise", (WIDTHS[0], points["noise"]), fontsize=8, color=FAINT, va="bottom")
        axes.set_xticks(WIDTHS, [str(width) for width in WIDTHS])
        axes.set_yticks((0.1, 0.2, 0.5, 1.0), ("0.1", "0.2", "0.5", "1"))
        axes.minorticks_off()
        label(axes, name, "hidden units", "RMSE")
    legend(row[1])
    save(figure, images / "width_errors.png")


# ---- depth

SHAPES = {
    "moons": {"noise": 0.2},
    "rings": {"classes": 3, "noise": 0.05},
    "spirals": {"noise": 0.1},
}
DEPTHS = (0, 1, 2, 4)
UNITS = 8


def depth_surfaces(images: Path) -> None:
    """The class of each place of the plane, by the number of hidden layers of 8 units."""
    figure, panels = grid(len(SHAPES), len(DEPTHS), 2.1, 2.0)
    places = torch.linspace(-2, 2, 120)
    plane = torch.stack(torch.meshgrid(places, places, indexing="xy"), dim=-1)
    for row, (shape, options) in zip(panels, SHAPES.items(), strict=True):
        data = prepared("toy_2d", shape=shape, batch_size=100, **options)
        train = data.dataset("train")
        for axes, depth in zip(row, DEPTHS, strict=True):
            models = [
                trained(data, 120, seed, hidden_sizes=[UNITS] * depth, optimizer=ADAM)
                for seed in SEEDS
            ]
            found = [score(model, data, "validation").figure for model in models]
            with torch.no_grad():
                classes = models[0](plane.flatten(0, 1)).softmax(1).unflatten(0, plane.shape[:2])
            points, labels = train.features[:300].numpy(), train.targets[:300].numpy()
            draw_surface(axes, classes.numpy(), (-2.0, 2.0, -2.0, 2.0), points, labels)
            axes.set_xticks([])
            axes.set_yticks([])
            label(axes, f"{depth} layers: {np.mean(found):.2f}", "", shape if depth == 0 else "")
            print(f"{shape}, {depth} hidden layers: {np.mean(found):.3f} ({found})")
    save(figure, images / "depth_surfaces.png")


def decision_surface(images: Path) -> None:
    """What TensorBoard shows of a network on spirals."""
    data = prepared("toy_2d", shape="spirals", batch_size=100, noise=0.1)
    model = trained(data, 120, 1, hidden_sizes=[UNITS] * 2, optimizer=ADAM)
    points = data.dataset("validation")
    with torch.no_grad():
        figure = surface(model, points.features, points.targets)
    save(figure, images / "decision_surface.png")


def equal_sizes(_: Path) -> None:
    """Spirals by depth, with about as many parameters for each depth; figures, no picture."""
    data = prepared("toy_2d", shape="spirals", batch_size=100, noise=0.1)
    for sizes in ([60], [15] * 2, [9] * 4, [6] * 8):
        models = [trained(data, 120, seed, hidden_sizes=sizes, optimizer=ADAM) for seed in SEEDS]
        found = [score(model, data, "validation").figure for model in models]
        size = sum(parameter.numel() for parameter in models[0].parameters())
        print(f"spirals, {sizes}, {size} parameters: {np.mean(found):.3f} ({found})")


PICTURES = (width_fits, width_errors, depth_surfaces, decision_surface, equal_sizes)

if __name__ == "__main__":
    draw_all(PICTURES, __doc__.partition("\n")[0])
