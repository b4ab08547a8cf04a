import lightning as L  # noqa: N812
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import dlarch
from dlarch.tasks import training_batches


@pytest.fixture(autouse=True)
def own_folders(session_cache, monkeypatch):
    monkeypatch.setenv("DLARCH_CACHE", str(session_cache))


class Read(L.Callback):
    """Reads the training examples before training, and notes what training is given."""

    def __init__(self):
        self.given = []

    def on_train_start(self, trainer, module):
        states = torch.get_rng_state(), np.random.get_state()[1].copy()
        self.read = list(training_batches(trainer))
        assert torch.equal(torch.get_rng_state(), states[0])
        assert (np.random.get_state()[1] == states[1]).all()

    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        self.given.append(batch)


def trained(make_trainer, model, *arguments, read=True, **keywords):
    torch.manual_seed(0)
    watch = Read()
    if not read:
        watch.on_train_start = lambda trainer, module: None
    make_trainer(callbacks=[watch], max_epochs=2, limit_val_batches=0).fit(
        model, *arguments, **keywords
    )
    return watch


def test_a_data_module_gives_all_examples_in_order_and_without_augmentation(make_trainer):
    def digits(**options):
        return dlarch.create_data("digits", batch_size=64, train_size=300, **options)

    moved, still = digits(shift=0.2), digits()
    model = dlarch.create_model("logistic_regression", still, pictures=False)
    watch = trained(make_trainer, model, datamodule=moved)
    still.prepare_data()
    still.setup()
    wanted = list(still.train_dataloader())
    order = torch.cat([batch.example for batch in wanted]).argsort()
    images = torch.cat([batch.image for batch in wanted])[order]
    torch.testing.assert_close(torch.cat([batch.image for batch in watch.read]), images)
    assert torch.cat([batch.example for batch in watch.read]).tolist() == list(range(300))


@pytest.mark.parametrize("kind", ["torch", "dlarch"])
def test_reading_a_plain_loader_does_not_move_training(make_trainer, kind):
    def run(read):
        data = dlarch.create_data("toy_2d", size=100, batch_size=16)
        data.setup()
        torch.manual_seed(1)
        loader = data.train_dataloader()
        if kind == "torch":
            (batch,) = data.in_order("train")
            loader = DataLoader(TensorDataset(*batch[:2]), batch_size=16, shuffle=True)
        model = dlarch.create_model("logistic_regression", data, pictures=False)
        return trained(make_trainer, model, loader, read=read)

    with_, without = run(True), run(False)
    assert sum(len(batch[0]) for batch in with_.read) == 80
    assert len(with_.given) == len(without.given) == 10
    for one, other in zip(with_.given, without.given, strict=True):
        assert torch.equal(one[0], other[0])
