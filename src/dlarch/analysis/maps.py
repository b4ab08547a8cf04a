"""Maps in two dimensions of what has many: images, words, codes, whatever stands in rows."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE, trustworthiness

from dlarch.callbacks.figures import FAINT, INK, monospaced
from dlarch.errors import DataError, OptionError

Metric = Literal["euclidean", "cosine"]

NEIGHBOURS = 12
"""Among so many nearest rows a map is asked whether it can be trusted."""

PERPLEXITY = 30.0
"""About how many neighbours t-SNE keeps near a row, where there are rows enough."""

MOST_NAMES = 150
"""Rows whose names are written into a map; beyond it names hide each other."""

MOST_COLOURS = 20
"""Classes that are told apart by colour."""


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of numbers, and what is known of each row.

    Attributes:
        rows: (N, D).
        columns: by their names, N words each, such as `class`; `token` for the names of words.
    """

    rows: NDArray[np.float64]
    columns: dict[str, list[str]]


@dataclass(frozen=True, eq=False)
class Map:
    """Rows in the plane.

    Attributes:
        method: "pca" or "tsne".
        points: (N, 2), in the order of the rows.
        trustworthiness: 0 to 1; below 1 where neighbours on the map are far apart in truth. About
            0.5 is chance (J. Venna and S. Kaski 2001).
    """

    method: str
    points: NDArray[np.float64]
    trustworthiness: float


def read_table(folder: Path | str) -> Table:
    """Read the table of TensorBoard's projector in a folder, such as `logs/STEP/features`.

    Args:
        folder: holds tensors.tsv, rows of numbers separated by tabs, and perhaps metadata.tsv: a
            line for each row, below a line of names if there are several columns.

    Raises:
        DataError: a file is missing, or does not hold what it should.
    """
    numbers, known = Path(folder) / "tensors.tsv", Path(folder) / "metadata.tsv"
    try:
        rows = np.loadtxt(numbers.read_text(encoding="utf-8").splitlines(), delimiter="\t", ndmin=2)
        # Names may hold quotation marks; TensorBoard knows no quoting.
        lines = (
            known.read_text(encoding="utf-8").rstrip("\n").split("\n") if known.is_file() else []
        )
    except OSError as error:
        raise DataError(f"{numbers} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise DataError(f"{numbers} holds no rows of equally many numbers: {error}.") from error
    cells = list(csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    names = cells.pop(0) if cells and len(cells[0]) > 1 else ["token"]
    if cells and (len(cells) != len(rows) or any(len(row) != len(names) for row in cells)):
        raise DataError(f"{known} does not say the same of each of the {len(rows)} rows.")
    columns = {name: [row[at] for row in cells] for at, name in enumerate(names)} if cells else {}
    return Table(rows, columns)


def draw_maps(
    rows: NDArray[np.floating],
    metric: Metric = "euclidean",
    neighbours: int = NEIGHBOURS,
    seed: int = 0,
) -> list[Map]:
    """Lay rows out by their two first principal components, and by t-SNE.

    t-SNE (L. van der Maaten and G. Hinton 2008) starts from the principal components.

    Args:
        rows: (N, D), finite.
        metric: which rows are near each other; principal components are of rows of length 1 with
            "cosine".
        neighbours: nearest rows among which trustworthiness is measured, k.
        seed: of t-SNE.

    Raises:
        DataError: fewer than two dimensions, or a number that is not finite.
        OptionError: more than half of the rows would be neighbours.
    """
    rows = np.asarray(rows, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] < 2 or not np.isfinite(rows).all():
        raise DataError(f"A map needs rows of at least two finite numbers, not {rows.shape}.")
    if not 1 <= neighbours < len(rows) / 2:
        raise OptionError(
            f"{neighbours} neighbours are too many for {len(rows)} rows: fewer than half of the "
            "rows, and at least 1, can be asked for."
        )
    if metric == "cosine":  # then squared distances are twice the cosine distance
        rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    wide = min(PERPLEXITY, (len(rows) - 1) / 3)
    found = {
        "pca": PCA(2, svd_solver="full").fit_transform(rows),
        "tsne": TSNE(2, perplexity=wide, init="pca", random_state=seed).fit_transform(rows),
    }
    return [
        Map(method, points, float(trustworthiness(rows, points, n_neighbors=neighbours)))
        for method, points in found.items()
    ]


def maps_figure(maps: Sequence[Map], table: Table, title: str) -> Figure:
    """Maps beside each other: classes by colour, tokens by name, the first 150 of them."""
    figure = Figure(figsize=(6.4 * len(maps), 6.6), dpi=110, layout="constrained")
    figure.suptitle(title, color=INK)
    classes = table.columns.get("class")
    for axes, each in zip(np.ravel(figure.subplots(1, len(maps))), maps, strict=True):
        axes.set_title(f"{each.method}, trustworthiness {each.trustworthiness:.3f}", color=INK)
        axes.set_xticks([])
        axes.set_yticks([])
        if classes is not None:
            _draw_classes(axes, each.points, classes)
        else:
            axes.scatter(
                each.points[:, 0], each.points[:, 1], s=4, color=FAINT, alpha=0.4, linewidths=0
            )
            _draw_names(axes, each.points, table.columns.get("token", []))
    return figure


def _draw_classes(axes: Axes, points: NDArray[np.float64], classes: list[str]) -> None:
    names = sorted(set(classes))
    colours = matplotlib.colormaps["tab10" if len(names) <= 10 else "tab20"].colors  # type: ignore[attr-defined]
    labels = np.array(classes)
    for place, name in enumerate(names):
        colour = colours[place] if place < MOST_COLOURS else FAINT
        label = name if place < MOST_COLOURS else None
        chosen = points[labels == name]
        axes.scatter(
            chosen[:, 0], chosen[:, 1], s=10, color=colour, alpha=0.8, linewidths=0, label=label
        )
    axes.legend(fontsize=7, markerscale=1.5, frameon=False, ncols=2 if len(names) > 8 else 1)


def _draw_names(axes: Axes, points: NDArray[np.float64], tokens: list[str]) -> None:
    for (x, y), token in zip(points[:MOST_NAMES], tokens[:MOST_NAMES], strict=False):
        text = token.replace("$", r"\$")  # no formula begins here
        axes.text(x, y, text, fontsize=7, color=INK, ha="center", va="center", family=monospaced())
