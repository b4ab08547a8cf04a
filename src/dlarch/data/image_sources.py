"""Labelled images by split, whatever they come from: the Hub, a folder, scikit-learn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dlarch.data.hub_rows import hub_classes, hub_records, hub_splits
from dlarch.data.resolve import (
    HubId,
    LocalFile,
    LocalFolder,
    Resolved,
    content_hash,
    resolve_source,
)
from dlarch.data.splits import split_folders
from dlarch.errors import DataError, did_you_mean
from dlarch.processing.image import RawImage

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
"""Endings of the files that are taken for images."""

LabelledImage = tuple[RawImage, int]

UNLABELLED = -1
"""What data sets of the Hub give for a label that is not known."""


class ImageSource(ABC):
    """Images that can be read as often as needed.

    Attributes:
        content: what the images depend on, in JSON types.
    """

    content: dict[str, Any]

    @property
    @abstractmethod
    def class_names(self) -> list[str]:
        """Names in the order of the labels."""

    @property
    @abstractmethod
    def splits(self) -> list[str]:
        """Which of "train", "validation" and "test" there are; "train" is among them."""

    @abstractmethod
    def read(self, split: str) -> Iterator[LabelledImage]:
        """The images of a split with their labels, in their order."""

    def known(self, split: str) -> dict[str, NDArray[Any]]:  # noqa: ARG002
        """What else is known of the images of a split: fields of `ImageBatch`, a row for each."""
        return {}


class HubImages(ImageSource):
    """A data set in the Hub's layout with a column of images and one of classes."""

    def __init__(self, where: Resolved, image_column: str | None, label_column: str | None) -> None:
        if isinstance(where, LocalFile):
            raise DataError(f"{where.path} is a file; give the folder that holds the data set.")
        self.where: LocalFolder | HubId = where
        self._names = hub_splits(where)
        if "train" not in self._names:
            raise DataError(f"{where} has no split train, only {', '.join(self._names)}.")
        classes = hub_classes(where, image_column, label_column)
        self._columns, self._classes = classes.columns, classes.names
        self.content = {"hash": content_hash(where), "columns": list(self._columns)}

    @property
    def class_names(self) -> list[str]:
        """Names in the order of the labels."""
        return self._classes

    @property
    def splits(self) -> list[str]:
        """The official splits."""
        return list(self._names)

    def read(self, split: str) -> Iterator[LabelledImage]:
        """The images of a split with their labels."""
        image, label = self._columns
        records = hub_records(self.where, self._names[split], encoded=image)
        for row, record in enumerate(records, start=1):
            number, where = record[label], f"{self.where}, row {row} of split {split}"
            if not isinstance(number, int) or number == UNLABELLED:
                raise DataError(f"{where} has no label: name a label_column without gaps.")
            if not 0 <= number < len(self._classes):
                raise DataError(
                    f"{where} has the label {number}, but there are {len(self._classes)} classes, "
                    f"whose labels are 0 to {len(self._classes) - 1}: correct it."
                )
            yield opened(record[image], where), number


class PooledImages(ImageSource):
    """The images of all splits of a source, one split after the other, as one."""

    def __init__(self, source: ImageSource) -> None:
        self.source = source
        self.content = {**source.content, "pooled": True}

    @property
    def class_names(self) -> list[str]:
        """Those of the source."""
        return self.source.class_names

    @property
    def splits(self) -> list[str]:
        """Train alone."""
        return ["train"]

    def read(self, split: str) -> Iterator[LabelledImage]:  # noqa: ARG002
        """All images with their labels."""
        return chain.from_iterable(map(self.source.read, self.source.splits))

    def known(self, split: str) -> dict[str, NDArray[Any]]:  # noqa: ARG002
        """What else is known of all images."""
        parts = [self.source.known(split) for split in self.source.splits]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def opened(stored: dict[str, Any] | None, where: str) -> Image.Image:
    """An image from the bytes of its file, or its path, as `datasets` stores it.

    Raises:
        DataError: there is none, or it cannot be read; the message begins with `where`.
    """
    content, path = (stored or {}).get("bytes"), (stored or {}).get("path")
    if content is None and path is None:
        raise DataError(f"{where} has no image: remove the row.")
    try:
        with Image.open(str(path) if content is None else BytesIO(content)) as picture:
            picture.load()
            return picture
    except Exception as error:  # whatever Pillow makes of damaged files
        raise DataError(
            f"{where}: the image cannot be read, it may be damaged ({type(error).__name__}): "
            "replace it or remove the row."
        ) from error


class FolderImages(ImageSource):
    """A folder with a folder of images per class, directly or within folders for the splits."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._roots = split_folders(folder)
        self._classes = _subfolders(self._roots["train"])
        if len(self._classes) < 2:
            raise DataError(
                f"{self._roots['train']} needs at least two folders, one per class, with images."
            )
        for root in self._roots.values():
            if not _subfolders(root):
                raise DataError(f"{root} holds no class folders: add them, or remove it.")
            for name in _subfolders(root):
                if name not in self._classes:
                    raise DataError(
                        f"{root / name}: there is no such class in train: rename the folder, or "
                        f"remove it.{did_you_mean(name, self._classes)}"
                    )
                if not any(image_files(root / name)):
                    raise DataError(
                        f"The class folder {root / name} holds no images "
                        f"({', '.join(IMAGE_SUFFIXES)}): add some, or remove the folder."
                    )
        self.content = {"hash": content_hash(LocalFolder(folder))}

    @property
    def class_names(self) -> list[str]:
        """Names of the class folders of the training images, sorted."""
        return self._classes

    @property
    def splits(self) -> list[str]:
        """The splits that have a folder."""
        return list(self._roots)

    def read(self, split: str) -> Iterator[LabelledImage]:
        """The files of a split, sorted, class after class."""
        yield from self._files(split)

    def _files(self, split: str) -> Iterator[LabelledImage]:
        for label, name in enumerate(self._classes):
            for path in sorted(image_files(self._roots[split] / name)):
                yield path, label


def image_files(folder: Path) -> Iterator[Path]:
    """The images in a folder and those below it."""
    for path in folder.rglob("*"):
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
            yield path


def _subfolders(folder: Path) -> list[str]:
    return sorted(
        path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )


class Digits(ImageSource):
    """scikit-learn's 1,797 handwritten digits of 8 by 8 pixels, which need no download."""

    def __init__(self) -> None:
        self.content = {"sklearn": "digits"}

    @property
    def class_names(self) -> list[str]:
        """0 to 9."""
        return [str(digit) for digit in range(10)]

    @property
    def splits(self) -> list[str]:
        """There is no official test split."""
        return ["train"]

    def read(self, split: str) -> Iterator[LabelledImage]:  # noqa: ARG002
        """All digits; their 17 shades, 0 to 16, become 0 to 255."""
        from sklearn.datasets import load_digits

        found = load_digits()
        pixels = np.rint(found.images * (255 / 16)).astype(np.uint8)
        yield from zip(pixels, found.target.tolist(), strict=True)


def open_images(
    source: str, image_column: str | None = None, label_column: str | None = None
) -> ImageSource:
    """The images of a path or Hub id.

    Raises:
        DataError: it cannot be found or read, or holds no labelled images.
    """
    where = resolve_source(source)
    if isinstance(where, LocalFolder) and not _in_hub_layout(where.path):
        return FolderImages(where.path)
    return HubImages(where, image_column, label_column)


def _in_hub_layout(folder: Path) -> bool:
    return next(folder.rglob("*.parquet"), None) is not None
