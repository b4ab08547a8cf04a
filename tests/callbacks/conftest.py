import random
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from dlarch.callbacks.protocols import TranslationSample


class TinyTask(LightningModule):
    """Trains on four batches of two, with dropout, and logs as a real task does."""

    monitor = ("val/exact_match", "max")

    def __init__(self):
        super().__init__()
        self.encoder, self.head = nn.Linear(3, 4), nn.Linear(4, 1)

    def training_step(self, batch, batch_idx):
        loss = self.head(torch.dropout(self.encoder(batch[0]), 0.5, self.training)).square().mean()
        self.log("train/loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self.head(self.encoder(batch[0])).square().mean(), prog_bar=True)
        self.log("val/exact_match", min(0.25 * (1 + self.current_epoch), 0.75))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def train_dataloader(self):
        generator = torch.Generator().manual_seed(0)
        return DataLoader(TensorDataset(torch.randn(8, 3, generator=generator)), batch_size=2)

    val_dataloader = train_dataloader


class TinyTranslator(TinyTask):
    """Offers translations too; asking for them costs randomness."""

    def __init__(self, samples=()):
        super().__init__()
        self.samples, self.asked = list(samples), []

    def translation_samples(self, count):
        self.asked.append(self.global_step)
        torch.rand(3), np.random.rand(3), random.random()
        return self.samples[:count]


class Runs:
    """Fits in `folder` with a TensorBoard logger, and reads what was logged."""

    def __init__(self, folder: Path):
        self.folder = folder

    def trainer(self, *callbacks, **options):
        options = {
            "max_epochs": 2,
            "accelerator": "cpu",
            "devices": 1,
            "logger": TensorBoardLogger(self.folder, name="logs", version=""),
            "default_root_dir": self.folder,
            "log_every_n_steps": 2,
            "enable_checkpointing": False,
            "enable_model_summary": False,
            "enable_progress_bar": False,
            **options,
        }
        return Trainer(callbacks=list(callbacks), **options)

    def fit(self, model, *callbacks, ckpt_path=None, datamodule=None, **options):
        trainer = self.trainer(*callbacks, **options)
        seed_everything(1, verbose=False)
        trainer.fit(model, datamodule=datamodule, ckpt_path=ckpt_path)
        return trainer

    @property
    def events(self):
        guidance = {"images": 0, "scalars": 0, "tensors": 0}
        return EventAccumulator(str(self.folder / "logs"), size_guidance=guidance).Reload()


@pytest.fixture
def runs(tmp_path):
    return Runs(tmp_path / "run")


@pytest.fixture
def task():
    """The class `TinyTask`."""
    return TinyTask


@pytest.fixture
def translator():
    """The class `TinyTranslator`."""
    return TinyTranslator


@pytest.fixture
def sample():
    """Makes a sample out of source, reference and translation, one token per character."""

    def make(source="a b", reference="x y", translation="x y", maps=()):
        shape = (*maps, len(translation), len(source))
        attention = torch.randn(shape, generator=torch.Generator().manual_seed(3)).mul(2)
        tokens = list(source), list(translation)
        return TranslationSample(
            source, reference, translation, reference == translation, *tokens, attention.softmax(-1)
        )

    return make
