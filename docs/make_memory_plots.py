"""Draw how long recurrent networks remember.

python docs/make_memory_plots.py   writes images/memory_gradients.png: the gradient by time step of
                                   three cells, before and after half a minute of training; and
                                   images/memory_lengths.png: the errors of experiments/memory.csv
"""

from __future__ import annotations

import re

import numpy as np
import torch
from make_experiments import FOLDER, read
from make_plots import IMAGES, dress, save
from matplotlib.figure import Figure

import dlarch
from dlarch.callbacks.through_time import gradients_through_time

COLOURS = {"rnn": "#d1495b", "gru": "#1f5fa8", "lstm": "#e0a030"}
LENGTH, STEPS = 30, 800
"""Of the adding problem by which gradients are shown."""
GUESSING = {"adding": 1 / 6, "recall": 0.75}
"""The mean squared error of always saying 1, and the share of errors of guessing among four."""


def main() -> None:
    draw_gradients()
    draw_lengths()


def draw_gradients() -> None:
    """The loss of the adding problem sees the last state; how much does it see of the others?"""
    data = dlarch.create_data("adding", length=LENGTH)
    data.setup()
    figure = Figure(figsize=(8.0, 3.2), dpi=80, layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for cell, colour in COLOURS.items():
        torch.manual_seed(1)
        model = dlarch.create_model("rnn_regressor", data, cell=cell)
        before = gradients(model, data)
        error = train(model, data)
        after = gradients(model, data)
        for axes, norms in zip(panels, (before, after), strict=True):
            shares = [norm / norms[-1] for norm in norms]
            axes.plot(range(1, LENGTH + 1), shares, color=colour, linewidth=1.8, label=cell)
            print(cell, f"first of last {shares[0]:.1e}, mean squared error {error:.4f}")
    for axes, title in zip(panels, ("untrained", f"after {STEPS} steps"), strict=True):
        axes.set_yscale("log")
        axes.set_title(title, fontsize=9, loc="left")
        dress(axes, "time step")
    panels[0].set_ylabel("gradient by the state, the last is 1", fontsize=8)
    panels[0].legend(fontsize=8, frameon=False)
    save(figure, IMAGES / "memory_gradients.png")


def gradients(model: object, data: object) -> list[float]:
    """Norms by time step, on the first 500 test sequences."""
    batch = data.dataset("test")[np.arange(500)]
    with model.watch_states() as watched:
        loss = (model.answers(batch.sequence, batch.target) - batch.target).square().mean()
    for state in watched[0].states:
        state.retain_grad()
    loss.backward()
    (norms,) = gradients_through_time(watched).values()
    return norms


def train(model: object, data: object) -> float:
    """Take `STEPS` steps; the mean squared error of the last hundred."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    loader = data.train_dataloader()
    losses = []
    while len(losses) < STEPS:
        for batch in loader:
            answers = model.answers(batch.sequence, batch.target)
            loss = (answers - batch.target).square().mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            losses.append(loss.item())
    return sum(losses[-100:]) / 100


def draw_lengths() -> None:
    """Errors by length, a line for each cell."""
    lines = read(FOLDER / "memory.csv")
    if not lines:
        return
    figure = Figure(figsize=(8.0, 3.2), dpi=80, layout="constrained")
    for axes, (task, guess) in zip(figure.subplots(1, 2), GUESSING.items(), strict=True):
        for cell, colour in COLOURS.items():
            found = sorted(
                (int(length), float(line["test/loss"]) if task == "adding"
                 else 1 - float(line["test/accuracy"]))
                for line in lines
                for length in re.findall(rf"^{task}, cell {cell}, length (\d+)$", line["setting"])
            )  # fmt: skip
            if found:
                axes.plot(*zip(*found, strict=True), "o-", color=colour, label=cell, markersize=4)
        axes.axhline(guess, color="#6b7a89", linestyle=(0, (4, 3)), linewidth=0.9)
        axes.set_xscale("log")
        lengths = (10, 20, 50, 100, 200)
        axes.set_xticks(lengths, [str(length) for length in lengths])
        axes.minorticks_off()
        error = "mean squared error" if task == "adding" else "share of errors"
        axes.set_title(f"{task}: {error}", fontsize=9, loc="left")
        axes.legend(fontsize=8, frameon=False)
        dress(axes, "length")
    save(figure, IMAGES / "memory_lengths.png")


if __name__ == "__main__":
    main()
