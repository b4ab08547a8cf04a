"""Images to normalised tensors and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from dlarch.batches import ImageBatch
from dlarch.errors import DataError
from dlarch.processing.base import FORMAT, Processor, label_of

Pixels = NDArray[np.uint8]
"""(H, W, C), 0 to 255."""

RawImage = str | Path | Image.Image | Pixels
"""A file, a picture of Pillow's, or its pixels, (H, W) or (H, W, C)."""

MODES = {1: "L", 3: "RGB"}
"""Pillow's name for images of so many channels."""


class ImageProcessor(Processor, type="image"):
    """Size, normalisation and class names of a data set of images.

    Args:
        image_shape: (C, H, W).
        mean: of each channel over the training pixels, on the scale 0 to 1.
        std: standard deviation, likewise.
        class_names: in the order of the labels.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        mean: Sequence[float],
        std: Sequence[float],
        class_names: Sequence[str],
    ) -> None:
        channels, height, width = image_shape
        self.image_shape = (channels, height, width)
        self.mean = list(mean)
        self.std = list(std)
        self.class_names = list(class_names)
        self._factors: tuple[Tensor, Tensor] | None = None

    def encode(self, raw: Sequence[RawImage]) -> ImageBatch:
        """Read images, in the size and colours of the training images; labels are unknown (-1).

        Raises:
            DataError: a file is missing or no image.
        """
        if isinstance(raw, str | Path | Image.Image):
            raise DataError("Give a list of images, not one image.")
        pixels = np.stack([read_pixels(image, self.image_shape) for image in raw])
        labels = torch.full((len(pixels),), -1)
        return ImageBatch(self.normalize(torch.from_numpy(pixels)), labels)

    def decode(self, tensor: Tensor) -> list[Pixels]:
        """Pixels of normalised images (B, C, H, W)."""
        mean, std = self._constants(tensor.device)
        pixels = (tensor.float() * std + mean).mul(255).round_().clamp_(0, 255).byte()
        return list(pixels.permute(0, 2, 3, 1).cpu().numpy())

    def label(self, name: str) -> int:
        """The label of a class.

        Raises:
            DataError: there is no such class.
        """
        return label_of(name, self.class_names)

    def normalize(self, pixels: Tensor) -> Tensor:
        """Pixels (B, H, W, C), uint8 or float on the scale 0 to 255, to float (B, C, H, W)."""
        factor, shift = self._factor_and_shift(pixels.device)
        images = torch.empty(
            (len(pixels), *self.image_shape), dtype=torch.float32, device=pixels.device
        )
        images.copy_(pixels.permute(0, 3, 1, 2))
        return images.mul_(factor).sub_(shift)

    def to_unit(self, images: Tensor) -> Tensor:
        """Normalised images (B, C, H, W) on the scale 0 to 1."""
        mean, std = self._constants(images.device)
        return torch.addcmul(mean, images, std).clamp_(0.0, 1.0)

    def from_unit(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) on the scale 0 to 1, normalised: the inverse of `to_unit`."""
        mean, std = self._constants(images.device)
        return (images - mean) / std

    def _factor_and_shift(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """What brings pixels to mean 0 and deviation 1, made once per device."""
        if self._factors is None or self._factors[0].device != device:
            mean, std = self._constants(device)
            self._factors = (1 / (255 * std), mean / std)
        return self._factors

    def _constants(self, device: torch.device) -> tuple[Tensor, Tensor]:
        shape = (-1, 1, 1)
        mean = torch.tensor(self.mean, device=device).view(shape)
        return mean, torch.tensor(self.std, device=device).view(shape)

    def to_dict(self) -> dict[str, Any]:
        """Size, normalisation and class names."""
        return {
            "type": self.type,
            "format": FORMAT,
            "image_shape": list(self.image_shape),
            "mean": self.mean,
            "std": self.std,
            "class_names": self.class_names,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ImageProcessor:
        """Inverse of `to_dict`."""
        return cls(*(values[name] for name in ("image_shape", "mean", "std", "class_names")))


def pixel_shape(image: RawImage) -> tuple[int, int, int]:
    """(C, H, W) of an image: one channel if it is grey, else three."""
    picture = _picture(image)
    grey = picture.mode in ("1", "L", "LA", "I", "I;16", "F")
    return (1 if grey else 3, picture.height, picture.width)


def read_pixels(image: RawImage, image_shape: Sequence[int]) -> Pixels:
    """The pixels of an image: in its middle the largest part of the shape asked for, resized.

    Args:
        image: a file, a picture or pixels.
        image_shape: (C, H, W), C being 1 (grey) or 3 (colours).

    Raises:
        DataError: a file is missing or no image, or there are no such pixels.
    """
    channels, height, width = image_shape
    picture = _eight_bits(_picture(image)).convert(MODES[channels])
    if picture.size != (width, height):
        scale = min(picture.width / width, picture.height / height)
        left = (picture.width - width * scale) / 2
        top = (picture.height - height * scale) / 2
        box = (left, top, left + width * scale, top + height * scale)
        picture = picture.resize((width, height), Image.Resampling.BILINEAR, box=box)
    pixels: Pixels = np.asarray(picture, dtype=np.uint8).reshape(height, width, channels)
    return pixels


def _eight_bits(picture: Image.Image) -> Image.Image:
    """A grey picture of 16 bits in 8, which Pillow would cut off at 255 instead."""
    if not picture.mode.startswith("I"):
        return picture
    values = np.asarray(picture)
    if picture.mode == "I" and values.max() <= 255:
        return picture
    return Image.fromarray(np.clip(np.rint(values / 257), 0, 255).astype(np.uint8))


def _gist(error: BaseException) -> str:
    """What Pillow says, without the name of the file."""
    return str(error).partition(" '")[0].rstrip(".")


def _picture(image: RawImage) -> Image.Image:
    """An image as a picture of Pillow's; raises as `read_pixels` does."""
    if isinstance(image, str | Path):
        try:
            with Image.open(image) as opened:
                opened.load()
                return opened
        except FileNotFoundError as error:
            raise DataError(f"There is no image {str(image)!r}.") from error
        except PermissionError as error:
            raise DataError(f"{image} may not be read: give yourself the right to.") from error
        except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
            raise DataError(
                f"{image} is no image, or damaged ({_gist(error)}): replace or remove it."
            ) from error
        except Image.DecompressionBombError as error:
            raise DataError(f"{image} is too large: {error}.") from error
    if isinstance(image, Image.Image):
        return image
    plane = image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image
    if plane.dtype != np.uint8 or plane.ndim not in (2, 3):
        raise DataError(
            f"Pixels must be uint8, (H, W) or (H, W, C), not {plane.dtype} {plane.shape}."
        )
    return Image.fromarray(plane)
