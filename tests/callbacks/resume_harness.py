"""A tiny training run to interrupt: as a module for tests, as a script for tests that kill it."""

import argparse
import hashlib
import json
import os
import random
import sys
import time
import warnings
from pathlib import Path
from typing import NamedTuple

import lightning as L  # noqa: N812
import numpy as np
import torch
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor, nn

from dlarch.callbacks.checkpoints import LastCheckpoint, best_checkpoint
from dlarch.callbacks.resume import ExactResume
from dlarch.callbacks.signals import GracefulStop
from dlarch.compat.checkpoint_io import AtomicCheckpointIO
from dlarch.data.loading import BatchLoader, bucketed_plan, evaluation_plan

EXAMPLES, BATCH_SIZE = 26, 4
BATCHES = 7  # of an epoch, the last one smaller


class Batch(NamedTuple):
    example: Tensor
    x: Tensor
    y: Tensor


class Numbers:
    """26 rows of random numbers, the same in each process."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(EXAMPLES, 6, generator=generator)
        self.y = torch.randn(EXAMPLES, 1, generator=generator)

    def __getitem__(self, index):
        return Batch(torch.from_numpy(index.copy()), self.x[index], self.y[index])


class Data(L.LightningDataModule):
    lengths = np.arange(EXAMPLES) % 5 + 1

    def __init__(self, num_workers: int = 0) -> None:
        super().__init__()
        self.num_workers = num_workers

    def train_dataloader(self):
        def plan(epoch):
            return bucketed_plan(
                self.lengths,
                seed=3,
                epoch=epoch,
                batch_size=BATCH_SIZE,
                pool_batches=3,
                world_size=self.trainer.world_size,
                rank=self.trainer.global_rank,
            )

        start = "fork" if sys.platform == "linux" else None  # the quickest
        return BatchLoader(
            Numbers(),
            plan,
            seed=3,
            num_workers=self.num_workers,
            multiprocessing_context=start,
        )

    def val_dataloader(self):
        plan = evaluation_plan(self.lengths, batch_size=8)
        return BatchLoader(Numbers(), lambda _: plan, training=False)


class Killed(Exception):  # noqa: N818
    pass


class Tiny(L.LightningModule):
    """Draws from all three random states; notes which examples it saw and how validation went."""

    def __init__(self, scheduler="onecycle", kill_at=None, kill_in_validation=None, sleep=0.0):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.3), nn.Tanh(), nn.Linear(8, 1))
        self.scheduler, self.sleep = scheduler, sleep
        self.kill_at, self.kill_in_validation = kill_at, kill_in_validation
        self.seen, self.validated, self.total = [], [], 0

    def configure_callbacks(self):
        return [ExactResume()]

    def training_step(self, batch, batch_idx):
        if self.total == self.kill_at:
            raise Killed
        self.total += 1
        time.sleep(self.sleep)
        self.seen.append(batch.example.tolist())
        noise = random.gauss(0, 0.1) + np.random.standard_normal() * 0.1
        return (self.net(batch.x) + noise - batch.y).pow(2).mean()

    def validation_step(self, batch, batch_idx):
        if self.kill_in_validation == (self.total, batch_idx):
            raise Killed
        if self.sleep:
            time.sleep(0.5 * self.sleep)
        torch.rand(3)  # must not count
        loss = (self.net(batch.x) - batch.y).pow(2).mean()
        self.log("val/loss", loss, batch_size=len(batch.x))

    def on_validation_epoch_end(self):
        if not self.trainer.sanity_checking:
            self.validated.append(self.trainer.global_step)

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=0.02)
        if self.scheduler == "onecycle":
            steps = int(self.trainer.estimated_stepping_batches)  # builds the loader early
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=2000)
            assert steps > 0
            return [optimizer], [{"scheduler": schedule, "interval": "step"}]
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, patience=0, factor=0.7, threshold=0.9
        )
        return [optimizer], [{"scheduler": schedule, "monitor": "val/loss"}]

    def on_save_checkpoint(self, checkpoint):
        checkpoint["notes"] = [self.seen, self.validated, self.total]
        checkpoint["dlarch"] = {"format": 1}

    def on_load_checkpoint(self, checkpoint):
        self.seen, self.validated, self.total = checkpoint["notes"]


def make_trainer(folder, every_n_steps=1, more_callbacks=(), **options):
    best = best_checkpoint(folder, "val/loss", "min")
    defaults = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "max_epochs": 2,
        "plugins": [AtomicCheckpointIO()],
        "callbacks": [best, LastCheckpoint(folder, every_n_steps), GracefulStop(), *more_callbacks],
    }
    if "max_steps" in options:
        defaults["max_epochs"] = -1
    return L.Trainer(**{**defaults, **options})


class Outcome(NamedTuple):
    """What must be equal; compared with ==."""

    weights: str
    optimizer: str
    seen: list
    validated: list
    global_step: int
    logged_step: int
    learning_rate: float
    best: float | None


def digest(tensors):
    """sha256 over names and bytes of a nested dict of tensors and numbers."""
    sha = hashlib.sha256()

    def add(name, value):
        if isinstance(value, dict):
            for key in sorted(value, key=str):
                add(f"{name}/{key}", value[key])
        elif isinstance(value, Tensor):
            sha.update(name.encode() + value.detach().cpu().numpy().tobytes())
        else:
            sha.update(f"{name}={value!r}".encode())

    add("", tensors)
    return sha.hexdigest()


def outcome(trainer, model):
    best = trainer.checkpoint_callbacks[0].best_model_score
    return Outcome(
        digest(model.state_dict()),
        digest(trainer.optimizers[0].state_dict()),
        model.seen,
        model.validated,
        trainer.global_step,
        trainer.fit_loop.epoch_loop._batches_that_stepped,
        trainer.optimizers[0].param_groups[0]["lr"],
        None if best is None else float(best),
    )


class Snapshots(Checkpoint):
    """Save in every hook in which anybody could, as NUMBER-HOOK.ckpt."""

    def __init__(self, folder):
        self.folder, self.count = Path(folder), 0

    def save(self, trainer, hook):
        if not trainer.sanity_checking:
            self.count += 1
            path = self.folder / f"{self.count:03d}-{hook}.ckpt"
            trainer.save_checkpoint(path, weights_only=False)


def _saving(hook):
    def save(self, trainer, *_, **__):
        self.save(trainer, hook)

    return save


for _hook in (
    "on_train_batch_end",
    "on_validation_start",
    "on_validation_batch_start",
    "on_validation_end",
    "on_train_epoch_end",
    "on_train_epoch_start",
):
    setattr(Snapshots, _hook, _saving(_hook))


def fit(folder, model_options=None, num_workers=0, resume=False, seed=1, **options):
    """Train, from the start or from last.ckpt, and return (trainer, model)."""
    # A resumed process starts with other random states than the ones it has to go on with.
    # The processes of a distributed run draw different numbers.
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    L.seed_everything(seed + 1000 * resume + rank, verbose=False)
    model = Tiny(**(model_options or {}))
    trainer = make_trainer(folder, **options)
    data = Data(num_workers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "last.ckpt" if resume else None
        trainer.fit(model, data, ckpt_path=path, weights_only=True)
    return trainer, model


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--options", type=json.loads, default={})
    parser.add_argument("--sleep", type=float, default=0.0)
    parser.add_argument("--num_workers", type=int, default=0)
    parser.add_argument("--resume", action="store_true")
    given = parser.parse_args()
    trainer, model = fit(
        given.folder, {"sleep": given.sleep}, given.num_workers, given.resume, **given.options
    )
    if trainer.is_global_zero:
        Path(given.folder, "outcome.json").write_text(json.dumps(outcome(trainer, model)))


if __name__ == "__main__":
    sys.exit(main())
