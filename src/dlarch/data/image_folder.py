"""Your own images: a folder per class, or a data set of the Hub."""

from __future__ import annotations

from typing import Any

from dlarch.data.image_sources import ImageSource, open_images
from dlarch.data.images import ImageData
from dlarch.errors import check_at_least_1
from dlarch.registry import register_data


@register_data("image_folder")
class ImageFolderData(ImageData):
    """Labelled images of your own: a folder of class folders, or a Hub id.

    A folder has one folder of images per class, `cats/`, `dogs/`, directly or in `train/`,
    `validation/` and `test/`. A data set of the Hub has a column of images and one of class labels.
    Splits that are missing are carved from train. All images get one size: the largest part in the
    middle is resized.

    Args:
        source: path of the folder, or Hub id.
        size: height and width that images are brought to; those of the first one when not given.
        image_column: of a Hub data set; the only one when not given.
        label_column: likewise.
        options: those of `dlarch.data.images.ImageData`: batches, augmentation, splits.
    """

    def __init__(
        self,
        source: str,
        size: int | tuple[int, int] | None = None,
        image_column: str | None = None,
        label_column: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(source, **options)
        self.size = (size, size) if isinstance(size, int) else size
        check_at_least_1(size=None if self.size is None else min(self.size))
        self.columns = (image_column, label_column)

    def open_source(self) -> ImageSource:
        """The images of the folder or Hub id."""
        return open_images(self.source, *self.columns)

    def shape_of(self, source: ImageSource) -> tuple[int, int, int]:
        """The first image's colours, in the size asked for."""
        shape = super().shape_of(source)
        return shape if self.size is None else (shape[0], *self.size)

    @property
    def has_shape(self) -> bool:
        """Images take the size that a model reads, unless one was asked for."""
        return self.size is not None
