"""Draw the pictures of the pages on autoencoders.

python docs/make_autoencoder_plots.py sizes      images/autoencoder_sizes.png: error against code
                                                 size, on digits, beside principal components
python docs/make_autoencoder_plots.py grids RUN  images/RECIPE_GRID.png: the last grids of images
                                                 that a run has drawn
python docs/make_autoencoder_plots.py codes RUN [RUN ...]
                                                 images/adversarial_autoencoder_codes.png: where
                                                 validation codes of two numbers lie, over draws of
                                                 the prior, a panel for each run
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.decomposition import PCA
from small_networks import BLUE, EDGE, IMAGES, RED, grid, label, legend, prepared, save
from torch import Tensor

import dlarch
from dlarch.batches import ImageBatch
from dlarch.optim import WarmupCosine
from dlarch.runs import Run

SIZES = (1, 2, 4, 8, 16, 32)
EPOCHS, BATCH = 40, 32
TICKS = (0.2, 0.5, 1, 2, 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("sizes", "grids", "codes"))
    parser.add_argument("runs", type=Path, nargs="*", help="of `grids` and `codes`")
    parser.add_argument("--images", type=Path, default=IMAGES, help="folder of the pictures")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.what == "sizes":
        draw_sizes(options.images)
    elif options.what == "grids":
        copy_grids(options.runs[0], options.images)
    else:
        plot_codes(options.runs, options.images / "adversarial_autoencoder_codes.png")


def draw_sizes(images: Path) -> None:
    """Errors in the test of the recipe `autoencoder`, the size of whose code is changed."""
    data = prepared("digits")
    train, test = pixels(data, "train"), pixels(data, "test")
    errors: dict[str, list[float]] = {"principal components": [], "autoencoder": []}
    for size in SIZES:
        start = time.process_time()
        errors["principal components"].append(pca_error(train, test, size))
        errors["autoencoder"].append(network_error(data, train, test, size))
        found = ", ".join(f"{name} {values[-1]:.3f}" for name, values in errors.items())
        print(f"{size}: {found} ({time.process_time() - start:.0f} s)")
    plot_sizes(errors, images / "autoencoder_sizes.png")


def plot_sizes(errors: dict[str, list[float]], path: Path) -> None:
    """A line for each method."""
    figure, ((axes,),) = grid(1, 1, 5.2, 3.4)
    for (name, values), colour in zip(errors.items(), (RED, BLUE), strict=True):
        axes.plot(SIZES, values, "o-", color=colour, label=name, markersize=4)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(SIZES, [str(size) for size in SIZES])
    axes.set_yticks(TICKS, [f"{tick:g}" for tick in TICKS])
    axes.minorticks_off()
    label(axes, "digits, test", "numbers in the code", "summed squared error per image")
    legend(axes)
    save(figure, path)


@torch.no_grad()
def pixels(data: object, split: str) -> Tensor:
    """The images of a split, 0 to 1."""
    return torch.cat([data.processor.to_unit(batch.image) for batch in data.in_order(split)])


def pca_error(train: Tensor, test: Tensor, size: int) -> float:
    """Of what the first components of the training images keep of the test images."""
    rows, known = (part.flatten(1).numpy() for part in (test, train))
    pca = PCA(size).fit(known)
    return float(np.square(pca.inverse_transform(pca.transform(rows)) - rows).sum(1).mean())


def network_error(data: object, train: Tensor, test: Tensor, size: int) -> float:
    torch.manual_seed(1)
    options = {"hidden_sizes": (256, 128), "likelihood": "gaussian"}
    model = dlarch.create_model("autoencoder", data.spec, code_size=size, **options)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.002)
    steps = EPOCHS * -(-len(train) // BATCH)
    schedule = WarmupCosine(optimizer, warmup_steps=50, total_steps=steps)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(train)).split(BATCH):
            loss = model.losses(ImageBatch(train[rows], rows)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        return float((model(test) - test).square().flatten(1).sum(1).mean())


def copy_grids(folder: Path, images: Path) -> None:
    """The last picture of each kind, named after the recipe of the run."""
    run = Run(folder)
    newest = {path.name.rpartition("_")[0]: path for path in sorted(folder.glob("samples/*.png"))}
    for name, path in newest.items():
        target = images / f"{run.folder.parent.name}_{name}.png"
        shutil.copy(path, target)
        print(target)


@torch.no_grad()
def plot_codes(folders: list[Path], path: Path) -> None:
    """A panel for each run of `adversarial_autoencoder`: draws of the prior, codes by class."""
    figure, (panels,) = grid(1, len(folders), 3.4, 3.4)
    for axes, folder in zip(panels, folders, strict=True):
        model = dlarch.AutoModel.from_pretrained(folder).eval()
        data = prepared("digits", processor=model.processor)
        noise = torch.randn((2000, 2), generator=torch.Generator().manual_seed(0))
        drawn = model.prior(noise)
        codes = model.encode(pixels(data, "validation"))
        labels = torch.cat([batch.label for batch in data.in_order("validation")])
        axes.scatter(drawn[:, 0], drawn[:, 1], s=4, color=EDGE, linewidths=0)
        axes.scatter(codes[:, 0], codes[:, 1], s=14, c=labels, cmap="tab10", linewidths=0)
        weight = model.hparams.adversarial_weight
        title = f"{model.hparams.prior} prior" if weight else "without a critic"
        label(axes, title, "first number of the code", "second number")
    save(figure, path)


if __name__ == "__main__":
    main()
