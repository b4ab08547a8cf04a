"""Small photographs: CIFAR-10."""

from __future__ import annotations

from typing import Any

from dlarch.data.images import ImageData
from dlarch.registry import register_data


@register_data("cifar10")
class CIFAR10Data(ImageData):
    """Photographs of ten kinds of things, 32 by 32 colour pixels: 50,000 and 10,000.

    There is no official validation split; 5,000 of the training images are carved for it.

    Args:
        source: Hub id, or a folder in the Hub's layout.
        options: those of `dlarch.data.images.ImageData`: batches, augmentation, splits.
    """

    image_shape = (3, 32, 32)

    def __init__(self, source: str = "uoft-cs/cifar10", **options: Any) -> None:
        super().__init__(source, **options)
