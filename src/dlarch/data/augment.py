"""Random changes of images, on whole batches, on the device where the batch lies.

Each image of a batch gets its own draw. The draws come from torch's global generator of the device,
whose state is part of a checkpoint, so that a resumed run sees the same images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from dlarch.errors import OptionError


@dataclass(frozen=True)
class Augmentation:
    """What is done to training images; nothing by default.

    Attributes:
        crop: pixels of black border, out of which a part of the image's size is cut at random.
        flip: mirror half of the images, left to right.
        cutout: side in pixels of a black square at a random place (1708.04552).
        rotate: largest angle, in degrees, either way.
        scale: largest change of size, either way; 0.1 gives 0.9 to 1.1 times.
        shift: largest shift, either way, as a share of the side.
    """

    crop: int = 0
    flip: bool = False
    cutout: int = 0
    rotate: float = 0.0
    scale: float = 0.0
    shift: float = 0.0

    def __post_init__(self) -> None:
        for name in ("crop", "cutout", "rotate", "scale", "shift"):
            if getattr(self, name) < 0:
                raise OptionError(f"{name} must not be negative, but is {getattr(self, name)}.")
        if self.scale >= 1:
            raise OptionError(f"scale must be below 1, but is {self.scale}.")

    def __call__(self, pixels: Tensor) -> Tensor:
        """Change images (B, H, W, C); uint8, or float32 on the scale 0 to 255 after an affine map.

        Black, 0, comes in from outside. The input is left as it is.
        """
        if self.rotate or self.scale or self.shift:
            pixels = affine(pixels, self.rotate, self.scale, self.shift)
        if self.crop or self.flip:
            pixels = crop_and_flip(pixels, self.crop, self.flip)
        if self.cutout:
            pixels = cut_out(pixels, self.cutout)
        return pixels


def crop_and_flip(pixels: Tensor, border: int, flip: bool) -> Tensor:
    """Cut the image's size out of the image with a black border; mirror half of them.

    Args:
        pixels: (B, H, W, C), of any type.
        border: pixels on each side.
        flip: whether to mirror.
    """
    size, height, width, channels = pixels.shape
    device = pixels.device
    words = pixels.dtype == torch.uint8 and channels == 4  # a pixel moves as one number
    pixels = pixels.view(torch.int32) if words else pixels
    padded = F.pad(pixels, (0, 0, border, border, border, border))

    def along(length: int) -> Tensor:
        places = torch.arange(length, dtype=torch.int32, device=device).expand(size, -1)
        begin = torch.randint(2 * border + 1, (size, 1), dtype=torch.int32, device=device)
        return places + begin if border else places

    rows, columns = along(height), along(width)
    if flip:
        mirrored = torch.rand(size, 1, device=device) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    first = torch.arange(size, dtype=torch.int32, device=device)[:, None] * padded.shape[1]
    at = ((first + rows) * padded.shape[2])[:, :, None] + columns[:, None, :]
    # One number per pixel is picked from a flat tensor, which is several times faster.
    source = padded.flatten() if padded.shape[3] == 1 else padded.flatten(0, 2)
    picked = source.index_select(0, at.flatten()).view(size, height, width, -1)
    return picked.view(torch.uint8) if words else picked


def affine(pixels: Tensor, rotate: float, scale: float, shift: float) -> Tensor:
    """Turn, scale and shift about the middle, between pixels by bilinear interpolation.

    Args:
        pixels: (B, H, W, C).
        rotate: largest angle in degrees.
        scale: largest relative change of size.
        shift: largest shift as a share of the side.

    Returns:
        float32 (B, H, W, C).
    """
    size, height, width, _ = pixels.shape
    draws = torch.rand(4, size, device=pixels.device) * 2 - 1
    angle = draws[0] * math.radians(rotate)
    grow = 1 / (1 + draws[1] * scale)  # the map goes from where a pixel is to where it came from
    ratio = height / width  # a turn in pixels, though the grid measures both sides as 2
    theta = torch.stack(
        (
            grow * angle.cos(), -grow * angle.sin() * ratio, draws[2] * 2 * shift,
            grow * angle.sin() / ratio, grow * angle.cos(), draws[3] * 2 * shift,
        ),
        dim=1,
    ).view(size, 2, 3)  # fmt: skip
    images = pixels.permute(0, 3, 1, 2).float()
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False).permute(0, 2, 3, 1)


def cut_out(pixels: Tensor, side: int) -> Tensor:
    """Blacken a square whose middle lies anywhere in the image; parts of it may lie outside."""
    size, height, width, _ = pixels.shape

    def within(length: int) -> Tensor:
        middle = torch.randint(length, (size, 1), device=pixels.device)
        distance = torch.arange(length, device=pixels.device) - (middle - side // 2)
        return (distance >= 0) & (distance < side)

    hidden = within(height)[:, :, None] & within(width)[:, None, :]
    return pixels * ~hidden[..., None]
