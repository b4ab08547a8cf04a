import numpy as np
import pytest
import torch
from PIL import Image

from dlarch.errors import DataError
from dlarch.processing import ImageProcessor, processor_from_dict
from dlarch.processing.image import pixel_shape, read_pixels

RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (6, 8, 3), np.uint8)


def processor(channels=3):
    mean, std = [0.2, 0.5, 0.7][:channels], [0.3, 0.2, 0.4][:channels]
    return ImageProcessor((channels, 6, 8), mean, std, ["cat", "dog"])


def test_encoding_is_the_formula_and_decoding_its_inverse():
    image = processor().encode([PIXELS]).image
    wanted = (PIXELS / 255 - [0.2, 0.5, 0.7]) / [0.3, 0.2, 0.4]
    np.testing.assert_allclose(image[0].permute(1, 2, 0), wanted, atol=1e-5)
    assert np.array_equal(processor().decode(image)[0], PIXELS)


def test_files_pictures_and_pixels_are_the_same(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    images = (
        processor()
        .encode([tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(PIXELS), PIXELS])
        .image
    )
    assert torch.equal(images, images[:1].expand_as(images))


def test_grey_and_coloured_images_become_what_the_model_reads():
    assert processor(1).encode([PIXELS]).image.shape == (1, 1, 6, 8)
    grey = read_pixels(PIXELS[..., 0], (3, 6, 8))
    assert np.array_equal(grey[..., 0], grey[..., 2])
    assert pixel_shape(PIXELS[..., 0]) == (1, 6, 8)
    assert pixel_shape(PIXELS) == (3, 6, 8)


def test_sixteen_bits_become_eight_and_are_not_cut_off(tmp_path):
    grey = PIXELS[..., 0]
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    deep.save(tmp_path / "deep.png")
    wide = Image.fromarray(grey.astype(np.int32) * 257)  # how older Pillows open such a file
    for image in (tmp_path / "deep.png", deep, wide, Image.fromarray(grey.astype(np.int32))):
        assert np.array_equal(read_pixels(image, (1, 6, 8))[..., 0], grey)


def test_the_largest_part_in_the_middle_is_resized():
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 200  # the middle third
    assert read_pixels(wide, (3, 5, 5)).min() > 150
    assert read_pixels(wide.transpose(1, 0, 2).copy(), (3, 5, 5)).min() > 150


def test_what_is_stored_comes_back():
    values = processor().to_dict()
    assert processor_from_dict(values) == processor()


def test_bad_images_are_named(tmp_path):
    (tmp_path / "text.png").write_text("no image")
    for raw, words in (
        ([tmp_path / "none.png"], "There is no image"),
        ([tmp_path / "text.png"], r"text\.png is no image"),
        ([np.zeros((4, 4))], "must be uint8"),
        ("a.png", "list of images"),
    ):
        with pytest.raises(DataError, match=words):
            processor().encode(raw)
    broken = tmp_path / "broken.png"
    Image.fromarray(RANDOM.integers(0, 256, (90, 90, 3), np.uint8)).save(broken)
    broken.write_bytes(broken.read_bytes()[:2000])
    with pytest.raises(DataError, match="damaged"):
        processor().encode([broken])
