import numpy as np
import pytest
import torch

import dlarch
from dlarch.data.binarize import binarized, fixed_noise
from dlarch.errors import OptionError


@pytest.fixture
def ramp():
    """Two images, each with 0 to 255 in order."""
    return torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).repeat(2, 1, 1, 1)


def test_noise_is_that_of_splitmix64():
    """Against the reference implementation's first numbers for seed 0."""
    known = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    found = fixed_noise(np.array([0]), 3)[0]
    np.testing.assert_array_equal(found, np.array([k >> 40 for k in known]) / 2**24)


def test_noise_is_uniform_and_independent_of_company():
    noise = fixed_noise(np.arange(200), 784)
    assert 0 <= noise.min() < noise.max() < 1
    assert abs(noise.mean() - 0.5) < 0.003
    assert abs(noise.std() - 12**-0.5) < 0.002
    assert abs(np.corrcoef(noise[0], noise[1])[0, 1]) < 0.1
    np.testing.assert_array_equal(fixed_noise(np.array([150, 3]), 784), noise[[150, 3]])


def test_thresholds_lie_in_the_middle(ramp):
    white = binarized(ramp, "threshold", None)
    assert white.dtype == torch.uint8
    assert white[0].flatten().tolist() == [0] * 128 + [255] * 128
    assert torch.equal(binarized(ramp, "grey", None), ramp)


@pytest.mark.parametrize("example", [None, torch.arange(4000)])
def test_dynamic_pixels_are_white_as_often_as_they_are_bright(example):
    grey = torch.tensor([0, 51, 128, 204, 255], dtype=torch.uint8).view(1, 1, 5, 1)
    drawn = binarized(grey.expand(4000, -1, -1, -1), "dynamic", example).float() / 255
    assert set(drawn.unique().tolist()) == {0, 1}
    np.testing.assert_allclose(drawn.mean(0).flatten(), [0, 0.2, 0.502, 0.8, 1], atol=0.025)


def test_training_draws_anew_and_evaluation_does_not(ramp):
    assert not torch.equal(*(binarized(ramp, "dynamic", None) for _ in range(2)))
    example = torch.tensor([5, 9])
    first = binarized(ramp, "dynamic", example)
    assert torch.equal(first[1:], binarized(ramp[1:], "dynamic", example[1:]))


@pytest.mark.parametrize("targets", ["threshold", "dynamic"])
def test_a_model_sees_zeros_and_ones(targets, tmp_path, monkeypatch):
    monkeypatch.setenv("DLARCH_CACHE", str(tmp_path))
    data = dlarch.create_data("digits", targets=targets, batch_size=16)
    data.prepare_data()
    data.setup("fit")
    for split in ("train", "validation"):
        images = data.dataset(split)[np.arange(16)].image
        assert set(images.unique().tolist()) == {0, 1}
    whole, part = (data.dataset("validation")[np.array(rows)].image for rows in ([3, 4], [4]))
    assert torch.equal(whole[1:], part)


def test_other_targets_are_refused():
    with pytest.raises(OptionError, match="targets must be grey, threshold or dynamic, not black"):
        dlarch.create_data("digits", targets="black")
