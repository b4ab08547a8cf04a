"""Networks of images that mirror each other: convolutions that halve, and dense layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from dlarch.errors import OptionError
from dlarch.nn import Activation, dense_stack, make_activation, units_before

Shape = tuple[int, int, int]

KERNEL, STRIDE, PADDING = 4, 2, 1
"""Of a convolution that halves: 4 is a multiple of 2, so that all pixels are seen equally often."""


class ImageEncoder(nn.Module):
    """Features of images: (B, C, H, W) to (B, F).

    Convolutions of 4 x 4 halve the image, one for each width; dense layers read what is left.

    Args:
        image_shape: (C, H, W).
        widths: maps of the convolutions; none at all reads the pixels as they are.
        hidden_sizes: units of the dense layers.
        activation: after each layer.
        num_classes: K, of classes that the dense layers are told; 0 if none.
    """

    def __init__(
        self,
        image_shape: Shape,
        widths: Sequence[int],
        hidden_sizes: Sequence[int],
        activation: Activation,
        num_classes: int = 0,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.convolutions = nn.Sequential()
        for channels, maps in pairwise((image_shape[0], *widths)):
            active = make_activation(activation)
            maps *= units_before(active)
            self.convolutions.append(nn.Conv2d(channels, maps, KERNEL, STRIDE, PADDING))
            self.convolutions.append(active)
        inputs = math.prod(halved(image_shape, widths)[-1]) + num_classes
        self.dense = dense_stack([inputs, *hidden_sizes], activation, ends_active=True)
        self.out_features = hidden_sizes[-1] if hidden_sizes else inputs

    def forward(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        """Features (B, F) of images (B, C, H, W), of classes (B,) if there are any."""
        maps = self.convolutions(image).flatten(1)
        features: Tensor = self.dense(with_classes(maps, label, self.num_classes))
        return features


class ImageDecoder(nn.Module):
    """Images from codes: (B, D) to (B, C, H, W), by the layers of `ImageEncoder` backwards.

    Args:
        image_shape: (C, H, W).
        widths: of the encoder.
        hidden_sizes: of the encoder.
        activation: after each layer but the last.
        code_size: D.
        num_classes: K, of classes that the first layer is told; 0 if none.
    """

    def __init__(
        self,
        image_shape: Shape,
        widths: Sequence[int],
        hidden_sizes: Sequence[int],
        activation: Activation,
        code_size: int,
        num_classes: int = 0,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        *larger, smallest = halved(image_shape, widths)
        sizes = [code_size + num_classes, *reversed(hidden_sizes), math.prod(smallest)]
        self.dense = dense_stack(sizes, activation, ends_active=bool(widths))
        self.unflatten = nn.Unflatten(1, smallest)
        self.convolutions = nn.Sequential()
        channels = smallest[0]
        for place, (maps, height, width) in reversed(list(enumerate(larger))):
            active = make_activation(activation)
            maps *= units_before(active) if place else 1
            odd = (height % STRIDE, width % STRIDE)  # the row and column that halving has lost
            layer = nn.ConvTranspose2d(channels, maps, KERNEL, STRIDE, PADDING, odd)
            self.convolutions.append(layer)
            if place:
                self.convolutions.append(active)
            channels = larger[place][0]
        nn.init.zeros_(self.bias)

    @property
    def bias(self) -> nn.Parameter:
        """Of the last layer: of each number (C H W), or of each channel (C,) of a convolution."""
        last = self.convolutions[-1] if len(self.convolutions) else self.dense[-1]
        bias: nn.Parameter = last.bias  # type: ignore[assignment]
        return bias

    def forward(self, code: Tensor, label: Tensor | None = None) -> Tensor:
        """Images (B, C, H, W) of codes (B, D), of classes (B,) if there are any."""
        maps = self.unflatten(self.dense(with_classes(code, label, self.num_classes)))
        image: Tensor = self.convolutions(maps)
        return image


def halved(image_shape: Shape, widths: Sequence[int]) -> list[Shape]:
    """The shapes of an image and of its maps, after each convolution.

    Raises:
        OptionError: it is too small to be halved so often.
    """
    _, height, width = image_shape
    if min(height, width) < 2 ** len(widths):
        raise OptionError(
            f"Images of {height} x {width} are too small for {len(widths)} convolutions, each of "
            "which halves them: give fewer --model.widths."
        )
    shapes = [(image_shape[0], height, width)]
    for maps in widths:
        height, width = height // STRIDE, width // STRIDE
        shapes.append((maps, height, width))
    return shapes


def with_classes(features: Tensor, label: Tensor | None, num_classes: int) -> Tensor:
    """Features (B, F) and, behind them, a 1 in the place of the class, (B, F + K)."""
    if not num_classes:
        return features
    assert label is not None
    return torch.cat((features, F.one_hot(label, num_classes).to(features.dtype)), 1)
