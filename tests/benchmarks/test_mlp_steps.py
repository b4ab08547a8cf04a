"""A training step of `dlarch.fit` against a hand-written loop, on MNIST.

Run on one thread: `OMP_NUM_THREADS=1 pytest tests/benchmarks -m benchmark -s`. Times are those of
the CPU: at a millisecond per step, whatever else the machine does would count otherwise.
"""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import ClassVar, TextIO

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812

import dlarch
from dlarch.callbacks.progress import TerminalBar
from dlarch.data.image_sources import ImageSource, open_images
from dlarch.data.images import ImageData
from dlarch.data.mnist import MNISTData
from dlarch.models.feedforward.mlp import MLP
from dlarch.models.vision.cnn import CNN
from dlarch.tasks import Supervised

pytestmark = pytest.mark.benchmark

SEED = 1
MNIST = MNISTData().source
FACTS = {"num_classes": 10}


@dataclass(frozen=True)
class Case:
    """What is trained, on how many images, and how slow it may be."""

    make: Callable[[], Supervised]
    batch_size: int
    images: int
    most: float


def mlp() -> Supervised:
    return MLP(in_features=784, hidden_sizes=(300, 100), optimizer=sgd, **FACTS)


def cnn() -> Supervised:
    sizes = {"widths": (16, 32, 64), "dropout": 0.3}
    return CNN(image_shape=(1, 28, 28), optimizer=adam, **sizes, **FACTS)


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.01)


def adam(parameters):
    return torch.optim.Adam(parameters, lr=1e-3)


CASES = {
    "mlp 784-300-100-10, batch 50, SGD": Case(mlp, 50, 55_000, 1.7),
    "cnn 16-32-64, batch 128, Adam": Case(cnn, 128, 6_400, 1.1),
}
ROUNDS = 5


class NoiseSource(ImageSource):
    """Images of MNIST's number and shape for a machine without it."""

    content: ClassVar = {"noise": SEED}
    class_names: ClassVar = list("0123456789")
    splits: ClassVar = ["train", "test"]

    def read(self, split: str) -> Iterator[tuple[np.ndarray, int]]:
        random = np.random.default_rng(SEED)
        for number in range(60_000 if split == "train" else 10_000):
            yield random.integers(0, 256, (28, 28), np.uint8), number % 10


class Digits(ImageData):
    """MNIST if it is on this machine, else noise."""

    image_shape = (1, 28, 28)

    def open_source(self) -> ImageSource:
        found = (Path(os.environ.get("DLARCH_DATA", "")) / MNIST).is_dir()
        return open_images(MNIST) if found else NoiseSource()


class TimedBar(TerminalBar):
    """The bar as on a terminal; takes the time of an epoch without that of its validation."""

    def __init__(self, file: TextIO) -> None:
        super().__init__()
        self._console_kwargs = {"file": file, "force_terminal": True}
        self.seconds = 0.0

    def on_train_epoch_start(self, *arguments):
        super().on_train_epoch_start(*arguments)
        self.seconds -= time.process_time()

    def on_validation_start(self, trainer, module):
        if not trainer.sanity_checking:
            self.seconds += time.process_time()
        super().on_validation_start(trainer, module)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch, tmp_path):
    monkeypatch.setenv("DLARCH_RUNS", str(tmp_path))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def fitted(model: Supervised, data: ImageData) -> float:
    """Seconds of an epoch as `dlarch fit` trains it: TensorBoard, checkpoints, bar, accuracy."""
    torch.manual_seed(SEED)
    with Path(os.devnull).open("w") as nowhere:
        bar = TimedBar(nowhere)
        dlarch.fit(
            model,
            data,
            name="benchmark",
            test_after_fit=False,
            max_epochs=1,
            accelerator="cpu",
            callbacks=[bar],
        )
    return bar.seconds


def by_hand(model: Supervised, images: torch.Tensor, labels: torch.Tensor, plan) -> float:
    """Seconds of the same epoch in a loop that trains and does nothing else."""
    optimizer = model.make_optimizer(model.parameters())
    torch.manual_seed(SEED)
    model.train()
    start = time.process_time()
    for rows in plan:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images[rows]), labels[rows])
        loss.backward()
        optimizer.step()
    return time.process_time() - start


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", CASES)
def test_step_of_fit_against_a_loop(name: str):
    case = CASES[name]
    data = Digits(MNIST, batch_size=case.batch_size, train_size=case.images)
    data.prepare_data()
    data.setup()
    everything = data.dataset("train")[np.arange(case.images)]
    plan = [torch.from_numpy(rows) for rows in data.training_plan(SEED, 0)]
    torch.manual_seed(SEED)
    model = case.make()
    ratios, hand, fit = [], [], []
    for _ in range(ROUNDS):
        ours, theirs = copy.deepcopy(model), copy.deepcopy(model)
        hand.append(by_hand(theirs, everything.image, everything.label, plan) / len(plan))
        fit.append(fitted(ours, data) / len(plan))
        ratios.append(fit[-1] / hand[-1])
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(mine, other)  # the same batches, the same work
    print(
        f"\n{name}: a step of fit takes {median(ratios):.2f} times a hand-written one "
        f"({median(fit) * 1000:.2f} and {median(hand) * 1000:.2f} ms)"
    )
    assert median(ratios) <= case.most
