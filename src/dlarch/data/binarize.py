"""Grey pixels to black and white ones: what likelihoods of binary images are measured on."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Targets = Literal["grey", "threshold", "dynamic"]
"""Grey as they are; black below the middle and white above; or white with a probability."""

_STEP = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


def binarized(pixels: Tensor, targets: Targets, example: Tensor | None) -> Tensor:
    """Make pixels (B, H, W, C) 0 or 255.

    Args:
        pixels: 0 to 255.
        targets: "threshold": white from 128 on; "dynamic": white with the brightness as
            probability (R. Salakhutdinov and I. Murray 2008); "grey": left as they are.
        example: (B,) position of each image, which then is always drawn alike, in whatever batch;
            None draws anew from the global generator of the device.
    """
    if targets == "grey":
        return pixels
    if targets == "threshold":
        return (pixels >= 127.5) * pixels.new_tensor(255)
    if example is None:
        noise = torch.rand(pixels.shape, device=pixels.device)
    else:
        values = fixed_noise(example.cpu().numpy(), pixels[0].numel())
        noise = torch.from_numpy(values).to(pixels.device).view(pixels.shape)
    return (noise * 255 < pixels) * pixels.new_tensor(255)


def fixed_noise(rows: NDArray[np.int64], count: int) -> NDArray[np.float32]:
    """Uniform numbers from 0 up to 1, (B, count), the same for a row wherever it stands.

    The generator is SplitMix64 (G. Steele et al. 2014), whose n-th number can be had alone.
    """
    places = rows[:, None] * count + np.arange(1, count + 1)
    bits = places.astype(np.uint64)
    bits *= _STEP  # modulo 2 ** 64 is meant
    bits = (bits ^ _shifted(bits, 30)) * _FIRST
    bits = (bits ^ _shifted(bits, 27)) * _SECOND
    bits ^= _shifted(bits, 31)
    return _shifted(bits, 40).astype(np.float32) * np.float32(2**-24)


def _shifted(bits: NDArray[np.uint64], places: int) -> NDArray[np.uint64]:
    return np.right_shift(bits, np.uint64(places))
