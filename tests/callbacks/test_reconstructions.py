"""Texts from codes, as tables and lines, on TensorBoard and in the run folder."""

from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dlarch.callbacks.reconstructions import Reconstruction, Reconstructions, reconstruction_table

SAMPLES = [Reconstruction("a | b", "a | b", True), Reconstruction("two", "too", False)]


class Coder(LightningModule):
    def reconstructions(self):
        assert not torch.is_grad_enabled()
        return SAMPLES

    def interpolations(self):
        return [["one", "two"], ["three", "four"]]


@pytest.fixture
def trainer(tmp_path):
    return SimpleNamespace(
        is_global_zero=True,
        state=SimpleNamespace(fn="fit"),
        sanity_checking=False,
        fast_dev_run=False,
        global_step=12,
        default_root_dir=tmp_path / "run",
        loggers=[TensorBoardLogger(tmp_path / "logs", name="", version="")],
    )


def test_a_table_marks_what_is_exact():
    lines = reconstruction_table(SAMPLES).splitlines()
    assert lines[2:] == [r"| a \| b | a \| b | ✓ |", "| two | too |  |"]


def test_tensorboard_and_the_run_folder_show_the_same(trainer, tmp_path):
    Reconstructions().on_validation_end(trainer, Coder())
    trainer.loggers[0].experiment.flush()
    events = EventAccumulator(str(tmp_path / "logs")).Reload()
    texts = {
        tag: events.Tensors(f"{tag}/text_summary")[0].tensor_proto.string_val[0].decode()
        for tag in ("samples/reconstructions", "samples/interpolations")
    }
    assert texts["samples/reconstructions"] == reconstruction_table(SAMPLES)
    assert texts["samples/interpolations"].split() == ["one", "two", "---", "three", "four"]
    written = (tmp_path / "run" / "samples" / "reconstructions_0000012.md").read_text("utf-8")
    assert all(text in written for text in texts.values())


def test_it_is_silent_where_there_is_nothing_to_show(trainer, tmp_path):
    trainer.sanity_checking = True
    Reconstructions().on_validation_end(trainer, Coder())
    trainer.sanity_checking = False
    Reconstructions().on_validation_end(trainer, LightningModule())
    assert not (tmp_path / "run").exists()
