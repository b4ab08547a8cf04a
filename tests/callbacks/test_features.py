import csv

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.decomposition import PCA
from torch import nn

import dlarch
from dlarch.callbacks.features import (
    FeatureProjector,
    FilterImages,
    filter_grid,
    first_filters,
    last_linear,
    small_squares,
)
from dlarch.callbacks.projector import principal
from dlarch.models.feedforward.mlp import MLP


@pytest.fixture(autouse=True)
def _cache(session_cache, monkeypatch):
    monkeypatch.setenv("DLARCH_CACHE", str(session_cache))


@pytest.fixture
def digits():
    return dlarch.create_data("digits", batch_size=100)


# ---- filters


def test_filters_of_a_cnn_are_its_first_weights(digits):
    model = dlarch.create_model("cnn", digits, widths=(5, 6))
    assert torch.equal(first_filters(model), model.stages[0][0].weight)


def test_filters_of_an_mlp_are_the_pixels_that_a_unit_weighs(digits):
    model = dlarch.create_model("mlp", digits, hidden_sizes=(7,))
    filters = first_filters(model)
    assert filters.shape == (7, 1, 8, 8)
    image = torch.randn(1, 1, 8, 8)
    layer = model.linear_layers()[0]
    weighed = (image * filters).sum((1, 2, 3)) + layer.bias
    torch.testing.assert_close(weighed[None], layer(image.flatten(1)))


def test_without_images_there_are_no_filters(digits):
    table = dlarch.create_model("mlp", dlarch.create_data("toy_2d"))
    assert first_filters(table) is None
    model = dlarch.create_model("mlp", digits)
    model.processor.image_shape = (4, 4, 4)
    assert first_filters(model) is None


def test_a_grid_shows_each_weight_as_a_square_on_the_filters_own_scale():
    weights = np.zeros((3, 1, 2, 2), np.float32)
    weights[0, 0, 0, 0], weights[0, 0, 1, 1] = 0.1, -0.1
    weights[1, 0] = 5.0
    grid = filter_grid(weights)
    assert grid.shape == (2 * 40 + 3 * 6, 2 * 40 + 3 * 6, 3)
    first = grid[6:46, 6:46]
    assert (first[:20, :20] == first[0, 0]).all()
    red, blue, white = first[0, 0].astype(int), first[-1, -1].astype(int), first[0, -1]
    assert red[0] > red[2] + 50
    assert blue[2] > blue[0] + 50
    assert white.min() > 240
    assert (grid[6:46, 52:92] == red).all()  # the largest, whatever its size
    colours = np.zeros((1, 3, 2, 2), np.float32)
    colours[0, 0, 0, 0] = 2.0
    cell = filter_grid(colours)[6:-6, 6:-6]
    assert cell[0, 0].tolist() == [255, 128, 128]
    assert cell[-1, -1].tolist() == [128, 128, 128]


def test_filters_are_drawn_at_each_validation(runs, digits):
    model = dlarch.create_model("mlp", digits, hidden_sizes=(4,))
    runs.fit(model, datamodule=digits)
    events = runs.events.Images("filters")
    assert [event.step for event in events] == [15, 30]
    assert (events[0].width, events[0].height) == (2 * 40 + 3 * 6,) * 2


# ---- features


def read(runs):
    (folder,) = (runs.folder / "logs").glob("*/features")
    vectors = np.loadtxt(folder / "tensors.tsv", delimiter="\t", ndmin=2)
    with (folder / "metadata.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return folder, vectors, rows


def test_the_projector_has_what_the_last_layer_reads(runs, digits):
    model = dlarch.create_model("mlp", digits, hidden_sizes=(9,), dropout=0.5)
    runs.fit(model, datamodule=digits)
    folder, vectors, rows = read(runs)
    config = (folder.parents[1] / "projector_config.pbtxt").read_text()
    assert 'tensor_name: "features:00030"' in config
    fresh = dlarch.create_data("digits")  # the other normalises when the Trainer moves batches
    fresh.prepare_data()
    fresh.setup()
    batches = list(fresh.val_dataloader())
    images, labels = (torch.cat([batch[part] for batch in batches]) for part in (0, 1))
    with torch.no_grad():
        hidden = model.eval().hidden(images.flatten(1))
        predicted = model(images).argmax(1)
    np.testing.assert_allclose(vectors, hidden, atol=6e-5)
    assert [row["class"] for row in rows] == [str(int(label)) for label in labels]
    assert [row["predicted"] for row in rows] == [str(int(label)) for label in predicted]
    sprite = np.asarray(Image.open(folder / "sprite.png"))
    side = int(np.ceil(np.sqrt(len(rows))))
    assert sprite.shape == (8 * side, 8 * side, 3)
    pixels = model.processor.decode(images[:2])
    assert np.abs(sprite[:8, 8:16, 0].astype(int) - pixels[1][..., 0]).max() <= 1
    assert not any(module._forward_hooks for module in model.modules())


def test_rows_of_a_table_have_no_sprite(runs):
    data = dlarch.create_data("toy_2d", size=200)
    runs.fit(dlarch.create_model("mlp", data, hidden_sizes=(3,)), datamodule=data)
    folder, vectors, rows = read(runs)
    assert vectors.shape == (20, 3)
    assert {row["class"] for row in rows} == {"0", "1"}
    assert not (folder / "sprite.png").exists()


def test_where_there_is_nothing_to_project_nothing_is_written(runs):
    data = dlarch.create_data("curves_1d", size=100)
    model = dlarch.create_model("mlp", data)
    runs.fit(model, datamodule=data)
    classes = dlarch.create_data("toy_2d", size=100)
    runs.fit(dlarch.create_model("mlp", classes), datamodule=classes, logger=False)
    assert not list((runs.folder / "logs").glob("*/features"))


def test_only_the_first_examples_are_kept(runs, digits, monkeypatch):
    monkeypatch.setattr("dlarch.callbacks.features.MOST_EXAMPLES", 130)
    model = dlarch.create_model("mlp", digits, hidden_sizes=(3,))
    runs.fit(model, datamodule=digits, max_epochs=1)
    assert read(runs)[1].shape == (130, 3)


def test_many_features_become_their_principal_components():
    features = torch.randn(120, 300) * torch.linspace(3, 0.1, 300)
    found = principal(features, 100)
    wanted = PCA(100, svd_solver="full").fit_transform(features.numpy())
    np.testing.assert_allclose(np.abs(found), np.abs(wanted), atol=1e-3)
    assert principal(features[:, :50], 100).shape == (120, 50)


def test_the_last_layer_must_be_linear():
    assert last_linear(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))).out_features == 4
    assert last_linear(nn.Sequential(nn.Linear(2, 3), nn.Conv1d(3, 4, 1))) is None
    assert last_linear(nn.ReLU()) is None


def test_small_pictures_are_square_and_coloured():
    tall = np.zeros((128, 64, 1), np.uint8)
    tall[:, :, 0] = 255
    (square,) = small_squares([tall])
    assert square.shape == (3, 64, 64)
    assert square[:, :, 16:48].eq(1).all()
    assert square[:, :, :16].eq(0).all()


def test_callbacks_know_no_other_tasks(runs, task):
    runs.fit(task(), FilterImages(), FeatureProjector())
    assert runs.events.Tags()["images"] == []


def test_pictures_depend_on_what_a_model_takes():
    kinds = {type(callback).__name__ for callback in MLP().pictures()}
    assert {"FilterImages", "FeatureProjector", "DecisionSurface"} <= kinds
