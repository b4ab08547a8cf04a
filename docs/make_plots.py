"""Draw the pictures of the documentation: of the data, and with --run of a finished run.

python docs/make_plots.py               writes images/DATA_*.png: of dates, number words and digits,
                                        and, if $DLARCH_DATA holds them, of multi30k, mnist and
                                        cifar10
python docs/make_plots.py --run RUN     writes images/RECIPE_curves.png, and RECIPE_errors.png of a
                                        translator, RECIPE_confusion.png and, if there are any,
                                        RECIPE_mistakes.png and RECIPE_filters.png of a classifier
                                        of images, and RECIPE_attention.png of what attends to
                                        its source or to patches
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple

import lightning as L  # noqa: N812
import numpy as np
import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

import dlarch
from dlarch.callbacks.attention import attention_figure
from dlarch.callbacks.classes import confusion_figure, mistakes_figure
from dlarch.callbacks.features import MOST_FILTERS, filter_grid, first_filters
from dlarch.callbacks.figures import figure_pixels
from dlarch.callbacks.protocols import Mistake
from dlarch.data.generators.dates import date_pairs, date_styles
from dlarch.data.generators.number_words import number_pairs
from dlarch.data.pairs import open_pairs
from dlarch.runs import Run, runs_root

IMAGES = Path(__file__).parent / "images"
SOURCE, TARGET, ERROR = "#1f5fa8", "#5f9bd1", "#d1495b"
SPLITS = {"train": SOURCE, "validation": TARGET, "test": "#c3cdd8"}
MULTI30K, MNIST, CIFAR10 = "bentrevett/multi30k", "ylecun/mnist", "uoft-cs/cifar10"
LENGTH_BINS = 8
SAMPLES = 4
"""Images of each class that are shown."""
MOST_MISTAKES = 16


class Score(NamedTuple):
    """How a model does on one test pair."""

    source: str
    length: int  # tokens that the model reads
    exact: bool
    loss: float  # nats per target token, the reference being fed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--run", help="run folder; draws its errors and learning curves")
    parser.add_argument("--images", type=Path, default=IMAGES, help="folder of the pictures")
    options = parser.parse_args()
    options.images.mkdir(parents=True, exist_ok=True)
    if options.run is not None:
        draw_run(options.run, options.images)
        return
    draw_dates(options.images)
    draw_number_words(options.images)
    if found(MULTI30K):
        draw_multi30k(options.images)
    draw_images("digits", options.images)
    if found(MNIST):
        draw_images("mnist", options.images)
    if found(CIFAR10):
        draw_images("cifar10", options.images)


def found(name: str) -> bool:
    """Whether a data set of the Hub lies on this machine."""
    return (Path(os.environ.get("DLARCH_DATA", "")) / name).is_dir()


# ---- pairs of sentences


def draw_dates(images: Path) -> None:
    pairs = date_pairs()["train"]
    draw_lengths(pairs, str.__len__, "characters", images / "dates_lengths.png")
    styles = style_of_sources("fr", "en")
    counts = Counter(styles[source] for source, _ in pairs)
    figure, axes = figure_with("training pairs", 6.2, 3.0)
    names = [style.name for style in date_styles()]
    axes.barh(names, [counts[name] for name in names], color=SOURCE)
    axes.invert_yaxis()
    save(figure, images / "dates_styles.png")


def draw_number_words(images: Path) -> None:
    pairs = number_pairs()["train"]
    draw_lengths(pairs, str.__len__, "characters", images / "number_words_lengths.png")


def draw_multi30k(images: Path) -> None:
    from dlarch.processing.words import split_words

    source = open_pairs(MULTI30K, "de", "en", columns=None, train_size=None, digits=3, seed=0)
    pairs = list(source.read("train"))
    draw_lengths(
        pairs, lambda text: len(split_words(text)), "words", images / "multi30k_lengths.png"
    )
    figure, axes = figure_with("rank of the word", 6.2, 3.0, "occurrences")
    for side, name, colour in ((0, "source (de)", SOURCE), (1, "target (en)", TARGET)):
        words = Counter(word for pair in pairs for word in split_words(pair[side].lower()))
        occurrences = sorted(words.values(), reverse=True)
        axes.loglog(range(1, len(occurrences) + 1), occurrences, color=colour, label=name)
        kept = sum(count >= 2 for count in occurrences)
        print(f"multi30k {name}: {len(occurrences)} words, {kept} of them at least twice")
    axes.legend(frameon=False, fontsize=8)
    save(figure, images / "multi30k_words.png")


def draw_lengths(pairs: Sequence[tuple[str, str]], length: object, unit: str, path: Path) -> None:
    figure, axes = figure_with(f"{unit} per sentence", 6.2, 2.6, "training pairs")
    for side, name, colour in ((0, "source", SOURCE), (1, "target", TARGET)):
        lengths = np.array([length(pair[side]) for pair in pairs])  # type: ignore[operator]
        bins = np.arange(lengths.min(), lengths.max() + 2) - 0.5
        axes.hist(lengths, bins, histtype="step", color=colour, label=name, linewidth=1.5)
        print(f"{path.stem} {name}: {len(pairs)} pairs, median {np.median(lengths):.0f}, "
              f"{lengths.min()} to {lengths.max()}")  # fmt: skip
    axes.legend(frameon=False, fontsize=8)
    save(figure, path)


def style_of_sources(source_language: str, target_language: str) -> dict[str, str]:
    """The style in which each source of the dates task is written."""
    first = date(1950, 1, 1)
    days = [first + timedelta(n) for n in range((date(2049, 12, 31) - first).days + 1)]
    styles = date_styles(source_language, target_language)
    return {style.source(day): style.name for style in styles for day in days}


# ---- images


def draw_images(name: str, images: Path) -> None:
    """The first images of each class, and how many images each class has."""
    data = dlarch.create_data(name)
    data.prepare_data()
    data.setup()
    classes = data.processor.class_names
    counts = {}
    for split in SPLITS:
        stored = data.dataset(split)
        counts[split] = np.bincount(stored.labels[stored.rows], minlength=len(classes))
        print(f"{name} {split}: {counts[split].sum()} images, per class {counts[split].tolist()}")
    draw_samples(data.dataset("train"), data.processor, images / f"{name}_samples.png")
    draw_counts(classes, counts, images / f"{name}_classes.png")


def draw_samples(images: object, processor: object, path: Path) -> None:
    """A column for each class."""
    classes = processor.class_names
    figure = Figure(figsize=(0.62 * len(classes), 0.62 * SAMPLES + 0.25), dpi=80)
    figure.subplots_adjust(0.005, 0.01, 0.995, 0.92, wspace=0.08, hspace=0.08)
    labels = images.labels[images.rows]
    size = 9 if max(map(len, classes)) < 8 else 7  # names stand side by side
    for column, name in enumerate(classes):
        batch = images[np.flatnonzero(labels == column)[:SAMPLES]]
        for row, pixels in enumerate(processor.decode(batch.image)):
            axes = figure.add_subplot(SAMPLES, len(classes), row * len(classes) + column + 1)
            axes.imshow(pixels, cmap="gray", vmin=0, vmax=255)
            axes.set_axis_off()
            if row == 0:
                axes.set_title(name, fontsize=size, pad=3)
    save(figure, path)


def draw_counts(classes: list[str], counts: dict[str, NDArray[np.int64]], path: Path) -> None:
    """Images per class, the splits one after the other."""
    figure, axes = figure_with("images", 6.2, 2.8)
    before = np.zeros(len(classes), dtype=np.int64)
    for split, colour in SPLITS.items():
        axes.barh(classes, counts[split], left=before, color=colour, label=split)
        before = before + counts[split]
    axes.invert_yaxis()
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    save(figure, path)


# ---- a run


def draw_run(run: str, images: Path) -> None:
    folder = Path(run) if Path(run).is_dir() else runs_root() / run
    recipe = folder.resolve().parent.name
    asked = yaml.safe_load(Run(folder).config.read_text(encoding="utf-8"))["data"]
    model = dlarch.AutoModel.from_pretrained(folder)
    options = asked["init_args"] | {"num_workers": 0, "processor": model.processor}
    data = dlarch.create_data(asked["class_path"], **options)
    data.prepare_data()
    data.setup("test")
    if hasattr(model, "translate"):
        draw_errors(score(model, data), options, images / f"{recipe}_errors.png")
        draw_alignment(model, data, images / f"{recipe}_attention.png")
    elif getattr(model, "classifies", False):
        draw_classes(model, data, images / recipe)
        if hasattr(model, "attention"):
            draw_attention(model, data, images / f"{recipe}_attention.png")
    curves = folder / "learning_curves.png"  # drawn when the fit ended
    if curves.is_file():
        shutil.copyfile(curves, images / f"{recipe}_curves.png")
        print(images / f"{recipe}_curves.png")


# ---- a run of a translator


def score(model: object, data: object) -> list[Score]:
    import torch
    from torch.nn import functional as F  # noqa: N812

    scores: list[Score] = []
    with torch.inference_mode():
        for batch in data.test_dataloader():
            logits = model(batch.source, batch.target[:, :-1]).logits
            wanted, real = batch.target[:, 1:], batch.target_mask[:, 1:]
            losses = F.cross_entropy(logits.transpose(1, 2), wanted, reduction="none")
            losses = (losses * real).sum(1) / real.sum(1)
            translations = model.processor.decode(model.search(batch.source).tokens[:, 0])
            lengths = batch.source_mask.sum(1) - 1  # without EOS
            plain = model.processor.target.normalize
            for row, translation in enumerate(translations):
                exact = translation == plain(batch.target_text[row])
                source = batch.source_text[row]
                scores.append(Score(source, int(lengths[row]), exact, float(losses[row])))
    return scores


def draw_errors(scores: list[Score], options: dict[str, object], path: Path) -> None:
    """Share of inexact translations, and loss, by length and for dates by style."""
    groups = {"source length": by_length(scores)}
    if options["source"] == "dates":
        languages = options["source_language"] or "fr", options["target_language"] or "en"
        styles = style_of_sources(*languages)
        named: dict[str, list[Score]] = {}
        for one in scores:
            named.setdefault(styles[one.source], []).append(one)
        groups = {"style": dict(sorted(named.items())), **groups}
    figure = Figure(figsize=(7.2, 3.0 * len(groups)), dpi=80, layout="constrained")
    for row, (title, parts) in enumerate(groups.items()):
        wrong = [1 - np.mean([one.exact for one in part]) for part in parts.values()]
        losses = [np.mean([one.loss for one in part]) for part in parts.values()]
        columns = (
            ("share of inexact translations", wrong, ERROR),
            ("nats per token", losses, SOURCE),
        )
        for column, (label, values, colour) in enumerate(columns):
            axes = figure.add_subplot(len(groups), 2, 2 * row + column + 1)
            dress(axes, label)
            axes.barh(list(parts), values, color=colour)
            axes.set_xlim(left=0, right=None if any(values) else 1)
            axes.invert_yaxis()
            if column == 0:
                axes.set_ylabel(title, fontsize=9)
            else:
                axes.tick_params(labelleft=False)
        for name, error, loss in zip(parts, wrong, losses, strict=True):
            print(f"{title} {name}: {len(parts[name])} pairs, inexact {error:.4f}, loss {loss:.4f}")
    save(figure, path)


def by_length(scores: Iterable[Score]) -> dict[str, list[Score]]:
    """Scores in up to eight groups of about equal size, from short sources to long ones."""
    ordered = sorted(scores, key=lambda one: one.length)
    parts: dict[str, list[Score]] = {}
    for places in np.array_split(np.arange(len(ordered)), LENGTH_BINS):
        part = [ordered[place] for place in places]
        if part:
            parts.setdefault(f"{part[0].length} to {part[-1].length}", []).extend(part)
    return parts


def draw_alignment(model: object, data: object, path: Path) -> None:
    """What each token of a translation looked at in its source, if the model has attention."""
    from torch.utils.data import DataLoader

    batch = next(iter(data.test_dataloader()))
    trainer = L.Trainer(
        logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu"
    )
    trainer.test(model, DataLoader([batch], batch_size=None), verbose=False)
    (sample,) = model.translation_samples(1)
    if sample.attention is not None:
        Image.fromarray(figure_pixels(attention_figure(sample))).save(path)
        print(path)


# ---- a run of a classifier


def draw_classes(model: object, data: object, stem: Path) -> None:
    """Confusion matrix of the test split, and the surest mistakes if they are images."""
    counts, mistakes = judge(model, data)
    names = model.class_names()
    save(confusion_figure(counts, names), stem.with_name(f"{stem.name}_confusion.png"))
    print(f"{stem.name}: {counts.sum() - np.trace(counts)} mistakes in {counts.sum()}")
    wrong = counts - np.diag(np.diag(counts))
    for place in np.argsort(wrong, axis=None, kind="stable")[::-1][:10]:
        true, taken = np.unravel_index(place, wrong.shape)
        if wrong[true, taken]:
            print(f"{names[true]} taken for {names[taken]}: {wrong[true, taken]} times")
    if mistakes:
        save(mistakes_figure(mistakes), stem.with_name(f"{stem.name}_mistakes.png"))
    filters = first_filters(model)
    if filters is not None:
        path = stem.with_name(f"{stem.name}_filters.png")
        Image.fromarray(filter_grid(filters[:MOST_FILTERS].numpy())).save(path)
        print(path)


def judge(model: object, data: object) -> tuple[NDArray[np.int64], list[Mistake]]:
    """Counts of true and predicted classes (K, K), and the mistakes of highest probability."""
    import torch

    names = model.class_names()
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    mistakes: list[Mistake] = []
    with torch.inference_mode():
        for inputs, labels, *_ in data.test_dataloader():
            sure, taken = model(inputs).softmax(1).max(1)
            np.add.at(counts, (labels.numpy(), taken.numpy()), 1)
            if inputs.dim() != 4:  # rows of a table, or texts
                continue
            wrong = (taken != labels).nonzero()[:, 0]
            mistakes += [
                Mistake(pixels, names[labels[row]], names[taken[row]], float(sure[row]))
                for row, pixels in zip(wrong, model.processor.decode(inputs[wrong]), strict=True)
            ]
    mistakes.sort(key=lambda mistake: -mistake.probability)
    return counts, mistakes[:MOST_MISTAKES]


def draw_attention(model: object, data: object, path: Path) -> None:
    """A test image of each class, and in each block how much its patches are looked at."""
    import torch

    names = model.class_names()
    stored = data.dataset("test")
    labels = stored.labels[stored.rows]
    images = stored[
        np.array([np.flatnonzero(labels == label)[0] for label in range(len(names))])
    ].image
    with torch.inference_mode():
        weights = model.attention(images).mean(2)  # over heads: (B, blocks, T, S)
    looked = weights.mean(2) if model.hparams.pool == "mean" else weights[:, :, 0, 1:]
    patches = [side // model.hparams.patch_size for side in images.shape[2:]]
    looked = looked.unflatten(-1, patches).numpy()
    figure = Figure(figsize=(0.62 * len(names), 0.62 * (1 + looked.shape[1]) + 0.25), dpi=80)
    figure.subplots_adjust(0.005, 0.01, 0.995, 0.92, wspace=0.08, hspace=0.08)
    rows = 1 + looked.shape[1]
    for column, pixels in enumerate(model.processor.decode(images)):
        for row in range(rows):
            axes = figure.add_subplot(rows, len(names), row * len(names) + column + 1)
            if row == 0:
                axes.imshow(pixels, cmap="gray", vmin=0, vmax=255)
                axes.set_title(names[column], fontsize=9, pad=3)
            else:
                axes.imshow(looked[column, row - 1], cmap="Blues", vmin=0)  # its own scale
            axes.set_axis_off()
    save(figure, path)
    print(f"{path.stem}: largest weight {looked.max():.3f}, alike {1 / np.prod(patches):.3f}")


# ---- figures


def figure_with(
    x_label: str, width: float, height: float, y_label: str = ""
) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), dpi=80, layout="constrained")
    axes = figure.add_subplot()
    dress(axes, x_label)
    axes.set_ylabel(y_label, fontsize=9)
    return figure, axes


def dress(axes: Axes, x_label: str) -> None:
    axes.set_xlabel(x_label, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def save(figure: Figure, path: Path) -> None:
    # No version of matplotlib in the file: the same data give the same bytes.
    figure.savefig(path, metadata={"Software": None})
    print(path)


if __name__ == "__main__":
    main()
