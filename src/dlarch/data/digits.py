"""Handwritten digits that need no download: scikit-learn's."""

from __future__ import annotations

from typing import Any

from dlarch.data.image_sources import Digits, ImageSource
from dlarch.data.images import ImageData
from dlarch.registry import register_data


@register_data("digits")
class DigitsData(ImageData):
    """scikit-learn's 1,797 handwritten digits of 8 by 8 grey pixels; no download.

    A tenth of them is the validation split, another the test split.

    Args:
        options: those of `dlarch.data.images.ImageData` but `source`.
    """

    image_shape = (1, 8, 8)

    def __init__(self, **options: Any) -> None:
        super().__init__("digits", **options)

    def open_source(self) -> ImageSource:
        """The images that scikit-learn brings."""
        return Digits()
