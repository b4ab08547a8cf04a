"""Noise of three kinds, in training and in the metrics that say how much of it is taken away."""

import lightning as L  # noqa: N812
import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from dlarch import create_model
from dlarch.batches import ImageBatch
from dlarch.errors import OptionError
from dlarch.nn import corrupted


def make(**options):
    torch.manual_seed(0)
    sizes = {"image_shape": (1, 8, 8), "code_size": 20, "likelihood": "gaussian"}
    return create_model("denoising_autoencoder", **sizes | options).eval()


def batch(count=40):
    image = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.6 + 0.2
    return ImageBatch(image, torch.zeros(count).long(), torch.arange(count))


def scored(model, batches, tmp_path):
    trainer = L.Trainer(
        accelerator="cpu", devices=1, logger=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    loader = torch.utils.data.DataLoader(batches, batch_size=None)
    return trainer.test(model, loader, verbose=False)[0]


@pytest.mark.parametrize("amount", [0.1, 0.4])
def test_noise_is_what_it_is_called(amount):
    torch.manual_seed(0)
    image = torch.full((500, 1, 20, 20), 0.5)
    normal = torch.randn_like(image)
    added = corrupted(image, normal, "gaussian", amount) - image
    assert added.mean().item() == pytest.approx(0, abs=3e-3)
    assert added.std().item() == pytest.approx(amount, rel=0.01)
    masked = corrupted(image, normal, "masking", amount)
    assert set(masked.unique().tolist()) == {0.0, 0.5}
    assert masked.eq(0).float().mean().item() == pytest.approx(amount, abs=5e-3)
    salted = corrupted(image, normal, "salt_and_pepper", amount)
    assert set(salted.unique().tolist()) == {0.0, 0.5, 1.0}
    assert salted.eq(0).float().mean().item() == pytest.approx(amount / 2, abs=5e-3)
    assert salted.eq(1).float().mean().item() == pytest.approx(amount / 2, abs=5e-3)


def test_training_compares_with_the_clean_image():
    model, there = make(), batch()
    torch.manual_seed(4)
    normal = torch.randn_like(there.image)
    torch.manual_seed(4)
    found = model.losses(there)
    noisy = corrupted(there.image, normal, "masking", 0.3)
    expected = F.mse_loss(model(noisy), there.image, reduction="sum")
    torch.testing.assert_close(found.sum(), expected)


def test_the_noise_of_a_metric_is_the_images_own(tmp_path):
    model, there = make(noise="gaussian", amount=0.3), batch()
    whole = scored(model, [there], tmp_path)
    assert whole["test/noisy_mse"] == pytest.approx(0.09, rel=0.05)
    rows = torch.arange(40).flip(0)
    parts = [ImageBatch(*(field[rows[n : n + 7]] for field in there[:3])) for n in range(0, 40, 7)]
    torch.manual_seed(9)
    assert scored(model, parts, tmp_path) == pytest.approx(whole, rel=1e-5)


def test_without_noise_it_is_an_autoencoder(tmp_path):
    model = make(amount=0.0)
    found = scored(model, [batch()], tmp_path)
    assert found["test/noisy_mse"] == 0
    assert found["test/denoised_mse"] == pytest.approx(found["test/sse"] / 64, rel=1e-5)
    assert found["test/loss"] == pytest.approx(found["test/sse"], rel=1e-5)


def test_it_takes_most_of_the_noise_away_from_images_that_it_knows(tmp_path):
    model = make(noise="salt_and_pepper", amount=0.2)
    there = batch(4)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(400):
        optimizer.zero_grad()
        model.losses(there).mean().backward()
        optimizer.step()
    found = scored(model, [there], tmp_path)
    assert found["test/denoised_mse"] < 0.5 * found["test/noisy_mse"]
    noisy = model.noisy(there.image, torch.randn_like(there.image))
    cleaner = F.mse_loss(model.denoise(noisy), there.image)
    assert cleaner < 0.5 * F.mse_loss(noisy, there.image)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"noise": "salt"}, "noise must be one of gaussian, salt_and_pepper, masking, not 'salt'"),
        ({"amount": 1.5}, "a share of the pixels, 0 to 1"),
        ({"noise": "gaussian", "amount": -1.0}, "at least 0, not -1.0"),
    ],
)
def test_noise_that_cannot_be_is_refused(options, words):
    with pytest.raises(OptionError, match=words):
        make(**options)
