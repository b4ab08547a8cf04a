"""Images that a model makes at each validation, on TensorBoard and in the run folder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from typing_extensions import override

from dlarch.callbacks.protocols import no_failure, run_folder, shows, tensorboard_writers

GAP, FRAME = 2, 64
"""Pixels between two images, and their grey."""

SMALLEST_SIDE = 48
"""Pixels of an image that is drawn, at least."""


@runtime_checkable
class OffersImages(Protocol):
    """A task that makes images."""

    def made_images(self) -> Mapping[str, Tensor]:
        """Rows of images (rows, columns, C, H, W) on the scale 0 to 1, by what they show.

        The same inputs and the same noise at each call.
        """
        ...


def image_grid(images: Tensor) -> NDArray[np.uint8]:
    """Draw images (rows, columns, C, H, W), 0 to 1, beside each other, in whole pixels.

    Returns:
        (height, width, 3).
    """
    pixels = images.detach().float().cpu().clamp(0, 1).mul(255).round().byte()
    pixels = pixels.expand(-1, -1, 3, -1, -1) if pixels.shape[2] == 1 else pixels
    zoom = max(1, math.ceil(SMALLEST_SIDE / max(pixels.shape[-2:])))
    drawn = pixels.permute(0, 1, 3, 4, 2).numpy().repeat(zoom, 2).repeat(zoom, 3)
    rows, columns, height, width, _ = drawn.shape
    shape = (rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, 3)
    grid = np.full(shape, FRAME, dtype=np.uint8)
    for row in range(rows):
        for column in range(columns):
            top, left = GAP + row * (height + GAP), GAP + column * (width + GAP)
            grid[top : top + height, left : left + width] = drawn[row, column]
    return grid


def nearly_square(images: Tensor) -> Tensor:
    """Images (N, C, H, W) in rows: about as many rows as columns; what is left over is dropped."""
    columns = math.ceil(len(images) ** 0.5)
    rows = len(images) // columns
    grid: Tensor = images[: rows * columns].unflatten(0, (rows, columns))
    return grid


class ImageGrids(Callback):
    """Draws what a model makes, at each validation of a fit, and nothing in between.

    TensorBoard: image `samples/NAME` for each name that the task offers. Run folder:
    `samples/NAME_0001200.png`.
    """

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, wherever it can be seen."""
        if not shows(trainer) or not isinstance(pl_module, OffersImages):
            return
        if not can_be_seen(trainer):
            return
        with torch.no_grad(), isolate_rng(include_cuda=pl_module.device.type == "cuda"):
            grids = {name: image_grid(rows) for name, rows in pl_module.made_images().items()}
        for name, grid in grids.items():
            show_samples(trainer, name, grid)


def can_be_seen(trainer: Trainer) -> bool:
    """Whether there is a logger or a run folder for pictures."""
    return bool(tensorboard_writers(trainer)) or run_folder(trainer) is not None


def show_samples(trainer: Trainer, name: str, pixels: NDArray[np.uint8]) -> None:
    """Put a picture (H, W, 3) of samples on TensorBoard and into the run folder."""
    for writer in tensorboard_writers(trainer):
        writer.add_image(f"samples/{name}", pixels, trainer.global_step, dataformats="HWC")
    folder = run_folder(trainer)
    if folder is not None:
        path = folder / "samples" / f"{name}_{trainer.global_step:07d}.png"
        with no_failure(str(path)):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
