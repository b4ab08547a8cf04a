"""Draw the pictures of techniques.md and gradient_health.md; trains small networks on digits.

python docs/make_technique_plots.py [NAME ...]      about two minutes on one CPU core for all
"""

from __future__ import annotations

import csv
import logging
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch
from lightning.pytorch import seed_everything
from lightning.pytorch.callbacks import EarlyStopping
from small_networks import (
    BLUE,
    EDGE,
    FAINT,
    GREEN,
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
from torch import nn, optim

import dlarch
from dlarch.callbacks.health import GradientHealth, health_figure
from dlarch.nn import (
    ACTIVATIONS,
    Constant,
    Glorot,
    He,
    Initializer,
    LeCun,
    PseudoHuberLoss,
    make_activation,
)

SEEDS = (1, 2, 3)


# ---- formulas as curves


def activations(images: Path) -> None:
    """Each activation and its slope; maxout of the pieces x and -x/2, softmax of (x, 0)."""
    columns = 5
    figure, panels = grid(-(-len(ACTIVATIONS) // columns), columns, 2.0, 1.7)
    flat = [axes for row in panels for axes in row]
    for axes, name in zip(flat, ACTIVATIONS, strict=False):
        x = torch.linspace(-4, 4, 401, requires_grad=True)
        second = {"maxout": -x / 2, "softmax": torch.zeros_like(x)}.get(name)
        inputs = x[:, None] if second is None else torch.stack((x, second), dim=1)
        y = make_activation(name)(inputs)[:, 0]
        (slope,) = torch.autograd.grad(y.sum(), x)
        axes.axhline(0, color=EDGE, linewidth=0.6)
        axes.plot(x.detach(), slope, color=PALE, linewidth=1.2, label="slope")
        axes.plot(x.detach(), y.detach(), color=BLUE, linewidth=1.6, label="value")
        axes.set_xticks((-4, 0, 4))
        axes.set_ylim(-1.5, 3)
        label(axes, name)
        print(f"{name}: largest slope {slope.max():.3f}, slope at 4 {slope[-1]:.4f}")
    for axes in flat[len(ACTIVATIONS) :]:
        axes.set_axis_off()
    legend(flat[0], loc="upper left")
    save(figure, images / "activations.png")


def below(values: torch.Tensor, limit: float = 5.5) -> torch.Tensor:
    """Values up to a limit, to leave room for the legend above."""
    return values.masked_fill(values > limit, torch.nan)


def losses(images: Path) -> None:
    """Losses of classes over the margin, and of numbers over the error."""
    figure, ((of_classes, of_numbers),) = grid(1, 2, 3.9, 2.8)
    x = torch.linspace(-4, 4, 401)
    logits = torch.stack((x, torch.zeros_like(x)), dim=1)  # the first of two classes is right
    right = torch.zeros(len(x), dtype=torch.long)
    each = {
        "cross-entropy": nn.CrossEntropyLoss(reduction="none")(logits, right),
        # MultiMarginLoss divides by the number of classes
        "hinge": 2 * nn.MultiMarginLoss(reduction="none")(logits, right),
        "binary log loss": nn.BCEWithLogitsLoss(reduction="none")(x, torch.ones_like(x)),
        "squared error": (x - 1).square(),
        "wrong or right": (x < 0).float(),
    }
    styles = {"cross-entropy": "-", "hinge": "-", "binary log loss": (0, (2, 2))}
    for (name, values), colour in zip(each.items(), (BLUE, RED, GREEN, PALE, EDGE), strict=True):
        style = styles.get(name, "-")
        of_classes.plot(x, below(values), color=colour, label=name, linewidth=1.5, linestyle=style)
    label(of_classes, "classes", "logit of the right class minus the other's", "loss")
    losses_of_numbers: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "MSE": torch.square,
        "MAE, RMSE of one": torch.abs,
        "Huber": lambda e: nn.HuberLoss(reduction="none")(e, torch.zeros_like(e)),
        "pseudo-Huber": lambda e: torch.stack([PseudoHuberLoss()(v, torch.zeros(1)) for v in e]),
    }
    colours = (BLUE, RED, GREEN, PALE)
    for (name, loss), colour in zip(losses_of_numbers.items(), colours, strict=True):
        of_numbers.plot(x, below(loss(x)), color=colour, label=name, linewidth=1.5)
    label(of_numbers, "numbers", "error")
    for axes in (of_classes, of_numbers):
        axes.set_ylim(-0.1, 7.5)
        legend(axes, loc="upper center", ncols=2)
    save(figure, images / "losses.png")


# ---- signals and gradients by depth

DEPTH, WIDTH = 10, 256


def by_depth(activation: str, initializer: Initializer) -> tuple[list[Any], list[float]]:
    """What leaves each hidden layer of an untrained network, and the gradient of each."""
    data = prepared("digits", batch_size=1000)
    torch.manual_seed(0)
    model = dlarch.create_model(
        "mlp", data, hidden_sizes=[WIDTH] * DEPTH, activation=activation, initializer=initializer
    )
    outputs = []
    for module in model.hidden:
        if isinstance(module, type(make_activation(activation))):
            module.register_forward_hook(lambda _m, _i, output: outputs.append(output.detach()))
    batch = next(iter(data.train_dataloader()))
    model._loss(model(batch.image), batch.label).backward()
    gradients = [float(layer.weight.grad.norm()) for layer in model.linear_layers()[:-1]]
    return [output.flatten().numpy() for output in outputs], gradients


def saturation(images: Path) -> None:
    """Percentiles of what leaves each layer, for three activations and three starts."""
    figure, panels = grid(3, 3, 2.5, 1.7)
    limits = {"sigmoid": (0.01, 0.99), "tanh": (-0.98, 0.98), "relu": (-np.inf, np.inf)}
    places = range(1, DEPTH + 1)
    for row, (activation, (low, high)) in zip(panels, limits.items(), strict=True):
        own = He() if activation == "relu" else Glorot()
        for axes, start in zip(row, (Constant(0.01), own, Constant(1.0)), strict=True):
            outputs, _ = by_depth(activation, start)
            for share, shade in ((1, 0.15), (10, 0.25), (25, 0.4)):
                edges = [np.percentile(output, (share, 100 - share)) for output in outputs]
                lower, upper = zip(*edges, strict=True)
                axes.fill_between(places, lower, upper, color=BLUE, alpha=shade, linewidth=0)
            axes.plot(places, [np.median(output) for output in outputs], color=RED, linewidth=1.2)
            kind = type(start).__name__ + (f"({start.std})" if isinstance(start, Constant) else "")
            label(axes, f"{activation}, {kind}", "layer" if row is panels[-1] else "")
            if outputs[-1].max() > 1e3:
                axes.set_yscale("symlog")
                axes.set_yticks((0, 10, 1e4, 1e7, 1e10), ("0", "10", "1e4", "1e7", "1e10"))
            first, last = outputs[0], outputs[-1]
            print(
                f"{activation} {kind}: deviation {first.std():.2g} in layer 1, {last.std():.2g} in "
                f"layer {DEPTH}, saturated {np.mean((last < low) | (last > high)):.2f}"
            )
    save(figure, images / "saturation.png")


def initializers(images: Path) -> None:
    """Size of signals and gradients by depth, with ReLU."""
    figure, ((signals, gradients),) = grid(1, 2, 3.9, 2.6)
    starts = {"He": He(), "Glorot": Glorot(), "LeCun": LeCun(), "Constant(0.01)": Constant(0.01)}
    for (name, start), colour in zip(starts.items(), (BLUE, PALE, GREEN, RED), strict=True):
        outputs, norms = by_depth("relu", start)
        places = range(1, DEPTH + 1)
        signals.semilogy(places, [o.std() for o in outputs], color=colour, label=name, marker=".")
        gradients.semilogy(places, norms, color=colour, label=name, marker=".")
        print(f"{name}: deviation {outputs[0].std():.2g} to {outputs[-1].std():.2g}, gradient of "
              f"layer 1 {norms[0]:.2g}, of layer {DEPTH} {norms[-1]:.2g}")  # fmt: skip
    label(signals, "deviation of what leaves a layer", "layer")
    label(gradients, "norm of a layer's gradient", "layer")
    signals.set_yticks((0.01, 0.1, 1.0), ("0.01", "0.1", "1"))
    signals.minorticks_off()
    legend(signals)
    save(figure, images / "initializers.png")


# ---- trainings

SGD = partial(optim.SGD, lr=0.1)


def batch_norm(images: Path) -> None:
    """Validation accuracy after 5 epochs by depth, without and with batch normalisation."""
    data = prepared("digits", batch_size=32)
    figure, (row,) = grid(1, 2, 3.9, 2.6)
    depths = (1, 2, 4, 8, 16, 24)
    cases = {"none": (None, RED), "before": ("before", BLUE), "after": ("after", GREEN)}
    for axes, activation in zip(row, ("relu", "sigmoid"), strict=True):
        for name, (place, colour) in cases.items():
            options = {"activation": activation, "batch_norm": place, "optimizer": SGD}
            models = [
                [trained(data, 5, seed, hidden_sizes=[64] * depth, **options) for seed in SEEDS]
                for depth in depths
            ]
            found = np.array([[score(m, data, "validation").figure for m in ms] for ms in models])
            low, mean, high = found.min(1), found.mean(1), found.max(1)
            axes.fill_between(depths, low, high, color=colour, alpha=0.2, linewidth=0)
            axes.plot(depths, mean, color=colour, label=name, marker=".")
            means = [f"{depth}: {each:.3f}" for depth, each in zip(depths, mean, strict=True)]
            print(f"{activation}, batch_norm {name}: {', '.join(means)}")
        axes.set_ylim(0, 1.03)
        label(axes, activation, "hidden layers", "validation accuracy")
    legend(row[0], title="batch_norm", title_fontsize=8, loc="lower left")
    save(figure, images / "batch_norm.png")


REGULARIZERS: dict[str, dict[str, Any]] = {
    "none": {},
    "L2": {"alpha": 1e-2},
    "L1": {"alpha": 1e-3, "l1_ratio": 1.0},
    "elastic net": {"alpha": 2e-3, "l1_ratio": 0.5},
    "max_norm": {"max_norm": 0.7},
    "dropout": {"dropout": 0.5},
}


def regularizers(images: Path) -> None:
    """Weights of the first layer, and the losses, after training on 300 digits."""
    data = prepared("digits", batch_size=32, train_size=300)
    figure, panels = grid(2, 3, 2.6, 1.8)
    flat = [axes for row in panels for axes in row]
    for axes, (name, options) in zip(flat, REGULARIZERS.items(), strict=True):
        scores = []
        for seed in SEEDS:
            model = trained(data, 100, seed, hidden_sizes=[128], **options)
            scores.append((score(model, data, "train").loss, *score(model, data, "validation")))
        weights = model.linear_layers()[0].weight.detach()
        axes.hist(weights.flatten(), np.linspace(-0.6, 0.6, 81), color=BLUE)
        axes.set_yscale("log")
        axes.set_ylim(0.7, 10_000)
        train, loss, accuracy = (fmean(column) for column in zip(*scores, strict=True))
        label(axes, f"{name}: loss {train:.3f}, {loss:.3f}")
        spread = stdev(row[1] for row in scores)
        print(f"{name}: train {train:.4f}, validation {loss:.4f} +- {spread:.4f}, accuracy "
              f"{accuracy:.4f}, weights below 0.001 {(weights.abs() < 1e-3).float().mean():.2f}, "
              f"largest norm of a unit {weights.norm(dim=1).max():.2f}")  # fmt: skip
    save(figure, images / "regularizers.png")


def run(callback: Any, epochs: int, train_size: int | None = None, **options: Any) -> Any:
    """A real run of `dlarch.fit` on digits, in a folder of its own."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    seed_everything(1, verbose=False)
    data = dlarch.create_data("digits", batch_size=32, train_size=train_size)
    model = dlarch.create_model("mlp", data, **options)
    return dlarch.fit(
        model, data, max_epochs=epochs, callbacks=[callback], log_every_n_steps=5,
        enable_progress_bar=False, accelerator="cpu",
    )  # fmt: skip


def early_stopping(images: Path) -> None:
    """Losses of a run that stops when validation has not improved for five epochs."""
    stop = EarlyStopping("val/loss", patience=5)
    found = run(stop, 100, train_size=300, hidden_sizes=[128, 64])
    with (found.run.folder / "history.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    figure, ((axes,),) = grid(1, 1, 4.6, 2.6)
    places = [int(row["epoch"]) + 1 for row in rows]
    for name, colour in (("train/loss", PALE), ("val/loss", RED)):
        axes.semilogy(places, [float(row[name]) for row in rows], color=colour, label=name)
    for epoch, name, side in (
        (found.best_epoch, "restored", "right"),
        (found.stopped_epoch, "stopped", "left"),
    ):
        axes.axvline(epoch + 1, color=FAINT, linewidth=0.9, linestyle=(0, (4, 3)))
        style = {"fontsize": 8, "color": FAINT, "ha": side}
        axes.annotate(f" {name}: {epoch + 1} ", (epoch + 1, 1.0), **style)
    axes.set_xlim(0, 1.3 * len(rows))
    label(axes, "", "epoch", "loss")
    legend(axes)
    print(f"restored epoch {found.best_epoch + 1}, stopped epoch {found.stopped_epoch + 1}, "
          f"test {found.metrics}")  # fmt: skip
    save(figure, images / "early_stopping.png")


ILL: dict[str, dict[str, Any]] = {
    "healthy": {"hidden_sizes": [64] * 6},
    "vanishing": {"hidden_sizes": [64] * 8, "activation": "sigmoid", "optimizer": SGD},
    "dead": {"hidden_sizes": [64] * 3, "optimizer": partial(optim.Adam, lr=0.1)},
}


def gradient_health(images: Path) -> None:
    """The picture of TensorBoard of a healthy network and of two that are ill."""
    for name, options in ILL.items():
        watch = GradientHealth()
        run(watch, 3, **options)
        save(health_figure(watch.last), images / f"health_{name}.png")


PICTURES = (
    activations, losses, saturation, initializers, batch_norm, regularizers, early_stopping,
    gradient_health,
)  # fmt: skip

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DLARCH_RUNS"] = folder
        draw_all(PICTURES, __doc__.partition("\n")[0])
