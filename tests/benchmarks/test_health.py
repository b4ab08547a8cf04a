"""What gradient health costs, as a share of a training step, at the default log interval.

Run on one thread: `OMP_NUM_THREADS=1 pytest tests/benchmarks -m benchmark -s`.
"""

from __future__ import annotations

import time
from itertools import pairwise
from statistics import median

import lightning as L  # noqa: N812
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger

from dlarch import create_model
from dlarch.callbacks.gradients import GradientNorms
from dlarch.callbacks.health import GradientHealth
from dlarch.spec import DataSpec

pytestmark = pytest.mark.benchmark

INTERVAL, LOOKS = 50, 20
NETWORKS = {
    "mlp 784-300-100-10, batches of 50": ("mlp", {}, 50),
    "cnn of the recipe cnn_mnist, batches of 50": ("cnn", {"widths": (16, 32, 64)}, 50),
}


class Repeated(torch.utils.data.IterableDataset):
    """One batch again and again, so that nothing but the step is timed."""

    def __init__(self, size: int, steps: int) -> None:
        self.batch = (torch.randn(size, 1, 28, 28), torch.arange(size) % 10)
        self.steps = steps

    def __iter__(self):
        return iter([self.batch] * self.steps)


class Clock(L.Callback):
    """Seconds of this thread from one step to the next, whatever else the machine does."""

    def __init__(self) -> None:
        self.starts: list[float] = []

    def on_train_batch_start(self, *_) -> None:
        self.starts.append(time.thread_time())


def seconds(name, options, size, every, callback, folder) -> tuple[float, float]:
    """Of a step that is looked at, and of another one."""
    torch.manual_seed(0)
    spec = DataSpec(image_shape=(1, 28, 28), in_features=784, num_classes=10)
    model = create_model(name, spec, **options)
    clock = Clock()
    steps = every * LOOKS + 1
    trainer = L.Trainer(
        max_epochs=1,
        accelerator="cpu",
        devices=1,
        logger=TensorBoardLogger(folder, default_hp_metric=False),
        callbacks=[clock, callback],
        log_every_n_steps=every,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, torch.utils.data.DataLoader(Repeated(size, steps), batch_size=None))
    lengths = [after - before for before, after in pairwise(clock.starts)]
    looks = lengths[every - 1 :: every]
    others = [length for step, length in enumerate(lengths) if (step + 1) % every]
    return median(looks), median(others)


@pytest.mark.parametrize("network", NETWORKS)
def test_health_costs_little(network, tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    name, options, size = NETWORKS[network]
    found = {
        kind.__name__: seconds(name, options, size, 5, kind(), tmp_path)
        for kind in (GradientNorms, GradientHealth)
    }
    torch.set_num_threads(threads)
    step = found["GradientNorms"][1]
    shares = {kind: (look - other) / step / INTERVAL for kind, (look, other) in found.items()}
    extra = shares["GradientHealth"] - shares["GradientNorms"]
    print(f"\n{network}: looking costs {extra:.2%} of a step of {1000 * step:.1f} ms")
    assert extra < 0.02
