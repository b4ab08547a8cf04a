"""Pictures of clothes: Fashion-MNIST."""

from __future__ import annotations

from typing import Any

from dlarch.data.images import ImageData
from dlarch.registry import register_data


@register_data("fashion_mnist")
class FashionMNISTData(ImageData):
    """Pictures of clothes in ten classes, in the format of MNIST (1708.07747).

    There is no official validation split; 5,000 of the training images are carved for it.

    Args:
        source: Hub id, or a folder in the Hub's layout.
        options: those of `dlarch.data.images.ImageData`: batches, augmentation, splits.
    """

    image_shape = (1, 28, 28)

    def __init__(self, source: str = "zalando-datasets/fashion_mnist", **options: Any) -> None:
        super().__init__(source, **options)
