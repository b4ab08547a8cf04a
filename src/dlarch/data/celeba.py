"""Faces of celebrities: CelebA, as it is on the Hub or as its makers hand it out."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from dlarch.data.hub_rows import hub_features, hub_records, hub_splits
from dlarch.data.image_sources import ImageSource, LabelledImage, image_files, opened
from dlarch.data.images import ImageData
from dlarch.data.resolve import HubId, LocalFile, LocalFolder, content_hash, resolve_source
from dlarch.data.splits import SPLITS
from dlarch.errors import DataError, OptionError, did_you_mean
from dlarch.registry import register_data

IMAGES = "img_align_celeba"
ATTRIBUTES, PARTITION = "list_attr_celeba.txt", "list_eval_partition.txt"
"""What the original folder holds."""


@register_data("celeba")
class CelebAData(ImageData):
    """202,599 faces of celebrities with 40 attributes (Liu et al. 2015), or any folder of images.

    The largest square in the middle of each image is resized once, into the cache. The class is one
    of the attributes, absent or present. The original folder has the official splits; a plain
    folder of images, without classes, is divided.

    Args:
        source: Hub id; the original folder with img_align_celeba/, list_attr_celeba.txt and
            list_eval_partition.txt; or a folder of images, whatever they show.
        attribute: the one that is the class, such as Smiling or Male.
        size: height and width of the images.
        options: those of `dlarch.data.images.ImageData`: batches, augmentation, splits.
    """

    def __init__(
        self,
        source: str = "flwrlabs/celeba",
        attribute: str = "Smiling",
        size: int = 64,
        **options: Any,
    ) -> None:
        super().__init__(source, **options)
        if size < 1:
            raise OptionError(f"size must be at least 1, not {size}.")
        self.image_shape = (3, size, size)  # type: ignore[misc]
        self.attribute = attribute

    def open_source(self) -> ImageSource:
        """The faces, whichever form they have."""
        where = resolve_source(self.source)
        if isinstance(where, LocalFile):
            raise DataError(f"{where.path} is a file; give a folder of images, or a Hub id.")
        if isinstance(where, LocalFolder):
            if (where.path / IMAGES).is_dir():
                return OriginalFaces(where.path, self.attribute)
            if any(image_files(where.path)):
                return PlainImages(where.path)
        return HubFaces(where, self.attribute)


class _Faces(ImageSource):
    """Faces with one attribute as their class."""

    attribute: str

    @property
    def class_names(self) -> list[str]:
        """Without the attribute, and with it."""
        return [f"not {self.attribute}", self.attribute]


class HubFaces(_Faces):
    """A data set in the Hub's layout with a column `image` and a column for each attribute."""

    def __init__(self, where: LocalFolder | HubId, attribute: str) -> None:
        self.where, self.attribute = where, attribute
        self._names = hub_splits(where)
        columns = hub_features(where)
        if "image" not in columns:
            raise DataError(f"{where} has no column image, only {', '.join(columns)}.")
        _check_attribute(attribute, [name for name in columns if name != "image"], str(where))
        self.content = {"hash": content_hash(where), "attribute": attribute}

    @property
    def splits(self) -> list[str]:
        """The official splits."""
        return list(self._names)

    def read(self, split: str) -> Iterator[LabelledImage]:
        """The faces of a split, and whether each has the attribute."""
        for row, record in enumerate(hub_records(self.where, self._names[split], encoded="image")):
            face = opened(record["image"], f"{self.where}, row {row + 1} of split {split}")
            yield face, int(record[self.attribute] in (True, 1))


class OriginalFaces(_Faces):
    """The folder as the makers of CelebA hand it out."""

    def __init__(self, folder: Path, attribute: str) -> None:
        self.folder, self.attribute = folder, attribute
        self._attributes = _read_attributes(folder / ATTRIBUTES, attribute)
        self._partition = _read_partition(folder / PARTITION)
        sizes = {path.name: path.stat().st_size for path in (folder / IMAGES).iterdir()}
        self._compare(sizes.keys())
        digest = hashlib.sha256(repr(sorted(sizes.items())).encode())  # not of 1.4 GB of images
        for name in (ATTRIBUTES, PARTITION):
            digest.update((folder / name).read_bytes())
        self.content = {"attribute": attribute, "hash": digest.hexdigest()}

    def _compare(self, there: Collection[str]) -> None:
        """See that the lists name the same images, and that these are there."""
        for file, named in ((ATTRIBUTES, self._attributes), (PARTITION, self._partition)):
            missing = [name for name in named if name not in there]
            if missing:
                raise DataError(
                    f"{self.folder / file} names {len(missing)} images that are not in {IMAGES}, "
                    f"such as {missing[0]}: unpack the images again, or remove the lines."
                )
        unknown = self._attributes.keys() ^ self._partition.keys()
        if unknown:
            raise DataError(
                f"{self.folder}: {ATTRIBUTES} and {PARTITION} do not name the same images; "
                f"{min(unknown)} is in one of them only. Fetch both again."
            )

    @property
    def splits(self) -> list[str]:
        """Those that the partition names."""
        found = set(self._partition.values())
        return [split for split in SPLITS if split in found]

    def read(self, split: str) -> Iterator[LabelledImage]:
        """The files of a split in the order of the list."""
        for name, of in self._partition.items():
            if of == split:
                yield self.folder / IMAGES / name, self._attributes[name]


class PlainImages(ImageSource):
    """A folder of images without classes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.content = {"hash": content_hash(LocalFolder(folder)), "plain": True}

    @property
    def class_names(self) -> list[str]:
        """One for all."""
        return ["image"]

    @property
    def splits(self) -> list[str]:
        """There are none."""
        return ["train"]

    def read(self, split: str) -> Iterator[LabelledImage]:  # noqa: ARG002
        """The files, sorted."""
        yield from ((path, 0) for path in sorted(image_files(self.folder)))


def _check_attribute(asked: str, there: list[str], where: str) -> None:
    if asked not in there:
        raise DataError(
            f"{where} has no attribute {asked!r}.{did_you_mean(asked, there)} "
            f"Attributes: {', '.join(there)}."
        )


def _read_attributes(path: Path, attribute: str) -> dict[str, int]:
    """Whether each image has the attribute, 0 or 1; the file's second line names all of them."""
    lines = _lines(path)
    names = lines[1].split() if len(lines) > 1 else []
    _check_attribute(attribute, names, str(path))
    column = names.index(attribute) + 1
    found = {}
    for number, line in enumerate(lines[2:], start=3):
        fields = line.split()
        if len(fields) != len(names) + 1 or fields[column] not in ("1", "-1", "0"):
            raise DataError(
                f"{path}, line {number}: {len(fields) - 1} values instead of {len(names)}, each "
                "of them 1 or -1; fetch the file again."
            )
        found[fields[0]] = int(fields[column] == "1")
    return found


def _read_partition(path: Path) -> Mapping[str, str]:
    """Split of each image."""
    found = {}
    for number, line in enumerate(_lines(path), start=1):
        name, _, split = line.partition(" ")
        if split.strip() not in ("0", "1", "2"):
            raise DataError(
                f"{path}, line {number} is not an image and 0, 1 or 2: fetch the file again."
            )
        found[name] = SPLITS[int(split)]
    return found


def _lines(path: Path) -> list[str]:
    """The lines of a list that are not empty."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise DataError(
            f"{path} is missing: the original folder of CelebA holds {IMAGES}, {ATTRIBUTES} and "
            f"{PARTITION}."
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}.") from error
    return [line for line in text.splitlines() if line.strip()]
