"""Grids of images that a model makes, on TensorBoard and in the run folder."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dlarch.callbacks.image_grids import FRAME, GAP, ImageGrids, image_grid, nearly_square


class Painter(LightningModule):
    def made_images(self):
        assert not torch.is_grad_enabled()
        return {"images": torch.rand(2, 3, 1, 50, 60)}


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


def test_images_stand_in_their_rows_and_columns_in_whole_pixels():
    images = torch.zeros(2, 3, 1, 16, 24)
    images[0, 2], images[1, 0] = 1.0, 0.5
    grid = image_grid(images)
    assert grid.shape == (2 * (32 + GAP) + GAP, 3 * (48 + GAP) + GAP, 3)  # twice as large
    assert (grid[:GAP] == FRAME).all()
    assert (grid[:, :GAP] == FRAME).all()
    assert (grid[GAP : GAP + 32, 3 * GAP + 2 * 48 : 3 * GAP + 3 * 48] == 255).all()
    assert (grid[2 * GAP + 32 : 2 * GAP + 64, GAP : GAP + 48] == 128).all()
    assert grid.max(initial=0) == 255


def test_colours_and_values_outside_the_scale():
    images = torch.tensor([-1.0, 0.0, 2.0]).view(1, 1, 3, 1, 1).expand(1, 1, 3, 60, 60)
    assert image_grid(images)[GAP, GAP].tolist() == [0, 0, 255]


@pytest.mark.parametrize(("count", "shape"), [(64, (8, 8)), (10, (2, 4)), (3, (1, 2)), (1, (1, 1))])
def test_many_images_are_nearly_square(count, shape):
    assert nearly_square(torch.zeros(count, 1, 4, 4)).shape[:2] == shape


def test_tensorboard_and_the_run_folder_show_the_same_and_no_random_state_moves(trainer, tmp_path):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    ImageGrids().on_validation_end(trainer, Painter())
    assert torch.equal(torch.get_rng_state(), before)
    trainer.loggers[0].experiment.flush()
    events = EventAccumulator(str(tmp_path / "logs")).Reload()
    (shown,) = events.Images("samples/images")
    assert shown.step == 12
    torch.manual_seed(3)
    expected = image_grid(torch.rand(2, 3, 1, 50, 60))
    written = Image.open(tmp_path / "run" / "samples" / "images_0000012.png")
    assert np.array_equal(np.asarray(written), expected)


def test_it_is_silent_where_there_is_nothing_to_show(trainer, tmp_path):
    trainer.sanity_checking = True
    ImageGrids().on_validation_end(trainer, Painter())
    trainer.sanity_checking = False
    ImageGrids().on_validation_end(trainer, LightningModule())
    assert not (tmp_path / "run").exists()
