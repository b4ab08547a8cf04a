import numpy as np
import pytest
import torch
from scipy import ndimage

from dlarch.data.augment import Augmentation, affine, crop_and_flip, cut_out
from dlarch.errors import OptionError


def images(count=400, height=6, width=8, channels=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    # No pixel is black, so that the border can be told from the image.
    size = (count, height, width, channels)
    return torch.randint(1, 256, size, generator=generator).to(torch.uint8)


def possible_crops(image, border):
    """All crops of one image (H, W, C), by their bytes, with the place they were cut at."""
    padded = np.pad(image, ((border, border), (border, border), (0, 0)))
    height, width = image.shape[:2]
    places = range(2 * border + 1)
    return {padded[y : y + height, x : x + width].tobytes(): (y, x) for y in places for x in places}


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_each_image_is_one_of_its_crops_or_their_mirrors_drawn_apart(channels):
    torch.manual_seed(0)
    before = images(channels=channels)
    after = crop_and_flip(before, 2, True).numpy()
    seen = []
    for image, changed in zip(before.numpy(), after, strict=True):
        crops = possible_crops(image, 2)
        mirrored = {
            np.frombuffer(crop, np.uint8).reshape(image.shape)[:, ::-1].tobytes(): (*place, "m")
            for crop, place in crops.items()
        }
        seen.append((crops | mirrored)[changed.tobytes()])
    counts = np.unique([str(place) for place in seen], return_counts=True)[1]
    assert len(counts) == 50  # 25 places, mirrored or not
    assert counts.max() < 30


def test_without_a_border_and_mirror_nothing_changes():
    before = images(4)
    assert torch.equal(crop_and_flip(before, 0, False), before)
    assert torch.equal(Augmentation()(before), before)


def test_cut_out_blackens_squares_and_nothing_else():
    torch.manual_seed(0)
    before = images(count=300, height=8, width=8, channels=1)
    after = cut_out(before, 4)
    hidden = (after != before)[..., 0]
    assert after[hidden].eq(0).all()
    rows, columns = hidden.any(2).sum(1), hidden.any(1).sum(1)
    assert torch.equal(hidden.sum((1, 2)), rows * columns)  # rectangles
    assert rows.max() == columns.max() == 4
    assert rows.min() == 2  # half a square, at an edge
    everywhere = hidden.float().mean(0)
    assert everywhere.min() > 0.02


@pytest.mark.parametrize("angle", [0.0, 30.0, -75.0])
def test_a_turn_is_that_of_scipy(monkeypatch, angle):
    """One draw of the angle, exactly; on an image that is not square."""
    image = torch.zeros(1, 21, 31, 1)
    image[0, 5:16, 8:20, 0] = 100.0
    image[0, 5:9, 8:12, 0] = 200.0
    monkeypatch.setattr(torch, "rand", lambda *size, device: torch.full(size, 1.0))
    found = affine(image, angle, 0.0, 0.0)[0, ..., 0].numpy()
    wanted = ndimage.rotate(image[0, ..., 0].numpy(), angle, reshape=False, order=1)
    assert np.abs(found - wanted).mean() < 0.5
    if angle:
        other = ndimage.rotate(image[0, ..., 0].numpy(), -angle, reshape=False, order=1)
        assert np.abs(found - other).mean() > 3


def test_a_shift_and_a_scale_are_what_they_say(monkeypatch):
    image = torch.zeros(1, 20, 20, 1)
    image[0, 8:12, 8:12] = 100.0
    monkeypatch.setattr(torch, "rand", lambda *size, device: torch.full(size, 1.0))
    shifted = affine(image, 0.0, 0.0, 0.1)
    torch.testing.assert_close(shifted[0, 6:10, 6:10], image[0, 8:12, 8:12])
    assert shifted.sum() == image.sum()
    larger = affine(image, 0.0, 0.5, 0.0)
    assert larger.sum().item() == pytest.approx(1.5**2 * image.sum().item(), rel=0.1)


def test_draws_differ_between_images_and_stay_within_bounds():
    torch.manual_seed(0)
    image = torch.zeros(200, 21, 21, 1)
    image[:, 10, 10] = 100.0
    found = affine(image, 0.0, 0.0, 0.2)[..., 0]
    mass = found.sum((1, 2))
    along = torch.arange(21.0)
    rows = (found.sum(2) * along).sum(1) / mass - 10
    assert rows.abs().max() <= 0.2 * 21 + 1e-3
    assert rows.std() == pytest.approx(0.2 * 21 / 3**0.5, rel=0.2)
    assert len(rows.unique()) > 150


@pytest.mark.parametrize("options", [{"crop": -1}, {"scale": 1.0}, {"rotate": -3.0}])
def test_impossible_options_are_refused(options):
    with pytest.raises(OptionError, match=next(iter(options))):
        Augmentation(**options)


def test_the_global_generator_decides():
    before = images(20)
    change = Augmentation(crop=2, flip=True, cutout=3)
    torch.manual_seed(3)
    one = change(before)
    torch.manual_seed(3)
    assert torch.equal(change(before), one)
    assert not torch.equal(change(before), one)
