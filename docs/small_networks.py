"""What the scripts that train small networks for the pages share: a plain loop, and figures."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import dlarch

IMAGES = Path(__file__).parent / "images"
INK, FAINT, EDGE = "#1b2733", "#6b7a89", "#c3cdd8"
BLUE, PALE, RED, GREEN = "#1f5fa8", "#5f9bd1", "#d1495b", "#3fa36b"


class Score(NamedTuple):
    """Of a split: the mean loss, and the share of right classes or the root of the loss."""

    loss: float
    figure: float


def prepared(name: str, **options: Any) -> Any:
    """A data module with its splits."""
    data = dlarch.create_data(name, **options)
    data.prepare_data()
    data.setup()
    return data


def trained(data: Any, epochs: int, seed: int = 0, **options: Any) -> Any:
    """A new mlp, trained by its own loss and optimizer, without a Trainer."""
    torch.manual_seed(seed)
    model = dlarch.create_model("mlp", data, **options)
    optimizer = model.make_optimizer(model.parameters())
    loader = data.train_dataloader()
    for _ in range(epochs):
        for batch in loader:
            loss = model._loss(model(batch[0]), batch[1])
            penalty = model.penalty()
            optimizer.zero_grad()
            (loss if penalty is None else loss + penalty).backward()
            optimizer.step()
            with torch.no_grad():
                model.constrain()
    return model.eval()


@torch.no_grad()
def score(model: Any, data: Any, split: str) -> Score:
    """How a model does on a split; numbers are in the unit of the normalised targets."""
    total = right = count = 0.0
    for inputs, targets, _ in data._evaluation_loader(split):
        outputs = model(inputs)
        total += float(model._loss(outputs, targets)) * len(inputs)
        right += float((outputs.argmax(1) == targets).sum()) if model.classifies else 0.0
        count += len(inputs)
    return Score(total / count, right / count if model.classifies else (total / count) ** 0.5)


# ---- figures


def grid(rows: int, columns: int, width: float, height: float) -> tuple[Figure, list[list[Axes]]]:
    """A figure of panels, each of a size in inches."""
    figure = Figure(figsize=(width * columns, height * rows), dpi=80, layout="constrained")
    panels = [
        [figure.add_subplot(rows, columns, row * columns + column + 1) for column in range(columns)]
        for row in range(rows)
    ]
    for axes in (each for row in panels for each in row):
        dress(axes)
    return figure, panels


def dress(axes: Axes) -> None:
    axes.tick_params(labelsize=8, labelcolor=INK, color=EDGE)
    axes.spines[["top", "right"]].set_visible(False)
    for spine in axes.spines.values():
        spine.set_color(EDGE)


def label(axes: Axes, title: str = "", x: str = "", y: str = "") -> None:
    axes.set_title(title, fontsize=9, color=INK, loc="left")
    axes.set_xlabel(x, fontsize=8, color=FAINT)
    axes.set_ylabel(y, fontsize=8, color=FAINT)


def legend(axes: Axes, **options: Any) -> None:
    axes.legend(frameon=False, fontsize=8, labelcolor=INK, **options)


def save(figure: Figure, path: Path) -> None:
    # No version of matplotlib in the file: the same data give the same bytes.
    figure.savefig(path, metadata={"Software": None})
    print(path)


# ---- the command line of a script


def draw_all(pictures: Sequence[Callable[[Path], None]], about: str) -> None:
    """Draw the pictures that are asked for by name, or all, and say how long each took."""
    names = {picture.__name__: picture for picture in pictures}
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(names)}; all when not given")
    parser.add_argument("--images", type=Path, default=IMAGES, help="folder of the pictures")
    options = parser.parse_args()
    options.images.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for name in options.names or names:
        start = time.process_time()
        names[name](options.images)
        print(f"{name}: {time.process_time() - start:.0f} s")
