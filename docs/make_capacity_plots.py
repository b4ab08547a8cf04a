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
    BLUE,
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

from dlarch.callbacks.plane import draw_surface

SEEDS = (1, 2, 3)
ADAM = partial(optim.Adam, lr=0.01)


# ---- width

WIDTHS = (1, 2, 3, 5, 10, 30, 100, 300)
CURVES = {"many points": {"size": 500, "noise": 0.1}, "few points": {"size": 50, "noise": 0.3}}
EPOCHS = 1500


def wide(points: dict[str, Any], width: int, seed: int) -> tuple[Any, Any]:
    """A network of one hidden layer, and the points of a curve that it was fitted to."""
    data = prepared("curves_1d", curve="sine", **points)
    return trained(data, EPOCHS, seed, hidden_sizes=[width], optimizer=ADAM), data


def width_fits(images: Path) -> None:
    """What networks of one hidden layer make of a sine, by width."""
    widths = (1, 3, 10, 300)
    figure, panels = grid(2, len(widths), 2.0, 1.8)
    for row, (name, points) in zip(panels, CURVES.items(), strict=True):
        for axes, width in zip(row, widths, strict=True):
            model, data = wide(points, width, seed=1)
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
    """Training and validation error by width."""
    figure, (row,) = grid(1, 2, 3.9, 2.7)
    for axes, (name, points) in zip(row, CURVES.items(), strict=True):
        found: dict[str, list[list[float]]] = {"train": [], "validation": []}
        for width in WIDTHS:
            fits = [wide(points, width, seed) for seed in SEEDS]
            for split, errors in found.items():
                unit = fits[0][1].processor.target_std[0]
                errors.append([score(m, data, split).figure * unit for m, data in fits])
        for (split, errors), colour in zip(found.items(), (PALE, RED), strict=True):
            spread = np.array(errors)
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
                surface = models[0](plane.flatten(0, 1)).softmax(1).unflatten(0, plane.shape[:2])
            points, labels = train.features[:300].numpy(), train.targets[:300].numpy()
            draw_surface(axes, surface.numpy(), (-2.0, 2.0, -2.0, 2.0), points, labels)
            axes.set_xticks([])
            axes.set_yticks([])
            label(axes, f"{depth} layers: {np.mean(found):.2f}", "", shape if depth == 0 else "")
            print(f"{shape}, {depth} hidden layers: {np.mean(found):.3f} ({found})")
    save(figure, images / "depth_surfaces.png")


def shapes_of_equal_size(images: Path) -> None:
    """Spirals again, by depth, with about as many parameters for each depth."""
    figure, ((axes,),) = grid(1, 1, 4.4, 2.6)
    data = prepared("toy_2d", shape="spirals", batch_size=100, noise=0.1)
    networks = {"1 x 60": [60], "2 x 15": [15] * 2, "4 x 9": [9] * 4, "8 x 6": [6] * 8}
    for place, (name, sizes) in enumerate(networks.items()):
        models = [trained(data, 120, seed, hidden_sizes=sizes, optimizer=ADAM) for seed in range(5)]
        found = [score(model, data, "validation").figure for model in models]
        axes.scatter([place] * len(found), found, s=14, color=PALE)
        axes.scatter([place], [np.mean(found)], s=60, color=BLUE, marker="_")
        size = sum(parameter.numel() for parameter in models[0].parameters())
        print(f"spirals, {name}, {size} parameters: {np.mean(found):.3f} ({found})")
    axes.set_xticks(range(len(networks)), list(networks))
    label(axes, "", "hidden layers x units", "validation accuracy")
    save(figure, images / "depth_or_width.png")


PICTURES = (width_fits, width_errors, depth_surfaces, shapes_of_equal_size)

if __name__ == "__main__":
    draw_all(PICTURES, __doc__.partition("\n")[0])
