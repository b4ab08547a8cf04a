import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import dlarch
from dlarch.callbacks.plane import COLOURS, surface


@pytest.fixture(autouse=True)
def _cache(session_cache, monkeypatch):
    monkeypatch.setenv("DLARCH_CACHE", str(session_cache))


class Threshold(nn.Module):
    """Class 1 where the first feature is above 0, very surely."""

    classifies, processor = True, None

    def class_names(self):
        return ["low", "high"]

    def forward(self, rows):
        return torch.stack((-50 * rows[:, 0], 50 * rows[:, 0]), dim=1)


def test_the_surface_has_the_colour_of_the_class_at_each_place():
    rows = torch.tensor([[-1.0, 0.0], [1.0, 2.0], [0.5, 1.0], [-0.5, 1.0]])
    labels = torch.tensor([0, 1, 1, 1])
    (axes,) = surface(Threshold(), rows, labels).axes
    (image,) = axes.images
    plane = image.get_array()
    assert image.get_extent() == pytest.approx([-1.3, 1.3, -0.3, 2.3])
    for half, colour in ((plane[:, :38], COLOURS[0]), (plane[:, 42:], COLOURS[1])):
        np.testing.assert_allclose(half.min((0, 1)), 1 - (1 - colour) * 0.6, atol=1e-3)
        np.testing.assert_allclose(half.max((0, 1)), 1 - (1 - colour) * 0.6, atol=1e-2)
    assert axes.get_title(loc="left") == "75.0% of the points right"
    np.testing.assert_allclose(axes.collections[0].get_offsets(), rows, atol=1e-6)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["low", "high"]


def test_axes_are_in_the_units_of_the_data():
    data = dlarch.create_data("toy_2d", size=100, shape="rings")
    model = dlarch.create_model("mlp", data, hidden_sizes=(4,))
    data.prepare_data()
    data.setup()
    (batch,) = data.val_dataloader()
    with torch.no_grad():
        (axes,) = surface(model, batch.features, batch.target).axes
    raw = data._tables["validation"].features
    np.testing.assert_allclose(axes.collections[0].get_offsets(), raw, atol=1e-5)
    assert axes.get_xlabel() == "x"
    low, high = axes.get_xlim()
    extent = raw[:, 0].max() - raw[:, 0].min()
    assert high - low == pytest.approx(1.3 * extent, rel=1e-5)


@pytest.mark.parametrize(
    ("data", "tag"),
    [
        (("toy_2d", {"size": 200}), "decision_surface"),
        (("logic_gates", {}), "decision_surface"),
        (("curves_1d", {"size": 200}), "curve"),
    ],
)
def test_pictures_appear_at_each_validation(data, tag, runs):
    name, options = data
    module = dlarch.create_data(name, **options)
    runs.fit(dlarch.create_model("mlp", module, hidden_sizes=(4,)), datamodule=module)
    tags = set(runs.events.Tags()["images"]) & {"decision_surface", "curve"}
    assert tags == {tag}
    events = runs.events.Images(tag)
    assert [event.step for event in events] == [1, 2]
    first, last = (np.asarray(Image.open(io.BytesIO(e.encoded_image_string))) for e in events)
    assert first.std() > 5
    assert not np.array_equal(first, last)


@pytest.mark.parametrize("name", ["table", "digits"])
def test_other_data_are_not_drawn(name, runs):
    data = dlarch.create_data(name)
    runs.fit(dlarch.create_model("mlp", data, hidden_sizes=(4,)), datamodule=data, max_epochs=1)
    assert not {"decision_surface", "curve"} & set(runs.events.Tags()["images"])


def test_random_numbers_and_weights_are_as_without_pictures(runs):
    ends = []
    for pictures in (True, False):
        data = dlarch.create_data("toy_2d", size=200, batch_size=20)
        torch.manual_seed(0)
        model = dlarch.create_model("mlp", data, dropout=0.5, pictures=pictures)
        runs.fit(model, datamodule=data)
        ends.append([*model.state_dict().values(), torch.rand(3)])
    for one, other in zip(*ends, strict=True):
        assert torch.equal(one, other)
