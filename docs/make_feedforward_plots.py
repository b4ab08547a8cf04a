"""Draw the pictures of the pages of perceptron, logistic_regression and rbf_network.

python docs/make_feedforward_plots.py   trains small models, about two minutes on one core, and
                                        writes images/perceptron_*.png, logistic_regression_*.png
                                        and rbf_network_*.png; of MNIST if $DLARCH_DATA holds it
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L  # noqa: N812
import numpy as np
import torch
from make_plots import ERROR, IMAGES, MNIST, SOURCE, dress, found, save
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import optim
from torch.nn import functional as F  # noqa: N812

import dlarch

GATES = ("and", "or", "nand", "xor")
ALPHAS = (1e-4, 1e-2, 1.0)
PATH_ALPHAS = tuple(10.0**power for power in np.linspace(0.5, -4, 19))
CLASS = 3  # whose weights are followed


class Weights(L.Callback):
    """Keeps the parameters of each step, as one row."""

    def __init__(self) -> None:
        self.rows: list[NDArray[Any]] = []

    def keep(self, module: L.LightningModule) -> None:
        row = torch.cat([p.detach().flatten() for p in module.parameters()])
        self.rows.append(row.numpy().copy())

    def on_train_start(self, _: L.Trainer, module: L.LightningModule) -> None:
        self.keep(module)

    def on_train_batch_end(self, _: L.Trainer, module: L.LightningModule, *__: Any) -> None:
        self.keep(module)


def train(model: str | Any, data: Any, epochs: int, **options: Any) -> tuple[Any, NDArray[Any]]:
    """The trained model, and its parameters after each step."""
    torch.manual_seed(1)
    watch = Weights()
    model = dlarch.create_model(model, data, pictures=False, **options)
    L.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0,
        callbacks=[watch],
    ).fit(model, datamodule=data)  # fmt: skip
    return model, np.stack(watch.rows)


def main() -> None:
    for name in ("lightning.pytorch", "dlarch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    draw_gates(IMAGES / "perceptron_gates.png")
    draw_descents(IMAGES / "logistic_regression_descent.png")
    draw_paths(IMAGES / "logistic_regression_paths.png")
    draw_weights("digits", IMAGES / "logistic_regression_digits.png", exact)
    if found(MNIST):
        draw_weights("mnist", IMAGES / "logistic_regression_mnist.png", adam)
    draw_plane(IMAGES / "rbf_network_plane.png")
    draw_centers(IMAGES / "rbf_network_centers.png")


# ---- perceptron


def draw_gates(path: Path) -> None:
    """The plane after each mistake, from light to dark, and the four rows of each gate."""
    figure = Figure(figsize=(8.4, 2.3), dpi=80, layout="constrained")
    for column, gate in enumerate(GATES):
        data = dlarch.create_data("logic_gates", gate=gate, batch_size=1)
        _, rows = train("perceptron", data, 6)
        moved = [rows[n] for n in range(1, len(rows)) if (rows[n] != rows[n - 1]).any()]
        axes = figure.add_subplot(1, 4, column + 1)
        (batch,) = data.in_order("train")
        for number, (first, second, bias) in enumerate(moved):
            shade = 0.15 + 0.85 * (number + 1) / len(moved)
            draw_line(axes, first, second, bias, shade)
        draw_points(axes, batch.features.numpy(), batch.target.numpy(), size=60)
        axes.set(xlim=(-2, 2), ylim=(-2, 2), xticks=[-1, 1], yticks=[-1, 1])
        dress(axes, f"{gate.upper()}, mistakes: {len(moved)} of {len(rows) - 1}")
        print(f"perceptron, {gate}: {len(moved)} mistakes in {len(rows) - 1} examples")
    save(figure, path)


def draw_line(axes: Axes, first: float, second: float, bias: float, shade: float) -> None:
    """Where first x + second y + bias = 0."""
    if first or second:
        foot = -bias * np.array([first, second]) / (first**2 + second**2)
        along = np.array([-second, first])
        ends = np.stack([foot - 5 * along, foot + 5 * along])
        axes.plot(*ends.T, color=SOURCE, alpha=shade, linewidth=1.5)


def draw_points(axes: Axes, points: NDArray[Any], labels: NDArray[Any], size: float) -> None:
    for label, colour in ((0, ERROR), (1, SOURCE)):
        axes.scatter(*points[labels == label].T, s=size, color=colour, edgecolors="white",
                     linewidths=0.5, zorder=3)  # fmt: skip


# ---- logistic regression


def exact(parameters: Any) -> optim.Optimizer:
    return optim.LBFGS(parameters, max_iter=200, line_search_fn="strong_wolfe")


def adam(parameters: Any) -> optim.Optimizer:
    return optim.Adam(parameters, lr=1e-3)


def fast_adam(parameters: Any) -> optim.Optimizer:
    return optim.Adam(parameters, lr=0.02)


def falling(optimizer: Any) -> Any:
    return optim.lr_scheduler.ExponentialLR(optimizer, 0.98)


def descent(rate: float) -> Callable[[Any], optim.Optimizer]:
    return lambda parameters: optim.SGD(parameters, lr=rate)


def moons(**options: Any) -> Any:
    return dlarch.create_data("toy_2d", size=250, noise=0.3, **options)


def draw_descents(path: Path) -> None:
    """Paths of two weights over the loss: learning rates, batch sizes, strengths of L2."""
    panels: list[tuple[str, list[tuple[str, Any, int, dict[str, Any]]]]] = [
        ("learning rate, all examples, 60 steps", [
            (f"{rate:g}", moons(), 60, {"optimizer": descent(rate)}) for rate in (0.1, 1.0, 8.0)
        ]),
        ("batch size, rate 0.5, 60 steps", [
            (f"{size}", moons(batch_size=size), epochs, {"optimizer": descent(0.5)})
            for size, epochs in ((200, 60), (20, 6), (2, 1))
        ]),
        ("alpha of L2, L-BFGS", [
            (f"{alpha:g}", moons(), 1, {"alpha": alpha, "optimizer": exact})
            for alpha in (0.0, 0.02, 0.1, 0.5)
        ]),
    ]  # fmt: skip
    figure = Figure(figsize=(10.2, 3.5), dpi=80, layout="constrained")
    colours = (SOURCE, ERROR, "#2a9d5c", "#7b5ea7")
    data = moons()
    data.setup()
    (batch,) = data.in_order("train")
    grid = np.meshgrid(np.linspace(-1, 3, 90), np.linspace(-4, 1, 90))
    heights = surface(batch, grid)
    for column, (title, runs) in enumerate(panels):
        axes = figure.add_subplot(1, 3, column + 1)
        levels = heights.min() + np.geomspace(2e-3, 1.5, 12)
        axes.contour(*grid, heights, levels=levels, colors="#c3cdd8", linewidths=0.8)
        for (label, data, epochs, options), colour in zip(runs, colours, strict=False):
            _, rows = train("logistic_regression", data, epochs, **options)
            rows = rows[:61]
            axes.plot(rows[:, 0], rows[:, 1], color=colour, linewidth=1, alpha=0.8, label=label)
            axes.scatter(rows[-1, 0], rows[-1, 1], color=colour, s=30, zorder=3)
            print(f"logistic_regression, {title}, {label}: ends at {rows[-1].round(3).tolist()}")
        axes.set(xlim=(-1, 3), ylim=(-4, 1))
        dress(axes, "weight of x")
        axes.set_ylabel("weight of y" if column == 0 else "", fontsize=9)
        axes.set_title(title, fontsize=9, loc="left")
        axes.legend(frameon=False, fontsize=8)
    save(figure, path)


def surface(batch: Any, grid: list[NDArray[Any]]) -> NDArray[Any]:
    """The loss (no bias, no penalty) at each pair of weights."""
    weights = torch.from_numpy(np.stack(grid)).float().flatten(1)
    signs = (2 * batch.target - 1).float()[:, None]
    losses = F.softplus(-signs * (batch.features @ weights)).mean(0)
    return losses.reshape(grid[0].shape).numpy()


def draw_paths(path: Path) -> None:
    """Weights of one class by the strength of L2 and of L1."""
    figure = Figure(figsize=(8.4, 3.2), dpi=80, layout="constrained")
    kinds: list[tuple[str, float, int, dict[str, Any]]] = [
        ("L2", 1.0, 3, {"l1_ratio": 0.0, "optimizer": exact}),
        ("L1", 0.1, 250, {"l1_ratio": 1.0, "optimizer": fast_adam, "scheduler": falling}),
    ]
    for column, (name, factor, epochs, options) in enumerate(kinds):
        scale, weights = factor * np.array(PATH_ALPHAS), []
        for alpha in scale.tolist():
            data = dlarch.create_data("digits", batch_size=1439)
            model, _ = train("logistic_regression", data, epochs, alpha=alpha, **options)
            weights.append(model.linear.weight[CLASS].detach().numpy().copy())
        axes = figure.add_subplot(1, 2, column + 1)
        axes.semilogx(scale, np.stack(weights), color=SOURCE, linewidth=0.8, alpha=0.6)
        dress(axes, f"alpha of {name}")
        axes.set_ylabel(f"weights of digit {CLASS}" if column == 0 else "", fontsize=9)
        few = np.mean(np.abs(np.stack(weights)) < 1e-2, axis=1)
        print(f"{name}: share of weights below 0.01 from alpha {scale[0]:.3g} to {scale[-1]:.3g}: "
              f"{few.round(2).tolist()}")  # fmt: skip
    save(figure, path)


def draw_weights(name: str, path: Path, optimizer: Callable[..., Any]) -> None:
    """The weights of each class as an image, a row for each strength of L2."""
    figure = Figure(figsize=(7.4, 0.78 * len(ALPHAS) + 0.3), dpi=80)
    figure.subplots_adjust(0.1, 0.01, 0.995, 0.92, wspace=0.06, hspace=0.06)
    for row, alpha in enumerate(ALPHAS):
        full = {"batch_size": 1439} if name == "digits" else {}
        data = dlarch.create_data(name, **full)
        model, _ = train("logistic_regression", data, 3, alpha=alpha, optimizer=optimizer)
        _, height, width = data.spec.image_shape
        weights = model.linear.weight.detach().reshape(-1, height, width).numpy()
        most = np.abs(weights).max()
        right = count = 0
        with torch.no_grad():
            for batch in data.in_order("validation"):
                right += int((model(batch.image).argmax(1) == batch.label).sum())
                count += len(batch.label)
        print(f"{name}, alpha {alpha:g}: validation accuracy {right / count:.4f}, most {most:.3f}")
        for column, image in enumerate(weights):
            place = row * len(weights) + column + 1
            axes = figure.add_subplot(len(ALPHAS), len(weights), place)
            axes.imshow(image, cmap="RdBu", vmin=-most, vmax=most)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            if row == 0:
                axes.set_title(str(column), fontsize=9, pad=3)
            if column == 0:
                axes.set_ylabel(f"{alpha:g}", fontsize=9, rotation=0, ha="right", va="center")
    save(figure, path)


# ---- radial basis functions


def draw_plane(path: Path) -> None:
    """Probability over the plane, centres and widths: by least squares, and after training."""
    figure = Figure(figsize=(8.4, 4.0), dpi=80, layout="constrained")
    grid = np.meshgrid(np.linspace(-2.4, 2.4, 120), np.linspace(-2.4, 2.4, 120))
    for column, (title, epochs, rate) in enumerate(
        (("least squares", 1, 0.0), ("200 epochs of Adam after that", 200, 0.01))
    ):
        data = dlarch.create_data("toy_2d", shape="spirals", size=500, noise=0.08, batch_size=50)
        model, _ = train(
            "rbf_network", data, epochs, num_centers=24, neighbors=2,
            optimizer=(lambda p: optim.SGD(p, lr=0.0)) if not rate
            else (lambda p, rate=rate: optim.Adam(p, lr=rate)),
        )  # fmt: skip
        (batch,) = data.in_order("train")
        axes = figure.add_subplot(1, 2, column + 1, aspect="equal")
        with torch.no_grad():
            rows = torch.from_numpy(np.stack(grid, -1)).float().flatten(0, 1)
            sure = model(rows).softmax(1)[:, 1].reshape(grid[0].shape).numpy()
            right = (model(batch.features).argmax(1) == batch.target).float().mean()
        axes.contourf(*grid, sure, levels=np.linspace(0, 1, 21), cmap="RdBu", alpha=0.6)
        draw_points(axes, batch.features.numpy(), batch.target.numpy(), size=8)
        centers = model.hidden.centers.detach().numpy()
        widths = model.hidden.log_widths.detach().exp().numpy()
        turn = np.linspace(0, 2 * np.pi, 60)
        for (x, y), width in zip(centers, widths, strict=True):
            axes.plot(x + width * np.cos(turn), y + width * np.sin(turn), color="#444", lw=0.6)
        axes.scatter(*centers.T, marker="+", s=30, color="black", zorder=4, linewidths=1)
        axes.set(xlim=(-2.4, 2.4), ylim=(-2.4, 2.4))
        dress(axes, title)
        print(f"rbf_network on spirals, {title}: {right:.4f} of the training points right")
    save(figure, path)


def draw_centers(path: Path) -> None:
    """Some centres on digits, as k-means finds them, and below them as training moves them."""
    figure = Figure(figsize=(8.0, 1.6), dpi=80)
    figure.subplots_adjust(0.07, 0.01, 0.995, 0.99, wspace=0.06, hspace=0.06)
    for row, (title, epochs, rate) in enumerate((("k-means", 1, 0.0), ("trained", 15, 1e-3))):
        data = dlarch.create_data("digits", batch_size=32)
        model, _ = train("rbf_network", data, epochs, num_centers=200,
                         optimizer=lambda p, rate=rate: optim.Adam(p, lr=rate))  # fmt: skip
        centers = model.hidden.centers.detach()[:14].reshape(-1, 1, 8, 8)
        for column, pixels in enumerate(data.processor.decode(centers)):
            axes = figure.add_subplot(2, 14, row * 14 + column + 1)
            axes.imshow(pixels, cmap="gray", vmin=0, vmax=255)
            axes.set(xticks=[], yticks=[])
            if column == 0:
                axes.set_ylabel(title, fontsize=8)
    save(figure, path)


if __name__ == "__main__":
    main()
