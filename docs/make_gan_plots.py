"""Draw the pictures of the pages on generators, from finished runs.

python docs/make_gan_plots.py points NAME RUN [RUN ...]   images/NAME.png: made points over real
                                                          ones, a panel for each run
python docs/make_gan_plots.py images NAME RUN             images/NAME.png: images from fixed noise
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import yaml
from PIL import Image
from small_networks import EDGE, IMAGES, RED, grid, label, save

import dlarch
from dlarch.callbacks.image_grids import image_grid
from dlarch.runs import Run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("points", "images"))
    parser.add_argument("name", help="of the picture")
    parser.add_argument("runs", nargs="+", type=Path)
    options = parser.parse_args()
    path = IMAGES / f"{options.name}.png"
    if options.what == "points":
        draw_points(options.runs, path)
    else:
        draw_images(options.runs[0], path)


def draw_points(runs: list[Path], path: Path) -> None:
    """The test points of each run's data, and as many made ones."""
    figure, (panels,) = grid(1, len(runs), 3.6, 3.6)
    for axes, folder in zip(panels, runs, strict=True):
        asked = yaml.safe_load(Run(folder).config.read_text(encoding="utf-8"))
        model = dlarch.AutoModel.from_pretrained(folder).eval()
        options = asked["data"]["init_args"] | {"processor": model.processor}
        data = dlarch.create_data(asked["data"]["class_path"], **options)
        data.prepare_data()
        data.setup("test")
        real = torch.tensor(model.processor.denormalize(data.dataset("test").features))
        made = torch.tensor(model.generate(len(real), seed=0))
        axes.scatter(real[:, 0], real[:, 1], s=14, color=EDGE, linewidths=0)
        axes.scatter(made[:, 0], made[:, 1], s=3, color=RED, linewidths=0)
        low, high = real.min().item(), real.max().item()
        margin = 0.25 * (high - low)
        axes.set_xlim(low - margin, high + margin)
        axes.set_ylim(low - margin, high + margin)
        packing = model.packing
        title = model.registry_name + (f", {packing} points at once" if packing > 1 else "")
        label(axes, title, *model.processor.columns)
    save(figure, path)


def draw_images(folder: Path, path: Path) -> None:
    """What the run's pictures show, by its last weights."""
    model = dlarch.AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        grid_of = image_grid(model.made_images()["images"])
    Image.fromarray(grid_of).save(path)


if __name__ == "__main__":
    main()
