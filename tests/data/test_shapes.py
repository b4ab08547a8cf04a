import numpy as np
import pytest
import torch

import dlarch
from dlarch.data.generators.shapes import FIGURES, draw_shapes
from dlarch.errors import OptionError


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DLARCH_CACHE", str(tmp_path))


def shapes(**options):
    data = dlarch.create_data("shapes", size=100, side=16, **options)
    data.prepare_data()
    data.setup("fit")
    return data


def test_batches_hold_what_is_known_of_each_image():
    data = shapes()
    made = draw_shapes(100, 16, seed=0)
    batch = data.dataset("train")[np.array([7, 3])]
    for row, number in enumerate((7, 3)):
        np.testing.assert_allclose(batch.factors[row], made.factors[number])
        np.testing.assert_array_equal(batch.mask[row], made.mask[number])
        np.testing.assert_array_equal(batch.box[row], made.box[number])
        assert batch.label[row] == made.factors[number, 0]
    np.testing.assert_array_equal(data.processor.decode(batch.image), made.pixels[[7, 3]])
    assert data.spec.num_classes == len(FIGURES)
    assert data.spec.image_shape == (3, 16, 16)


def test_splits_and_seeds_have_images_of_their_own():
    first, other = shapes(), shapes(generator_seed=1)
    whole = {
        (name, split): data.dataset(split)[np.arange(10)].factors
        for name, data in (("first", first), ("other", other))
        for split in ("train", "validation", "test")
    }
    found = list(whole.values())
    assert all(not torch.equal(a, b) for i, a in enumerate(found) for b in found[:i])
    assert [len(first.dataset(s)) for s in ("train", "validation", "test")] == [100, 10, 10]


def test_grey_shapes_have_one_channel():
    assert shapes(colour=False).spec.image_shape == (1, 16, 16)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"flip": True}, "leave out flip"),
        ({"size": 5}, "at least 10 images"),
        ({"side": 8}, "at least 16 pixels"),
    ],
)
def test_options_that_cannot_be_used(options, said):
    with pytest.raises(OptionError, match=said):
        dlarch.create_data("shapes", **options)
