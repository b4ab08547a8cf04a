"""Handwritten digits: MNIST."""

from __future__ import annotations

from typing import Any

from dlarch.data.images import ImageData
from dlarch.registry import register_data


@register_data("mnist")
class MNISTData(ImageData):
    """Handwritten digits, 28 by 28 grey pixels: 60,000 for training, 10,000 for the test.

    There is no official validation split; 5,000 of the training images are carved for it.

    Args:
        source: Hub id, or a folder in the Hub's layout.
        options: those of `dlarch.data.images.ImageData`: batches, augmentation, splits.
    """

    image_shape = (1, 28, 28)

    def __init__(self, source: str = "ylecun/mnist", **options: Any) -> None:
        super().__init__(source, **options)
