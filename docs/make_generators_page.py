"""Draw the pictures and tables of the page on generators, from finished runs on the same images.

python docs/make_generators_page.py RUN [RUN ...] [--judge RUN]

writes, with a row or panel for each run,

images/generators_reconstructions.png   the first 8 test images, and what comes back
images/generators_samples.png           64 new images
images/generators_maps.png              images in the plane: principal components, t-SNE, and codes
                                        of two numbers
images/generators_sizes.png             error against the size of the code, beside principal
                                        components
experiments/generators.txt              error; with a judge how far new images are from real ones
experiments/generators_maps.txt         how far to trust each map
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from make_autoencoder_plots import pca_error, pixels
from make_experiments import write_table
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from sklearn.manifold import trustworthiness
from small_networks import BLUE, IMAGES, RED, grid, label, legend, save
from torch import Tensor

import dlarch
from dlarch.analysis.made import judge_images
from dlarch.analysis.maps import NEIGHBOURS, Map, Table, draw_maps, maps_figure
from dlarch.factory import create_data_of
from dlarch.runs import resolve_checkpoint
from dlarch.tasks import ImageAutoencoder

TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)
TABLES = Path(__file__).parent / "experiments"
SHOWN, SAMPLES, MAPPED = 8, 64, 1000
SIZES = (1, 2, 4, 8, 16, 32)
LARGE, SMALL = 40, 24
"""Pixels of an image that is drawn, at least."""
GAP, MARGIN, LINE = 2, 170, 22
WIDEST = 3
"""Panels of new images beside each other."""


class Made(NamedTuple):
    """A run and its model."""

    name: str
    folder: Path
    model: Any

    @property
    def code_size(self) -> int | None:
        """Numbers in the code, or in the noise of a GAN."""
        size = self.model.hparams.get("code_size") or self.model.hparams.get("noise_size")
        return None if size is None else int(size)

    @property
    def draws_again(self) -> bool:
        return isinstance(self.model, ImageAutoencoder)

    def reconstruct(self, images: Sequence[NDArray[np.uint8]], labels: list[str]) -> Tensor:
        """Images (N, C, H, W), 0 to 1, from the codes of images of classes."""
        told = {"classes": labels} if getattr(self.model, "told_classes", 0) else {}
        return as_unit(self.model.reconstruct(images, **told))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", help="on the same images")
    parser.add_argument("--judge", help="the run of a classifier of such images")
    parser.add_argument("--images", type=Path, default=IMAGES, help="folder of the pictures")
    parser.add_argument("--tables", type=Path, default=TABLES, help="folder of the tables")
    options = parser.parse_args()
    torch.set_num_threads(1)
    made = opened(options.runs)
    data = grey_data(options.runs[0], made[0].model.processor)
    train, test = pixels(data, "train"), pixels(data, "test")
    names = data.processor.class_names
    labels = {
        split: [names[n] for batch in data.in_order(split) for n in batch.label.tolist()]
        for split in ("train", "test")
    }
    raw = [np.uint8(image.permute(1, 2, 0).mul(255).round()) for image in test]
    errors = {
        each.name: squared_error(each.reconstruct(raw, labels["test"]), test)
        for each in made
        if each.draws_again
    }
    draw_reconstructions(made, raw, labels["test"], options.images)
    draw_samples(made, options.images)
    draw_sizes(made, errors, train, test, options.images)
    write_figures(made, errors, options.judge, options.tables)
    compare_maps(made, train[:MAPPED], labels["train"][:MAPPED], options)


def opened(runs: Sequence[str]) -> list[Made]:
    """The models of runs, called after their recipes; and their codes if these agree."""
    folders = [resolve_checkpoint(run).parent.parent for run in runs]
    recipes = [folder.resolve().parent.name for folder in folders]
    found = []
    for folder, recipe in zip(folders, recipes, strict=True):
        made = Made(recipe, folder, dlarch.AutoModel.from_pretrained(folder).eval())
        again = recipes.count(recipe) > 1
        found.append(made._replace(name=f"{recipe}, {made.code_size}" if again else recipe))
    shapes = {each.name: tuple(each.model.processor.image_shape) for each in found}
    if len(set(shapes.values())) > 1:
        raise SystemExit(f"The runs make images of different shapes: {shapes}")
    return found


def grey_data(run: str, processor: Any) -> Any:
    """The images of a run, as they are stored."""
    data = create_data_of(run, processor=processor)
    data.targets = "grey"
    data.prepare_data()
    data.setup("fit")
    return data


def as_unit(images: Sequence[NDArray[np.uint8]]) -> Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255


def squared_error(found: Tensor, wanted: Tensor) -> float:
    """Summed over the pixels of an image, the mean over images."""
    return float((found - wanted).square().flatten(1).sum(1).mean())


# ---- images


def tiles(images: Tensor, columns: int, side: int) -> NDArray[np.uint8]:
    """Images (N, C, H, W) in rows, in whole pixels, at least so many a side."""
    zoom = max(1, math.ceil(side / max(images.shape[-2:])))
    drawn = images.mul(255).round().byte().numpy().repeat(zoom, 2).repeat(zoom, 3)
    drawn = np.pad(drawn, ((0, 0), (0, 0), (0, GAP), (0, GAP)), constant_values=64)
    rows = [np.concatenate(list(row), axis=2) for row in np.split(drawn, len(drawn) // columns)]
    whole = np.concatenate(rows, axis=1).transpose(1, 2, 0)
    return np.broadcast_to(whole, (*whole.shape[:2], 3))


def write(picture: Image.Image, path: Path) -> None:
    # Few greys are enough, and make a small file.
    picture.quantize(32).save(path, optimize=True)
    print(path)


def draw_reconstructions(
    made: list[Made], raw: list[NDArray[np.uint8]], labels: list[str], folder: Path
) -> None:
    rows = {"test images": as_unit(raw[:SHOWN])}
    rows |= {
        each.name: each.reconstruct(raw[:SHOWN], labels[:SHOWN])
        for each in made
        if each.draws_again
    }
    drawn = {name: tiles(images, SHOWN, LARGE) for name, images in rows.items()}
    height, width, _ = next(iter(drawn.values())).shape
    picture = Image.new("RGB", (MARGIN + width, height * len(drawn)), "white")
    for place, (name, row) in enumerate(drawn.items()):
        picture.paste(Image.fromarray(row), (MARGIN, place * height))
        text(picture, (6, place * height + height // 2 - 8), name)
    write(picture, folder / "generators_reconstructions.png")


def draw_samples(made: list[Made], folder: Path) -> None:
    drawn = [
        tiles(as_unit(each.model.generate(SAMPLES, seed=0)), math.isqrt(SAMPLES), SMALL)
        for each in made
        if hasattr(each.model, "generate")
    ]
    names = [each.name for each in made if hasattr(each.model, "generate")]
    height, width, _ = drawn[0].shape
    height, width = height + LINE, width + 8
    columns = min(WIDEST, len(drawn))
    size = (width * columns, height * math.ceil(len(drawn) / columns))
    picture = Image.new("RGB", size, "white")
    for place, (name, panel) in enumerate(zip(names, drawn, strict=True)):
        left, top = width * (place % columns), height * (place // columns)
        text(picture, (left + 2, top + 3), name)
        picture.paste(Image.fromarray(panel), (left, top + LINE))
    write(picture, folder / "generators_samples.png")


def text(picture: Image.Image, place: tuple[int, int], words: str) -> None:
    ImageDraw.Draw(picture).text(place, words, "#1b2733", ImageFont.load_default(14))


# ---- figures


def draw_sizes(
    made: list[Made], errors: dict[str, float], train: Tensor, test: Tensor, folder: Path
) -> None:
    figure, ((axes,),) = grid(1, 1, 6.0, 3.8)
    sizes = [size for size in SIZES if size < min(len(train), train[0].numel())]
    known = [pca_error(train, test, size) for size in sizes]
    axes.plot(sizes, known, "o-", color=RED, label="principal components", markersize=4)
    places = [
        (each.code_size, errors[each.name], each.name.partition(",")[0])
        for each in made
        if each.draws_again and each.code_size
    ]
    for number, size in enumerate(sorted({place[0] for place in places})):
        side = ("left", "right")[number % 2]  # so that names do not hide each other
        for error, names in together([place[1:] for place in places if place[0] == size]):
            axes.plot(size, error, "o", color=BLUE, markersize=4)
            axes.annotate(
                names,
                (size, error),
                (6 if side == "left" else -6, 0),
                textcoords="offset points",
                fontsize=7,
                color=BLUE,
                ha=side,
                va="center",
            )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(sizes, [str(size) for size in sizes])
    low, high = axes.get_ylim()
    ticks = [tick for tick in TICKS if low <= tick <= high]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    label(axes, "test images", "numbers in the code", "summed squared error per image")
    legend(axes)
    save(figure, folder / "generators_sizes.png")


def together(errors: list[tuple[float, str]]) -> list[tuple[float, str]]:
    """Errors that are nearly equal, as one with all names."""
    groups: list[tuple[float, str]] = []
    for error, name in sorted(errors):
        if groups and error < 1.08 * groups[-1][0]:
            groups[-1] = (groups[-1][0], f"{groups[-1][1]}, {name}")
        else:
            groups.append((error, name))
    return groups


def write_figures(
    made: list[Made], errors: dict[str, float], judge: str | None, folder: Path
) -> None:
    judged = ["Frechet distance", "judge's confidence", "rarest class"] if judge else []
    names = ["model", "numbers in the code or noise", "squared error", *judged]
    table = [names, ["---"] * len(names)]
    for each in made:
        error = f"{errors[each.name]:.2f}" if each.name in errors else "none drawn again"
        row = [f"`{each.name}`", str(each.code_size), error]
        if judge and hasattr(each.model, "generate"):
            found = judge_images(each.folder, judge, count=1000)
            row += [f"{found['frechet_classifier']:.2f}", f"{found['judge_confidence']:.2f}"]
            row += [f"{100 * found['rarest_class']:.1f} %"]
        elif judge:
            row += ["none made", "", ""]
        table.append(row)
    write_table(table, folder / "generators.txt")


def compare_maps(
    made: list[Made], images: Tensor, labels: list[str], options: argparse.Namespace
) -> None:
    """Of pixels by principal components and t-SNE; codes of two numbers as they are."""
    rows = images.flatten(1).numpy().astype(np.float64)
    maps = draw_maps(rows)
    for each in made:
        if each.draws_again and each.code_size == 2 and not getattr(each.model, "told_classes", 0):
            with torch.no_grad():
                codes = each.model.encode(images).numpy()
            trusted = float(trustworthiness(rows, codes, n_neighbors=NEIGHBOURS))
            maps.append(Map(each.name, codes, trusted))
    figure = maps_figure(maps, Table(rows, {"class": labels}), f"{len(rows)} training images")
    path = options.images / "generators_maps.png"
    figure.savefig(path, dpi=60, metadata={"Software": None})
    print(path)
    table = [["map", f"trustworthiness among {NEIGHBOURS} neighbours"], ["---"] * 2]
    table += [[each.method, f"{each.trustworthiness:.3f}"] for each in maps]
    write_table(table, options.tables / "generators_maps.txt")


if __name__ == "__main__":
    main()
