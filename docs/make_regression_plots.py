"""Draw the pictures of the pages of linear regression, ordinary, Bayesian and by components.

python docs/make_regression_plots.py    trains the models (seconds), prints the figures that their
                                        pages quote, and writes images/diabetes_*.png and
                                        images/MODEL_*.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from make_plots import ERROR, IMAGES, SOURCE, TARGET, dress, figure_with, save
from matplotlib.figure import Figure

import dlarch
from dlarch.callbacks.numbers import Curve, Predicted, draw_curve, predicted_figure
from dlarch.models.feedforward.pls import partial_least_squares
from dlarch.tasks import Moments

POINTS = {"curve": "sine", "size": 30, "noise": 0.2}
"""Of which 24 are learnt from."""
BUMPS, RIDGE, ROUNDS = 15, 1e-2, 20
MODELS: dict[str, dict[str, int]] = {
    "linear_regression": {},
    "bayesian_linear_regression": {},
    "pls": {"components": 3},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=Path, default=IMAGES, help="folder of the pictures")
    images = parser.parse_args().images
    images.mkdir(parents=True, exist_ok=True)
    draw_diabetes(images)
    draw_predictions(images)
    draw_solvers(images / "linear_regression_solvers.png")
    draw_side_by_side(images / "linear_regression_side_by_side.png")
    draw_sequence(images / "bayesian_linear_regression_sequence.png")
    draw_components(images / "pls_components.png")


def made(name: str, **options: object) -> object:
    data = dlarch.create_data(name, **options)
    data.prepare_data()
    data.setup()
    return data


def learnt(name: str, data: object, rows: object = None, **options: object) -> object:
    """A model that has seen the training rows, or those given."""
    model = dlarch.create_model(name, data, **options)
    batch = data.dataset("train")[np.arange(len(data.dataset("train")))] if rows is None else rows
    with torch.no_grad():
        moments = Moments.of(model.features(batch.features), batch.target)
        model.learn(moments, moments)
    return model.eval()


def in_units(data: object, mean: torch.Tensor, deviation: torch.Tensor | None = None) -> tuple:
    """Of the first target."""
    means = np.array(data.processor.decode(mean.detach()))[:, 0]
    if deviation is None:
        return means, None
    return means, deviation.detach().numpy()[:, 0] * data.processor.target_std[0]


def judged(model: object, data: object, split: str) -> Predicted:
    """The rows of a split and what is predicted for them."""
    rows = data.dataset(split)[np.arange(len(data.dataset(split)))]
    predictive = model.predictive(rows.features)
    deviation = None if predictive is None else predictive.stddev
    mean, deviation = in_units(data, model(rows.features), deviation)
    return Predicted(data.processor.targets[0], in_units(data, rows.target)[0], mean, deviation)


def rmse(shown: Predicted) -> float:
    return float(np.sqrt(np.mean((shown.truth - shown.mean) ** 2)))


def draw_diabetes(images: Path) -> None:
    """How the target is distributed, and what it goes with."""
    data = made("table")
    rows = data.dataset("train")[np.arange(354)]
    targets = in_units(data, rows.target)[0]
    figure, axes = figure_with("progression of the disease", 6.2, 2.4, "training rows")
    axes.hist(targets, 30, color=SOURCE)
    print(f"diabetes: mean {targets.mean():.1f}, deviation {targets.std():.1f}")
    save(figure, images / "diabetes_target.png")
    together = np.corrcoef(np.column_stack((rows.features, targets)).T)
    names = [*data.processor.columns, "target"]
    figure = Figure(figsize=(5.0, 4.2), dpi=80, layout="constrained")
    axes = figure.add_subplot()
    shown = axes.imshow(together, cmap="RdBu_r", vmin=-1, vmax=1)
    axes.set_xticks(range(len(names)), names, fontsize=8, rotation=90)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    figure.colorbar(shown, label="correlation")
    print(f"diabetes: s1 and s2 {together[4, 5]:.2f}, bmi and target {together[2, -1]:.2f}, "
          f"s5 and target {together[8, -1]:.2f}")  # fmt: skip
    save(figure, images / "diabetes_correlations.png")


def draw_predictions(images: Path) -> None:
    """The test rows of diabetes."""
    data = made("table")
    for name, options in MODELS.items():
        model = learnt(name, data, **options)
        shown = judged(model, data, "test")
        print(f"{name}: test rmse {rmse(shown):.4f}")
        if name == "linear_regression":
            for feature, weight in zip(data.processor.columns, model.output.weight[0], strict=True):
                print(f"  {feature} {weight * data.processor.target_std[0]:.1f}")
        save(predicted_figure(shown), images / f"{name}_predictions.png")
    for alpha in (0.001, 0.01, 0.05, 0.1, 0.3, 1.0):
        model = learnt("linear_regression", data, alpha=alpha)
        scores = [rmse(judged(model, data, split)) for split in ("train", "validation", "test")]
        print(f"ridge {alpha}: " + ", ".join(f"{score:.2f}" for score in scores))


def draw_solvers(path: Path) -> None:
    """How far gradient descent is above the least loss, by step."""
    data = made("table")
    rows = data.dataset("train")[np.arange(354)]
    figure, axes = figure_with("steps", 6.2, 3.0, "loss above the least")
    styles = ((0.02, 0.0, TARGET, "-"), (0.2, 0.0, SOURCE, "-"), (0.2, 0.1, ERROR, "--"))
    for rate, alpha, colour, line in styles:
        options = {"alpha": alpha, "learning_rate": rate}
        least = loss_of(learnt("linear_regression", data, alpha=alpha), rows)
        model = dlarch.create_model(
            "linear_regression", data, solver="gradient_descent", **options
        ).double()
        moments = Moments.of(rows.features, rows.target)
        above = []
        with torch.no_grad():
            for _ in range(1000):
                above.append(max(loss_of(model, rows) - least, 1e-12))
                model.learn(moments, moments)
        print(f"gradient descent, {rate}, {alpha}: {above[100]:.1e}, {above[-1]:.1e} above")
        label = f"rate {rate}, alpha {alpha}"
        axes.semilogy(above, color=colour, linestyle=line, label=label)
    axes.set_ylim(bottom=1e-10)
    axes.legend(frameon=False, fontsize=8)
    save(figure, path)


def loss_of(model: object, rows: object) -> float:
    model = model.double()
    errors = model(rows.features.double()) - rows.target.double()
    penalty = model.hparams.alpha / 2 * model.output.weight.square().sum()
    return float((errors.square().mean() + penalty).detach())


def draw_side_by_side(path: Path) -> None:
    """Ordinary, ridge and Bayesian regression on the same points."""
    data = made("curves_1d", **POINTS)
    basis = {"basis": "gaussian", "basis_size": BUMPS}
    models = {
        "ordinary": learnt("linear_regression", data, **basis),
        f"ridge, alpha {RIDGE:g}": learnt("linear_regression", data, alpha=RIDGE, **basis),
        "Bayesian": learnt("bayesian_linear_regression", data, **basis),
    }
    draw_panels(models, data, path)
    scores: dict[str, list[float]] = {}
    likelihoods, inside = [], []
    for seed in range(ROUNDS):
        data = made("curves_1d", **POINTS, generator_seed=seed)
        for name, options in (
            ("linear_regression", {}),
            ("linear_regression", {"alpha": RIDGE / 100}),
            ("linear_regression", {"alpha": RIDGE}),
            ("bayesian_linear_regression", {}),
        ):
            model = learnt(name, data, **basis, **options)
            shown = curve_of(model, data, grid=np.linspace(-0.95, 0.95, 381))
            truth = np.sin(2 * np.pi * shown.grid)
            error = float(np.sqrt(np.mean((shown.mean - truth) ** 2)))
            scores.setdefault(f"{name} {options}", []).append(error)
            if shown.deviation is not None:
                noisy = truth + np.random.default_rng(seed).normal(size=381) * POINTS["noise"]
                z = (noisy - shown.mean) / shown.deviation
                likelihoods.append(np.mean(-0.5 * z**2 - np.log(shown.deviation * 2.5066283)))
                inside.append(np.mean(np.abs(z) <= 1.6449))
    for name, errors in scores.items():
        print(f"{name}: median {np.median(errors):.3f}, worst {max(errors):.3f} from the sine")
    print(f"Bayesian: {np.mean(inside):.1%} within 90 %, log density {np.mean(likelihoods):.3f}")


def draw_sequence(path: Path) -> None:
    """The posterior after more and more points."""
    data = made("curves_1d", **POINTS)
    options = {"basis": "gaussian", "prior_precision": 1.0, "noise_precision": 12.0}
    models = {}
    for count in (1, 4, 24):
        rows = data.dataset("train")[np.arange(count)]
        name = f"{count} point" + "s" * (count > 1)
        models[name] = (learnt("bayesian_linear_regression", data, rows, **options), rows)
    draw_panels({name: model for name, (model, _) in models.items()}, data, path,
                [rows for _, rows in models.values()])  # fmt: skip


def curve_of(model: object, data: object, grid: object = None, rows: object = None) -> Curve:
    rows = rows or data.dataset("train")[np.arange(len(data.dataset("train")))]
    raw = np.linspace(-1.2, 1.2, 300) if grid is None else grid
    inputs = data.processor.normalize(raw[:, None])
    predictive = model.predictive(inputs)
    deviation = None if predictive is None else predictive.stddev
    mean, deviation = in_units(data, model(inputs), deviation)
    points = rows.features.numpy()[:, 0] * data.processor.std[0] + data.processor.mean[0]
    return Curve(
        ("x", "y"), "training rows", points, in_units(data, rows.target)[0], raw, mean, deviation
    )


def draw_panels(models: dict, data: object, path: Path, rows: list | None = None) -> None:
    figure = Figure(figsize=(9.6, 3.0), dpi=80, layout="constrained")
    for place, (name, model) in enumerate(models.items()):
        axes = figure.add_subplot(1, len(models), place + 1)
        shown = curve_of(model, data, rows=rows[place] if rows else None)
        axes.plot(shown.grid, np.sin(2 * np.pi * shown.grid), color="#6b7a89", linewidth=0.9,
                  linestyle=(0, (4, 3)), label="sine")  # fmt: skip
        draw_curve(axes, shown)
        dress(axes, "x")
        axes.set_ylim(-2.6, 2.6)
        axes.set_title(name, fontsize=10, loc="left")
    axes.legend(frameon=False, fontsize=7)
    save(figure, path)


def draw_components(path: Path) -> None:
    """Errors by number of components: on the training rows, held out from them, and in the test."""
    data = made("table")
    rows = data.dataset("train")[np.arange(354)]
    x, y = rows.features.double(), rows.target.double()
    folds = np.array_split(np.random.default_rng(0).permutation(354), 10)
    unit = data.processor.target_std[0]
    counts = range(1, 11)
    curves: dict[str, list[float]] = {"training": [], "held out, ten folds": [], "test": []}
    for components in counts:
        errors = []
        for fold in folds:
            kept = np.setdiff1d(np.arange(354), fold)
            seen = Moments.of(x[kept], y[kept])
            rotation, loadings = partial_least_squares(seen.xx, seen.xy, components)
            found = (x[fold] - seen.x_mean) @ rotation @ loadings.T + seen.y_mean
            errors.append(((found - y[fold]) ** 2).numpy())
        model = learnt("pls", data, components=components)
        curves["training"].append(rmse(judged(model, data, "train")))
        curves["held out, ten folds"].append(float(np.sqrt(np.concatenate(errors).mean()) * unit))
        curves["test"].append(rmse(judged(model, data, "test")))
    figure, axes = figure_with("components", 6.2, 3.0, "RMSE")
    for (name, values), colour in zip(curves.items(), (TARGET, SOURCE, ERROR), strict=True):
        axes.plot(counts, values, color=colour, marker="o", markersize=3, label=name)
        print(f"pls {name}: " + ", ".join(f"{value:.2f}" for value in values))
    axes.legend(frameon=False, fontsize=8)
    save(figure, path)


if __name__ == "__main__":
    main()
