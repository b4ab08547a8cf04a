"""Maps of codes at each validation, and the projector at the end of a fit."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dlarch.callbacks.codes import CodeMap, Codes, code_map


class Coder(LightningModule):
    def __init__(self, codes):
        super().__init__()
        self.codes = codes

    def kept_codes(self):
        return self.codes


@pytest.fixture
def trainer(tmp_path):
    return SimpleNamespace(
        is_global_zero=True,
        state=SimpleNamespace(fn="fit"),
        sanity_checking=False,
        global_step=12,
        loggers=[TensorBoardLogger(tmp_path / "logs", name="", version="")],
    )


def offsets(figure):
    return np.concatenate([np.asarray(each.get_offsets()) for each in figure.axes[0].collections])


def test_two_numbers_are_drawn_as_they_are_a_colour_for_each_class():
    codes = torch.tensor([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])
    figure = code_map(codes, ["b", "a", "b"])
    assert offsets(figure).tolist() == [[2, 3], [0, 1], [4, 5]]
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["a", "b"]


def test_of_more_numbers_the_two_directions_of_largest_variance():
    codes = torch.randn((50, 5), generator=torch.Generator().manual_seed(0))
    codes *= torch.tensor([1.0, 0.1, 9.0, 0.1, 0.1])
    points = offsets(code_map(codes, []))
    assert abs(np.corrcoef(points[:, 0], codes[:, 2].numpy())[0, 1]) > 0.999
    assert abs(np.corrcoef(points[:, 1], codes[:, 0].numpy())[0, 1]) > 0.99


def test_a_map_at_validation_and_the_projector_at_the_end(trainer, tmp_path):
    images = [np.full((6, 8, 1), 9 * i, np.uint8) for i in range(4)]
    coder = Coder(Codes(torch.randn(4, 3), ["a", "b", "a", "b"], images))
    CodeMap().on_validation_end(trainer, coder)
    CodeMap().on_fit_end(trainer, coder)
    trainer.loggers[0].experiment.flush()
    assert len(EventAccumulator(str(tmp_path / "logs")).Reload().Images("codes")) == 1
    folder = tmp_path / "logs" / "00012" / "codes"
    assert (folder / "metadata.tsv").read_text().split() == ["a", "b", "a", "b"]
    assert (folder / "sprite.png").is_file()
    np.testing.assert_allclose(np.loadtxt(folder / "tensors.tsv"), coder.codes.codes, atol=1e-4)


def test_it_is_silent_where_there_is_nothing_to_map(trainer, tmp_path):
    for module in (Coder(None), LightningModule()):
        CodeMap().on_validation_end(trainer, module)
        CodeMap().on_fit_end(trainer, module)
    CodeMap().on_validation_end(trainer, Coder(Codes(torch.randn(4, 1))))
    trainer.loggers[0].experiment.flush()
    assert not EventAccumulator(str(tmp_path / "logs")).Reload().Tags()["images"]
