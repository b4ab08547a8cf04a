import lightning as L  # noqa: N812
import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, confusion_matrix, mean_absolute_error
from torch import nn
from torch.nn import functional as F  # noqa: N812

import dlarch
from dlarch.batches import ImageBatch, TableBatch
from dlarch.errors import DataError, MismatchError
from dlarch.models.feedforward.mlp import MLP
from dlarch.nn import OneHotLoss


@pytest.fixture(autouse=True)
def cache(session_cache, monkeypatch):
    monkeypatch.setenv("DLARCH_CACHE", str(session_cache))
    torch.manual_seed(0)


def trainer(folder, **options):
    usual = {"max_epochs": 1, "accelerator": "cpu", "devices": 1, "logger": False}
    quiet = dict.fromkeys(
        ("enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    return L.Trainer(default_root_dir=folder, **usual | quiet | options)


def scored(model, data, folder):
    return trainer(folder).test(model, datamodule=data, verbose=False)[0]


def whole(data):
    data.prepare_data()
    data.setup()
    parts = list(zip(*data.test_dataloader(), strict=True))
    return data.batch_type(*(None if part[0] is None else torch.cat(part) for part in parts))


def test_figures_of_classes_are_scikit_learns_over_the_whole_split(tmp_path):
    data = dlarch.create_data("digits", batch_size=50)
    model = dlarch.create_model("mlp", data, hidden_sizes=(20,))
    figures = scored(model, data, tmp_path)
    batch = whole(dlarch.create_data("digits"))
    with torch.no_grad():
        outputs = model(batch.image)
    accuracy = accuracy_score(batch.label, outputs.argmax(1))
    assert figures["test/accuracy"] == pytest.approx(accuracy)
    assert figures["test/loss"] == pytest.approx(F.cross_entropy(outputs, batch.label).item())


def test_figures_of_numbers_are_in_their_own_units(tmp_path):
    data = dlarch.create_data("table", batch_size=16)
    model = dlarch.create_model("mlp", data, hidden_sizes=(20,))
    figures = scored(model, data, tmp_path)
    batch = whole(dlarch.create_data("table"))
    with torch.no_grad():
        outputs = data.processor.decode(model(batch.features))
    targets = data.processor.decode(batch.target)
    error = np.array(outputs) - np.array(targets)
    assert figures["test/rmse"] == pytest.approx(np.sqrt(np.square(error).mean()), rel=1e-4)
    assert figures["test/mae"] == pytest.approx(mean_absolute_error(targets, outputs), rel=1e-4)
    assert figures["test/mae"] > 20  # points of progression, not of deviation


def test_what_is_predicted_has_names_and_units(tmp_path):
    data = dlarch.create_data("digits")
    model = dlarch.create_model("mlp", data, hidden_sizes=())
    found = [line for part in trainer(tmp_path).predict(model, datamodule=data) for line in part]
    assert set(found) <= set(data.processor.class_names)
    assert len(found) == 179
    table = dlarch.create_data("table")
    regressor = dlarch.create_model("mlp", table, hidden_sizes=())
    (numbers,) = trainer(tmp_path).predict(regressor, datamodule=table)
    assert np.mean([float(line) for line in numbers]) == pytest.approx(150, abs=80)


def test_the_confusion_matrix_is_scikit_learns(tmp_path):
    data = dlarch.create_data("digits", batch_size=40)
    model = dlarch.create_model("mlp", data, hidden_sizes=(10,))
    trainer(tmp_path).validate(model, datamodule=data, verbose=False)
    loader = dlarch.create_data("digits", batch_size=500)
    loader.prepare_data()
    loader.setup()
    (batch,) = loader.val_dataloader()
    with torch.no_grad():
        probabilities = model(batch.image).softmax(1)
    predicted = probabilities.argmax(1)
    wanted = confusion_matrix(batch.label, predicted, labels=range(10))
    assert np.array_equal(model.confusion, wanted)
    wrong = predicted != batch.label
    surest = probabilities.max(1).values[wrong].sort(descending=True).values[:16]
    found = torch.tensor([mistake.probability for mistake in model.mistakes])
    torch.testing.assert_close(found, surest)
    first = (probabilities.max(1).values * wrong).argmax()
    pixels = data.processor.decode(batch.image[first : first + 1])[0]
    assert np.array_equal(model.mistakes[0].pixels, pixels)
    assert model.mistakes[0].label == str(int(batch.label[first]))
    assert model.mistakes[0].predicted == str(int(predicted[first]))


@pytest.mark.parametrize(
    ("loss", "formula"),
    [
        (None, F.cross_entropy),
        (nn.MultiMarginLoss(), F.multi_margin_loss),
        (OneHotLoss(nn.MSELoss()), lambda o, y: F.mse_loss(o, F.one_hot(y, 3).float())),
    ],
)
def test_the_loss_asked_for_is_the_one_that_is_trained(loss, formula):
    spec, batch = MLP.example(6, seed=0)
    model = dlarch.create_model("mlp", spec, loss=loss)
    outputs = model(batch.image)
    assert torch.equal(model._loss(outputs, batch.label), formula(outputs, batch.label))


def test_classes_of_raw_inputs_come_with_probabilities():
    data = dlarch.create_data("digits")
    model = dlarch.create_model("mlp", data, hidden_sizes=(10,), dropout=0.5)
    batch = whole(data)
    pixels = data.processor.decode(batch.image[:3])
    found = model.classify(pixels, top=4)
    with torch.no_grad():
        wanted = model.eval()(batch.image[:3]).softmax(1)
    for predictions, row in zip(found, wanted, strict=True):
        assert [p.probability for p in predictions] == pytest.approx(row.topk(4).values.tolist())
        assert [p.name for p in predictions] == [str(int(i)) for i in row.topk(4).indices]
    assert model.classify(pixels) == model.classify(pixels)  # no dropout
    assert len(model.classify(pixels, top=99)[0]) == 10


def test_rows_of_numbers_are_classified():
    data = dlarch.create_data("logic_gates")
    model = dlarch.create_model("mlp", data, hidden_sizes=(4,))
    found = model.classify([[0, 1], {"x1": 0, "x2": 1}])
    assert found[0] == found[1]
    assert found[0][0].name in ("false", "true")


def test_what_cannot_be_classified_is_said():
    table = dlarch.create_model("mlp", dlarch.create_data("table"))
    with pytest.raises(MismatchError, match="predicts numbers"):
        table.classify([[1.0] * 10])
    with pytest.raises(MismatchError, match="no processor"):
        MLP(in_features=4, num_classes=2).classify([[1.0] * 4])
    with pytest.raises(DataError, match="nothing to classify"):
        dlarch.create_model("mlp", dlarch.create_data("digits")).classify([])


def test_classes_or_numbers_must_be_known():
    with pytest.raises(MismatchError, match="must know num_classes or out_features"):
        trainer(None).fit(MLP(in_features=3), torch.utils.data.DataLoader([0]))


def test_plain_batches_of_anybodys_loader_will_do(tmp_path):
    model = MLP(in_features=4, num_classes=3, hidden_sizes=(8,))
    pairs = torch.utils.data.TensorDataset(torch.randn(20, 4), torch.arange(20) % 3)
    loader = torch.utils.data.DataLoader(pairs, batch_size=6)
    trainer(tmp_path, max_epochs=2).fit(model, loader, loader)
    assert model.confusion.sum() == 20


def test_examples_fit_what_the_model_takes():
    assert isinstance(MLP.example(3, 0)[1], ImageBatch)
    assert MLP.takes(TableBatch)
