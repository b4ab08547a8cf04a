"""What a network looks for and how it sees: its first weights as images, its last features."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.hooks import RemovableHandle
from typing_extensions import override

from dlarch.callbacks.health import weights_of
from dlarch.callbacks.projector import write_points
from dlarch.callbacks.protocols import OffersClasses, shows, tensorboard_writers

MOST_FILTERS = 64
FILTER_SIDE, GAP = 40, 6
"""Pixels of a filter, at least, and between two."""

MOST_EXAMPLES, SPRITE_SIDE = 500, 64
"""Of the projector: examples, pixels of the image of each at most."""

TEXT_BEGINNING = 60
"""Characters that the projector shows of a text."""


# ---- filters


def first_filters(module: nn.Module) -> Tensor | None:
    """The weights of the first layer as images (K, C, h, w); None where they are none.

    Filters of a convolution over one or three channels, or the weights into each unit of a layer
    that reads an image as a row of pixels.
    """
    first = next((name for name, _ in weights_of(module)), None)
    shape = getattr(getattr(module, "processor", None), "image_shape", None)
    if first is None or shape is None or shape[0] not in (1, 3):
        return None
    layer = module.get_submodule(first)
    if isinstance(layer, nn.Conv2d) and layer.weight.shape[1] == shape[0]:
        return layer.weight.detach()
    if isinstance(layer, nn.Linear) and layer.in_features == math.prod(shape):
        return layer.weight.detach().view(-1, *shape)
    return None


def filter_grid(weights: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Draw filters (K, C, h, w) beside each other, each on a scale of its own.

    With one channel red is positive, blue negative and white 0; three channels are colours, and
    grey is 0. Each weight is a square of whole pixels.
    """
    weights = weights[:MOST_FILTERS]
    largest = np.abs(weights).max((1, 2, 3), keepdims=True)
    values = weights / np.where(largest > 0, largest, 1.0) / 2 + 0.5
    if values.shape[1] == 1:
        pixels = matplotlib.colormaps["RdBu_r"](values[:, 0])[..., :3]
    else:
        pixels = values.transpose(0, 2, 3, 1)
    zoom = max(1, math.ceil(FILTER_SIDE / max(pixels.shape[1:3])))
    pixels = pixels.repeat(zoom, 1).repeat(zoom, 2)
    count, height, width = pixels.shape[:3]
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    grid = np.ones((rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, 3))
    for index, each in enumerate(pixels):
        y = GAP + index // columns * (height + GAP)
        x = GAP + index % columns * (width + GAP)
        grid[y - 1 : y + height + 1, x - 1 : x + width + 1] = 0.75  # a thin frame
        grid[y : y + height, x : x + width] = each
    drawn: NDArray[np.uint8] = np.rint(255 * grid).astype(np.uint8)
    return drawn


class FilterImages(Callback):
    """Draws the first 64 filters of the first layer, at each validation of a fit.

    TensorBoard: image `filters`. Silent with other loggers, and where the inputs are no images or
    the first layer does not see whole images or pieces of them.
    """

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, if there is a logger to draw for."""
        writers = tensorboard_writers(trainer) if shows(trainer) else []
        weights = first_filters(pl_module) if writers else None
        if weights is None:
            return
        pixels = filter_grid(weights[:MOST_FILTERS].float().cpu().numpy())
        for writer in writers:
            writer.add_image("filters", pixels, trainer.global_step, dataformats="HWC")


# ---- features


def last_linear(module: nn.Module) -> nn.Linear | None:
    """The layer that makes the outputs, whose inputs are the features; None where it is another."""
    name = next((name for name, _ in reversed(list(weights_of(module)))), None)
    layer = module.get_submodule(name) if name is not None else None
    return layer if isinstance(layer, nn.Linear) else None


class FeatureProjector(Callback):
    """Writes what the last layer reads of the first 500 validation examples, when a fit ends.

    TensorBoard: projector `features`, with the class and the prediction of each example; of an
    image a small picture, of a text its beginning. Features are those of the last validation; of
    more than 100 there are the 100 principal components. Silent with other loggers, and without
    classes or a last linear layer.
    """

    def __init__(self) -> None:
        self._hook: RemovableHandle | None = None
        self._caught: tuple[Tensor, Tensor] | None = None  # features and outputs of a batch
        self._kept: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        self._texts: list[str] = []

    @override
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the validation before; watch the last layer, if there is a logger to write for."""
        self._kept, self._texts = [], []
        head = last_linear(pl_module) if shows(trainer) and tensorboard_writers(trainer) else None
        if head is not None and isinstance(pl_module, OffersClasses) and pl_module.classifies:
            self._hook = head.register_forward_hook(self._catch)

    def _catch(self, _: nn.Module, inputs: tuple[Tensor, ...], outputs: Tensor) -> None:
        if inputs[0].dim() == 2:
            self._caught = inputs[0].detach(), outputs.detach()

    @override
    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Keep the features of the first examples."""
        if self._hook is None:
            return
        if self._caught is not None and len(self._caught[0]) == len(batch[0]):
            features, logits = self._caught
            room = MOST_EXAMPLES - sum(len(kept[0]) for kept in self._kept)
            inputs = batch[0] if batch[0].dim() == 4 else features[:, :0]
            kept = features, logits.argmax(1), batch[1], inputs
            self._texts += (getattr(batch, "text", None) or [])[:room]
            self._kept.append(tuple(each[:room].clone() for each in kept))  # type: ignore[arg-type]
            if room <= len(features):
                self._unhook()
        self._caught = None

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave no hook behind."""
        self._unhook()

    @override
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the projector's files, beside the events."""
        writers = tensorboard_writers(trainer) if trainer.is_global_zero and self._kept else []
        if not writers or not isinstance(pl_module, OffersClasses):
            return
        features, predicted, labels, inputs = (
            torch.cat(each) for each in zip(*self._kept, strict=True)
        )
        self._kept = []
        names = pl_module.class_names()
        sprites = None
        if inputs.dim() == 4 and getattr(pl_module.processor, "image_shape", None) is not None:
            sprites = small_squares(pl_module.processor.decode(inputs))
        columns = [[names[label] for label in labels], [names[found] for found in predicted]]
        if self._texts:
            columns.append([" ".join(text.split())[:TEXT_BEGINNING] for text in self._texts])
        write_points(
            writers,
            "features",
            features,
            trainer.global_step,
            metadata=[list(row) for row in zip(*columns, strict=True)],
            metadata_header=["class", "predicted", "text"][: len(columns)],
            label_img=sprites,
        )

    @override
    def on_exception(self, *_: Any) -> None:
        """Leave no hook behind."""
        self._unhook()

    def _unhook(self) -> None:
        if self._hook is not None:
            self._hook.remove()
        self._hook, self._caught = None, None


def small_squares(images: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Images (H, W, C) of one size as (B, 3, side, side) from 0 to 1, padded with black."""
    stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    colours = stacked.expand(-1, 3, -1, -1) if stacked.shape[1] == 1 else stacked
    height, width = colours.shape[2:]
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    square = F.pad(colours, (left, side - width - left, top, side - height - top))
    if side > SPRITE_SIDE:
        square = F.interpolate(square, (SPRITE_SIDE, SPRITE_SIDE), mode="area")
    return square
