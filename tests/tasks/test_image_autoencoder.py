"""Images through codes: the scale of pixels, sums and means, and what is shown."""

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from sklearn.datasets import load_digits

import dlarch
from dlarch.errors import OptionError
from dlarch.tasks.image_autoencoder import STEPS


@pytest.fixture(scope="module")
def digits():
    data = dlarch.create_data("digits", train_size=100, batch_size=40)
    data.prepare_data()
    data.setup()
    return data


@pytest.fixture
def trainer(tmp_path):
    return Trainer(
        default_root_dir=tmp_path, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, max_epochs=1,
    )  # fmt: skip


def whole(data, split):
    """All images of a split, in its order, as models get them."""
    return data.finished(split)[np.arange(len(data.dataset(split)))]


def test_models_see_pixels_from_0_to_1_however_they_are_normalised(digits):
    model = dlarch.create_model("autoencoder", digits, hidden_sizes=[20], code_size=5)
    batch = whole(digits, "test")
    seen = model.as_unit(batch).image
    known = {image.astype(int).tobytes() for image in load_digits().images}
    found = seen.mul(16).round().long().numpy()  # scikit-learn's are from 0 to 16
    assert {image.tobytes() for image in found} <= known
    assert seen.min() == pytest.approx(0, abs=1e-6)
    assert seen.max() == pytest.approx(1, abs=1e-6)
    assert batch.image.min() < -0.5  # as the data have normalised them
    model.processor = None
    assert model.as_unit(batch).image is batch.image


def test_errors_are_summed_over_pixels_and_averaged_over_images(digits, trainer):
    torch.manual_seed(0)
    model = dlarch.create_model(
        "autoencoder", digits, hidden_sizes=[20], code_size=5, likelihood="gaussian"
    )
    (figures,) = trainer.test(model, datamodule=digits, verbose=False)
    images = model.as_unit(whole(digits, "test")).image
    with torch.no_grad():
        errors = (model(images) - images).square().sum((1, 2, 3))
    assert figures["test/sse"] == pytest.approx(float(errors.mean()), rel=1e-4)
    assert figures["test/loss"] == pytest.approx(float(errors.mean()), rel=1e-4)


def test_the_first_images_are_kept_whatever_order_they_come_in(digits, trainer):
    model = dlarch.create_model("autoencoder", digits, hidden_sizes=[20], code_size=5)
    trainer.validate(model, datamodule=digits, verbose=False)
    kept = model.kept_codes()
    batch = model.as_unit(whole(digits, "validation"))
    torch.testing.assert_close(model.shown_images(), batch.image[:8])
    with torch.no_grad():
        torch.testing.assert_close(kept.codes, model.encode(batch.image))
    assert kept.classes == [digits.processor.class_names[label] for label in batch.label]
    assert len(kept.images) == len(batch.image)


def test_pictures_are_reconstructions_and_lines_between_codes(digits, trainer):
    model = dlarch.create_model("autoencoder", digits, hidden_sizes=[20], code_size=5)
    assert model.made_images() == {}
    trainer.validate(model, datamodule=digits, verbose=False)
    with torch.no_grad():
        drawn = model.made_images()
        shown = model.shown_images()
        again = model(shown)
    torch.testing.assert_close(drawn["reconstructions"], torch.stack((shown, again)))
    assert drawn["interpolations"].shape == (4, STEPS, 1, 8, 8)
    torch.testing.assert_close(drawn["interpolations"][1, 0], again[2])
    torch.testing.assert_close(drawn["interpolations"][1, -1], again[3])


def test_raw_images_are_drawn_again_in_their_own_scale(digits):
    model = dlarch.create_model("autoencoder", digits, hidden_sizes=[20], code_size=5)
    pixels = [np.full((8, 8), 9 * i, np.uint8) for i in range(3)]
    model.processor = None
    with pytest.raises(OptionError, match="no processor"):
        model.reconstruct(pixels)
    model.processor = digits.processor
    model.train()
    found = model.reconstruct(pixels)
    assert model.training
    assert [each.shape for each in found] == [(8, 8, 1)] * 3
    with torch.no_grad():
        expected = model(torch.tensor(np.stack(pixels))[:, None] / 255) * 255
    assert np.abs(found[2][..., 0] - expected[2, 0].numpy()).max() <= 1
