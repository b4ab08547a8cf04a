"""A step of both networks of a DCGAN by `dlarch.fit` against a hand-written loop, on figures.

Run on one thread: `OMP_NUM_THREADS=1 pytest tests/benchmarks -m benchmark -s`. Times are those of
the CPU.
"""

from __future__ import annotations

import copy
import os
import time
from pathlib import Path
from statistics import median
from typing import TextIO

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812

import dlarch
from dlarch.callbacks.progress import TerminalBar

pytestmark = pytest.mark.benchmark

SEED, BATCH, IMAGES, ROUNDS, MOST = 1, 64, 3200, 5, 1.1


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


def fitted(model, data) -> float:
    """Seconds of an epoch as `dlarch fit` trains it: TensorBoard, checkpoints, bar."""
    torch.manual_seed(SEED)
    with Path(os.devnull).open("w") as nowhere:
        bar = TimedBar(nowhere)
        dlarch.fit(
            model, data, name="benchmark", test_after_fit=False, max_epochs=1, accelerator="cpu",
            callbacks=[bar], num_sanity_val_steps=0,
        )  # fmt: skip
    return bar.seconds


def by_hand(model, images: torch.Tensor, plan) -> float:
    """Seconds of the same epoch in a loop that trains and does nothing else."""
    generator, critic = model.generator.train(), model.critic.train()
    steps = [model.make_optimizer(net.parameters()) for net in (generator, critic)]
    torch.manual_seed(SEED)
    start = time.process_time()
    for rows in plan:
        real = images[rows]
        with torch.no_grad():
            made = generator(torch.randn(len(real), model.noise_size)).tanh()
        loss = F.softplus(-critic(real)).mean() + F.softplus(critic(made)).mean()
        steps[1].zero_grad()
        loss.backward()
        steps[1].step()
        made = generator(torch.randn(len(real), model.noise_size)).tanh()
        loss = F.softplus(-critic(made)).mean()
        steps[0].zero_grad()
        loss.backward(inputs=list(generator.parameters()))
        steps[0].step()
    return time.process_time() - start


@pytest.mark.timeout(1800)
def test_step_of_fit_against_a_loop():
    data = dlarch.create_data("shapes", size=IMAGES, side=28, colour=False, batch_size=BATCH)
    data.prepare_data()
    data.setup()
    plan = [torch.from_numpy(rows) for rows in data.training_plan(SEED, 0)]
    torch.manual_seed(SEED)
    model = dlarch.create_model("dcgan", data, width=32)
    everything = data.dataset("train")[np.arange(IMAGES)]
    images = data.processor.to_unit(everything.image) * 2 - 1
    ratios, hand, fit = [], [], []
    for _ in range(ROUNDS):
        ours, theirs = copy.deepcopy(model), copy.deepcopy(model)
        hand.append(by_hand(theirs, images, plan) / len(plan))
        fit.append(fitted(ours, data) / len(plan))
        ratios.append(fit[-1] / hand[-1])
    print(
        f"\ndcgan 28 x 28, width 32, batch {BATCH}: a step of both by fit takes "
        f"{median(ratios):.2f} times a hand-written one "
        f"({median(fit) * 1000:.1f} and {median(hand) * 1000:.1f} ms)"
    )
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, atol=1e-4, rtol=1e-3)  # the same work
    assert median(ratios) <= MOST
