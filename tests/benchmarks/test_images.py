"""Images per second against torchvision's data sets, transforms per image and DataLoader.

Run on one thread, on an idle machine: `OMP_NUM_THREADS=1 pytest tests/benchmarks -m benchmark -s`.
"""

from __future__ import annotations

import time
from statistics import median

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from dlarch.data.augment import Augmentation
from dlarch.data.images import _finished
from dlarch.data.loading import BatchLoader, bucketed_plan
from dlarch.data.pixels import PixelDataset, as_stored, labels_file, pixels_file
from dlarch.processing import ImageProcessor

pytestmark = pytest.mark.benchmark

BATCH = 128
COUNT = 50 * BATCH

CASES = {
    "MNIST, normalise": ((1, 28, 28), Augmentation(), [], 12),
    "CIFAR-10, normalise": ((3, 32, 32), Augmentation(), [], 12),
    "CIFAR-10, crop and flip": (
        (3, 32, 32),
        Augmentation(crop=4, flip=True),
        [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()],
        15,
    ),
    "MNIST, affine": (
        (1, 28, 28),
        Augmentation(rotate=10, scale=0.1, shift=0.1),
        [
            transforms.RandomAffine(
                10, (0.1, 0.1), (0.9, 1.1), interpolation=transforms.InterpolationMode.BILINEAR
            )
        ],
        12,
    ),
}


class Pictures(Dataset):
    """As torchvision's MNIST and CIFAR10: pixels in memory, a picture and transforms for each."""

    def __init__(self, pixels, labels, transform):
        self.pixels, self.labels, self.transform = pixels, labels, transform

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, index):
        return self.transform(Image.fromarray(self.pixels[index])), int(self.labels[index])


def images_per_second(loader) -> float:
    start = time.perf_counter()
    count = sum(len(batch[0]) for batch in loader)
    return count / (time.perf_counter() - start)


@pytest.mark.parametrize("case", CASES)
def test_loading_speed(case, tmp_path):
    shape, augmentation, changes, least = CASES[case]
    channels, height, width = shape
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (COUNT, height, width, channels), np.uint8)
    labels = random.integers(0, 10, COUNT)
    pixels_file(tmp_path, "train").write_bytes(as_stored(pixels).tobytes())
    np.save(labels_file(tmp_path, "train"), labels)
    processor = ImageProcessor(shape, [0.5] * channels, [0.25] * channels, list("0123456789"))

    def finish(batch):
        return _finished(processor, augmentation, batch)

    ours = BatchLoader(
        PixelDataset(tmp_path, "train", shape, finish=finish),
        lambda epoch: bucketed_plan(np.ones(COUNT, np.int8), seed=0, epoch=epoch, batch_size=BATCH),
    )
    normalise = transforms.Normalize([0.5] * channels, [0.25] * channels)
    transform = transforms.Compose([*changes, transforms.ToTensor(), normalise])
    plain = pixels[..., 0] if channels == 1 else pixels
    theirs = DataLoader(Pictures(plain, labels, transform), BATCH, shuffle=True)
    images_per_second(ours)
    ratios = [images_per_second(ours) / images_per_second(theirs) for _ in range(3)]
    print(f"\n{case}: {median(ratios):.1f} times the images per second of torchvision")
    assert median(ratios) >= least
