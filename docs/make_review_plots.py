"""See where classifiers of reviews err, from finished runs on IMDB.

python docs/make_review_plots.py RUN ...   scores runs on the test and keeps their figures in
                                           experiments/reviews.csv; prints their worst mistakes
python docs/make_review_plots.py           draws images/reviews_lengths.png of all that were kept

`python docs/make_experiments.py` makes the table of docs/texts.md of that file.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from make_experiments import FOLDER, merged, read
from make_experiments import save as save_lines
from small_networks import BLUE, FAINT, GREEN, IMAGES, INK, PALE, RED, grid, label, legend, save

import dlarch
from dlarch.runs import Run
from dlarch.spec import PAD

KEPT = FOLDER / "reviews.csv"
COLOURS = (INK, RED, BLUE, GREEN, PALE, FAINT, "#e0a030", "#8b5fbf")
ENDS = (140, 180, 240, 370)
"""Tokens of a review at which the five groups end, about a fifth of the reviews in each."""
CERTAIN = 0.9
SHOWN, WORDS = 3, 40
"""Mistakes that are printed, and how many of their last words."""


def main() -> None:
    lines = read(KEPT)
    for folder in map(Path, sys.argv[1:]):
        lines = merged(lines, [scored(folder)])
        save_lines(KEPT, lines)
    draw(lines)


def scored(folder: Path) -> dict[str, str]:
    """What a run does on the test's 25,000 reviews, by their length."""
    asked = yaml.safe_load(Run(folder).config.read_text(encoding="utf-8"))
    model = dlarch.AutoModel.from_pretrained(folder).eval()
    data = imdb(**asked["data"]["init_args"] | {"processor": model.processor})
    labels, chances = [], []
    with torch.no_grad():
        for batch in data.in_order("test"):
            labels.append(batch.label)
            chances.append(chance(model, batch))
    truth, positive = torch.cat(labels).numpy(), torch.cat(chances).numpy()
    right, certainty = (positive > 0.5) == truth, np.maximum(positive, 1 - positive)
    groups = np.searchsorted(ENDS, lengths(), side="left")
    certain = certainty >= CERTAIN
    figures = {
        "accuracy": right.mean(),
        **{name: right[groups == place].mean() for place, name in enumerate(names())},
        "certain": certain.mean(),
        "certain_accuracy": right[certain].mean(),
    }
    print(name_of(folder))
    show_mistakes(model, data, truth, np.where(right, 0.0, certainty))
    run = {"setting": name_of(folder), "seed": str(asked["seed_everything"])}
    return run | {"state": "finished"} | {name: f"{value:.4f}" for name, value in figures.items()}


def name_of(folder: Path) -> str:
    """A run's, which is its recipe's unless `--name` was given; all are of IMDB."""
    return folder.resolve().parent.name.replace("_imdb", "")


def imdb(**options: Any) -> Any:
    data = dlarch.create_data("imdb", **options)
    data.prepare_data()
    data.setup("test")
    return data


def chance(model: Any, batch: Any) -> torch.Tensor:
    """Probability that each review is positive, (B,)."""
    return model(batch.tokens).softmax(-1)[:, 1]


def lengths() -> np.ndarray:
    """Tokens of each whole review of the test."""
    counts = [(batch.tokens != PAD).sum(1) for batch in imdb().in_order("test")]
    return torch.cat(counts).numpy()


def names() -> Iterator[str]:
    """Of the groups of lengths."""
    yield f"to {ENDS[0]}"
    yield from (f"{begin + 1} to {end}" for begin, end in pairwise(ENDS))
    yield f"over {ENDS[-1]}"


def show_mistakes(model: Any, data: Any, truth: np.ndarray, badness: np.ndarray) -> None:
    """Print how the reviews end on which a model is most certainly wrong."""
    worst = np.argsort(-badness, kind="stable")[:SHOWN]
    for row, tokens in zip(worst, data.dataset("test")[worst].tokens, strict=True):
        (text,) = model.processor.decode(tokens[None])
        words = text.split()
        kind, end = model.processor.class_names[truth[row]], " ".join(words[-WORDS:])
        print(f"  {kind}, not so at {badness[row]:.3f}: ... {end}")


def draw(lines: list[dict[str, str]]) -> None:
    """The share of errors by the length of a review, a line for each model."""
    figure, ((axes,),) = grid(1, 1, 6.4, 3.6)
    for colour, line in zip(COLOURS, lines, strict=False):
        errors = [100 * (1 - float(line[name])) for name in names()]
        axes.plot(
            range(len(errors)), errors, "o-", color=colour, label=line["setting"], markersize=4
        )
    axes.set_xticks(range(len(ENDS) + 1), list(names()))
    axes.set_ylim(bottom=0)
    label(axes, "", "tokens of the review", "errors, percent of the test's reviews")
    legend(axes, ncols=2)
    save(figure, IMAGES / "reviews_lengths.png")


if __name__ == "__main__":
    main()
