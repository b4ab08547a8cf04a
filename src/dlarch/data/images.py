"""What data modules of labelled images share: the cache of pixels, batches, augmentation."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dlarch.batches import ImageBatch
from dlarch.data.augment import Augmentation
from dlarch.data.base import CachedData
from dlarch.data.binarize import Targets, binarized
from dlarch.data.cache import FINGERPRINT, cache_key, cached
from dlarch.data.classes import check_classes, chosen_classes
from dlarch.data.image_sources import ImageSource, LabelledImage, PooledImages, open_images
from dlarch.data.loading import bucketed_plan, evaluation_plan
from dlarch.data.pixels import PixelDataset, as_stored, known_file, labels_file, pixels_file
from dlarch.data.splits import SPLITS, Rows, carved, picked
from dlarch.errors import DataError, MismatchError, OptionError, check_at_least_1
from dlarch.processing import ImageProcessor, Processor
from dlarch.processing.image import Pixels, pixel_shape, read_pixels
from dlarch.spec import DataSpec

LAYOUT = 2
"""Version of the cache's files."""

CHUNK = 1000
"""Images that are worked on at a time."""

MOST_CARVED = 5000
"""Images that are carved for validation, or a tenth of the split if that is less."""


class ImageData(CachedData):
    """Labelled images of one size, decoded once into uint8 pixels that are memory-mapped.

    Official splits stay as they are; those that are missing are carved from train, at random but
    always alike. Batches are gathered by index arithmetic; normalisation and augmentation run on
    the whole batch, on the device. Without a Trainer, the loaders do both themselves.

    Args:
        source: where the images come from.
        classes: names of the classes that are kept, such as [cat, dog], the others being left out;
            or new classes with those that each is made of, such as {pet: [cat, dog], wild: [deer]}.
            All as they are when not given.
        crop: pixels of black border out of which training images are cut at random.
        flip: mirror half of the training images, left to right.
        cutout: side in pixels of a black square in training images.
        rotate: largest angle of training images in degrees.
        scale: largest change of their size; 0.1 gives 0.9 to 1.1 times.
        shift: largest shift as a share of the side.
        targets: "grey": pixels as they are, normalised to mean 0 and deviation 1; "threshold": 1
            where a pixel is at least half white, else 0; "dynamic": 1 with its brightness as
            probability, drawn anew each time in training, and once in validation and test.
        batch_size: images per batch and process.
        train_size: number of training images, picked at random but always alike; all when not
            given.
        validation_size: images carved from train where there is no official validation split,
            before classes are left out; a tenth, at most 5,000, when not given. With 0 all images
            are trained on, and validation scores as many of them.
        pooled: train on the images of all splits and test on all of them, as is usual where
            nobody looks at labels.
        on_device: keep all pixels on the device.
        num_workers: processes that make batches.
        pin_memory: page-locked batches; when not given, if there is a CUDA device.
        processor: of a trained model, to read new images as it did its own.
    """

    batch_type = ImageBatch
    processor: ImageProcessor | None

    image_shape: ClassVar[tuple[int, int, int] | None] = None
    """(C, H, W) of the images where it is known beforehand; else the first image decides."""

    def __init__(
        self,
        source: str,
        classes: list[str | int] | dict[str, list[str | int]] | None = None,
        crop: int = 0,
        flip: bool = False,
        cutout: int = 0,
        rotate: float = 0.0,
        scale: float = 0.0,
        shift: float = 0.0,
        targets: Targets = "grey",
        batch_size: int = 128,
        train_size: int | None = None,
        validation_size: int | None = None,
        pooled: bool = False,
        on_device: bool = False,
        num_workers: int = 0,
        pin_memory: bool | None = None,
        processor: Processor | None = None,
    ) -> None:
        super().__init__(num_workers, pin_memory, processor)
        check_at_least_1(batch_size=batch_size, train_size=train_size)
        if validation_size is not None and validation_size < 0:
            raise OptionError(f"validation_size must not be negative, but is {validation_size}.")
        self.source = source
        self.classes = classes
        self.augmentation = Augmentation(crop, flip, cutout, rotate, scale, shift)
        if targets not in get_args(Targets):
            raise OptionError(f"targets must be grey, threshold or dynamic, not {targets}.")
        self.targets = targets
        self.batch_size = batch_size
        self.train_size = train_size
        self.validation_size = validation_size
        self.pooled = pooled
        self.on_device = on_device
        self._datasets: dict[str, PixelDataset] = {}
        self._on_device: dict[str, Tensor] = {}

    def open_source(self) -> ImageSource:
        """The images as they are before the cache: of a folder or Hub id."""
        return open_images(self.source)

    def shape_of(self, source: ImageSource) -> tuple[int, int, int]:
        """(C, H, W) that all images are brought to."""
        if self.image_shape is not None:
            return self.image_shape
        return pixel_shape(next(iter(source.read("train")))[0])

    @property
    def has_shape(self) -> bool:
        """Whether the shape is that of the data, not whatever a model reads."""
        return self.image_shape is not None

    # ---- making and opening the cache

    def setup(self, stage: str | None = None) -> None:  # noqa: ARG002
        """Open the cache."""
        folder = self._cache_folder()
        stored = ImageProcessor.load(folder)
        names, labels = stored.class_names, None
        if self.classes is not None:
            names, labels = chosen_classes(self.classes, names)
        given = self._given_processor()
        if given is not None:
            _check_given(given, names)
        else:
            check_classes(
                _labels_by_split(folder, labels),
                names,
                "images",
                "leave them out with --data.classes",
            )
        self._datasets = self._divided(folder, stored.image_shape, labels)
        if given is None:
            if self._own is None:
                self._own = self._measured(stored.image_shape, names)
            self.processor = self._own
        channels, height, width = stored.image_shape
        train = self._datasets["train"]
        content = (folder / FINGERPRINT).read_text(encoding="utf-8")
        content += "" if labels is None else f"{labels.tolist()}"
        self.spec = DataSpec(
            image_shape=(channels, height, width),
            in_features=channels * height * width,
            num_classes=len(names),
            fingerprint=hashlib.sha256(content.encode() + train.rows.tobytes()).hexdigest(),
        )

    def _cached(self) -> Path:
        source = self.open_source()
        if self.pooled:
            source = PooledImages(source)
        shape = self.shape_of(source)
        if isinstance(self.processor, ImageProcessor) and shape != self.processor.image_shape:
            if self.has_shape:
                raise MismatchError(
                    f"The model reads images of {_called(self.processor.image_shape)}, the data "
                    f"have {_called(shape)}: leave out size, or use data of that kind."
                )
            shape = self.processor.image_shape
        settings = {"layout": LAYOUT, "content": source.content, "shape": list(shape)}
        build = partial(_decode, source=source, shape=shape)
        return cached("images", cache_key(settings), build)

    def _divided(
        self, folder: Path, shape: tuple[int, int, int], labels: NDArray[np.int64] | None
    ) -> dict[str, PixelDataset]:
        """The three splits, as positions in those that are stored."""
        stored = {
            split: PixelDataset(folder, split, shape, new_labels=labels)
            for split in SPLITS
            if labels_file(folder, split).exists()
        }
        count = len(stored["train"])
        test = 0 if "test" in stored or self.pooled else count // 10
        asked = self.validation_size
        usual = min(MOST_CARVED, count // 10) if asked in (None, 0) else asked
        assert usual is not None
        validation = 0 if "validation" in stored else usual
        if count - validation - test < 1:
            raise OptionError(
                f"There are {count} training images, of which {validation + test} would be carved "
                "for validation and test: give a smaller validation_size."
            )
        rows = carved(count, validation, test)
        if asked == 0 and "validation" not in stored:
            rows["train"] = np.union1d(rows["train"], rows["validation"])
        parts = {split: stored["train"].but(rows=rows[split]) for split in SPLITS}
        parts |= {split: stored[split] for split in stored if split != "train"}
        if self.pooled:
            parts["test"] = stored["train"]
        if labels is not None:
            # After carving: what validates here trains no model of other classes.
            parts = {split: part.of_known_classes() for split, part in parts.items()}
            for split, part in parts.items():
                if not len(part):
                    raise DataError(f"There are no images of these classes in split {split}.")
        train = parts["train"]
        return parts | {"train": train.but(rows=picked(train.rows, self.train_size))}

    def _measured(
        self, image_shape: tuple[int, int, int], class_names: Sequence[str]
    ) -> ImageProcessor:
        """The processor with mean and deviation of the training images; 0 and 1 of binary ones."""
        if self.targets != "grey":
            channels = image_shape[0]
            return ImageProcessor(image_shape, [0.0] * channels, [1.0] * channels, class_names)
        train = self._datasets["train"]
        count = 0
        total = squares = np.zeros(image_shape[0])
        for start in range(0, len(train), CHUNK):
            stored_pixels = train.pixels[train.rows[start : start + CHUNK]]
            chunk = stored_pixels[..., : len(total)].astype(np.float64) / 255
            count += chunk[..., 0].size
            total = total + chunk.sum((0, 1, 2))
            squares = squares + np.square(chunk).sum((0, 1, 2))
        mean = total / count
        std = np.sqrt(np.maximum(squares / count - mean**2, 0))
        std = np.where(std > 0, std, 1.0)  # images of one colour
        return ImageProcessor(image_shape, mean.tolist(), std.tolist(), class_names)

    # ---- batches

    def dataset(self, split: str) -> PixelDataset:
        """The images of a split; finished images without a Trainer, else raw pixels."""
        raw = self._datasets[split]
        assert self.processor is not None
        if self.trainer is not None:
            return raw.but(by_position=True) if self.on_device else raw
        augmentation = self.augmentation if split == "train" else None
        return raw.but(finish=self._finish(augmentation))

    def finished(self, split: str) -> PixelDataset:
        """The images of a split, normalised and not augmented."""
        assert self.processor is not None
        return self._datasets[split].but(finish=self._finish(None))

    def _finish(self, augmentation: Augmentation | None) -> Callable[[ImageBatch], ImageBatch]:
        assert self.processor is not None
        return partial(_finished, self.processor, augmentation, self.targets)

    def training_plan(self, seed: int, epoch: int) -> list[Rows]:
        """Batches in random order."""
        return bucketed_plan(
            np.ones(len(self._datasets["train"]), np.int8),
            seed=seed,
            epoch=epoch,
            batch_size=self.batch_size,
            world_size=self.world_size,
            rank=self.rank,
            join_single=True,
        )

    def evaluation_plan(self, split: str) -> list[Rows]:
        """Batches in the order of the split."""
        return evaluation_plan(
            np.ones(len(self._datasets[split]), np.int8),
            batch_size=self.batch_size,
            world_size=self.world_size,
            rank=self.rank,
        )

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:  # noqa: ARG002
        """Augment training images, normalise all; on the device."""
        if self.trainer is None or not isinstance(batch, ImageBatch):
            return batch
        assert self.processor is not None
        training = self.trainer.training
        if self.on_device:
            split = "train" if training else "validation"
            if self.trainer.testing or self.trainer.predicting:
                split = self.test_split
            batch = self._gathered(batch, split)
        return self._finish(self.augmentation if training else None)(batch)

    def _gathered(self, batch: ImageBatch, split: str) -> ImageBatch:
        """A batch of positions with the pixels that lie on the device."""
        if split not in self._on_device:
            raw = self._datasets[split]
            self._on_device[split] = torch.from_numpy(raw.pixels[raw.rows]).to(batch.image.device)
        return batch._replace(image=self._on_device[split][batch.image])

    def teardown(self, stage: str) -> None:
        """Forget where a fit stood, and free the device."""
        super().teardown(stage)
        self._on_device = {}


def _finished(
    processor: ImageProcessor,
    augmentation: Augmentation | None,
    targets: Targets,
    batch: ImageBatch,
) -> ImageBatch:
    """A batch of stored pixels as normalised images (B, C, H, W); augmented ones are drawn anew."""
    pixels = batch.image if augmentation is None else augmentation(batch.image)
    colours = pixels[..., : processor.image_shape[0]]
    colours = binarized(colours, targets, batch.example if augmentation is None else None)
    return batch._replace(image=processor.normalize(colours))


def _decode(folder: Path, source: ImageSource, shape: tuple[int, int, int]) -> None:
    """Fill a folder of the cache."""
    digest = hashlib.sha256()
    unread: list[DataError] = []
    for split in source.splits:
        labels = array("q")
        images = source.read(split)
        with pixels_file(folder, split).open("wb") as file:
            while chunk := list(islice(images, CHUNK)):
                read = _read(chunk, shape, unread)
                if unread:
                    continue  # all that cannot be read shall be named
                pixels = np.stack(read)
                file.write(as_stored(pixels).tobytes())
                labels.extend(label for _, label in chunk)
                if split == "train":
                    digest.update(pixels.tobytes())
        _refuse(unread)
        if not labels:
            raise DataError(f"There are no images in split {split}.")
        if split == "train":
            digest.update(labels.tobytes())
        np.save(labels_file(folder, split), np.frombuffer(labels, dtype=np.int64))
        for name, values in source.known(split).items():
            np.save(known_file(folder, split, name), values)
    channels = shape[0]
    ImageProcessor(shape, [0.0] * channels, [1.0] * channels, source.class_names).save(folder)
    (folder / FINGERPRINT).write_text(digest.hexdigest(), encoding="utf-8")


def _read(
    chunk: Sequence[LabelledImage], shape: tuple[int, int, int], unread: list[DataError]
) -> list[Pixels]:
    """The pixels of images; to `unread` is added why others cannot be read."""
    pixels: list[Pixels] = []
    for image, _ in chunk:
        try:
            pixels.append(read_pixels(image, shape))
        except DataError as error:
            unread.append(error)
    return pixels


def _refuse(unread: list[DataError]) -> None:
    """Raise if there is anything that cannot be read; up to ten images are named."""
    if not unread:
        return
    more = f" {len(unread) - 10} more cannot be read." if len(unread) > 10 else ""
    raise DataError(" ".join(str(error) for error in unread[:10]) + more) from unread[0]


def _labels_by_split(
    folder: Path, new_labels: NDArray[np.int64] | None
) -> dict[str, NDArray[np.int64]]:
    """The labels of each split, as new ones call them."""
    paths = {split: labels_file(folder, split) for split in SPLITS}
    labels = {split: np.load(path) for split, path in paths.items() if path.exists()}
    if new_labels is None:
        return labels
    return {split: new_labels[stored] for split, stored in labels.items()}


def _check_given(given: Any, class_names: Sequence[str]) -> None:
    """Compare a model's processor with the data.

    Raises:
        MismatchError: it is of another kind, or for other classes.
    """
    if not isinstance(given, ImageProcessor):
        raise MismatchError(f"The model's processor is for {given.type} data, not for images.")
    if given.class_names != class_names:
        raise MismatchError(
            f"The model knows the classes {', '.join(given.class_names)}, the data have "
            f"{', '.join(class_names)}."
        )


def _called(shape: tuple[int, int, int]) -> str:
    channels, height, width = shape
    return f"{height} x {width} pixels in {channels} colour{'s' if channels > 1 else ''}"
