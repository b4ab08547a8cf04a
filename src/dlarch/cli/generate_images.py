"""What `dlarch generate` does with a model of images: a grid, a walk, or a file for each."""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from dlarch.callbacks.image_grids import FRAME, image_grid
from dlarch.errors import MismatchError, OptionError

OPTIONS = ("grid", "walk", "folder")
"""Options that models of texts do not know."""

COUNT, STOPS = 64, 8
"""Images that are drawn, and codes that a walk passes, when `--n` is not given."""

SIDE = 128
"""Pixels of an image of a walk, at least."""

MILLISECONDS = 60
"""That each image of a walk is shown."""


def write_images(arguments: Namespace, model: Any) -> None:
    """Write what is asked for, and print where it is."""
    options = {"condition": arguments.condition, "seed": arguments.seed}
    if arguments.walk is not None:
        _write_walk(Path(arguments.walk), model, arguments.n or STOPS, options)
    if arguments.grid is not None:
        images = model.generate(arguments.n or COUNT, **options)
        _save(arguments.grid, Image.fromarray(_grid(images)).save)
    if arguments.grid is None and arguments.walk is None:
        images = model.generate(arguments.n or COUNT, **options)
        folder = Path(arguments.folder or "generated")
        for number, pixels in enumerate(images):
            picture = Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)
            _save(folder / f"{number:05d}.png", picture.save, say=False)
        print(f"{len(images)} images in {folder}")


def _write_walk(path: Path, model: Any, stops: int, options: dict[str, Any]) -> None:
    """Write an animation of images whose codes lie on a way through several."""
    if not hasattr(model, "walk"):
        raise MismatchError(f"{type(model).__name__} has no codes to walk through: leave out walk.")
    if path.suffix.lower() != ".gif":
        raise OptionError(f"--walk writes an animation: name a .gif file, not {path.name}.")
    first, *others = [Image.fromarray(_enlarged(each)) for each in model.walk(stops, **options)]
    _save(
        path,
        lambda file: first.save(
            file, save_all=True, append_images=others, duration=MILLISECONDS, loop=0
        ),
    )


def _grid(images: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """All images in rows, about as many as columns; places that are left over look like gaps."""
    columns = math.ceil(len(images) ** 0.5)
    rows = math.ceil(len(images) / columns)
    pixels = np.full((rows * columns, *images[0].shape), FRAME, np.uint8)
    pixels[: len(images)] = np.stack(images)
    unit = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    return image_grid(unit.unflatten(0, (rows, columns)))


def _enlarged(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pixels (H, W, C) in colours, each as a square, so that small images can be seen."""
    zoom = max(1, math.ceil(SIDE / max(pixels.shape[:2])))
    colours = np.broadcast_to(pixels, (*pixels.shape[:2], 3))
    enlarged: NDArray[np.uint8] = colours.repeat(zoom, 0).repeat(zoom, 1)
    return enlarged


def _save(path: str | Path, save: Callable[[Path], None], say: bool = True) -> None:
    """Save a picture; makes the folder.

    Raises:
        OptionError: the file cannot be written, or is of no kind that pictures are stored in.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save(path)
    except (OSError, ValueError) as error:
        raise OptionError(
            f"{path} cannot be written ({error}): name a file such as out.png."
        ) from error
    if say:
        print(path)
