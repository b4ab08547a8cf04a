"""The class reaches both networks, and is obeyed."""

import pytest
import torch
from torch import optim

import dlarch
from dlarch.errors import OptionError
from dlarch.models.gans.cgan import CGAN


@pytest.mark.parametrize("architecture", ["dense", "convolutional"])
def test_the_class_changes_what_is_made_and_how_it_is_rated(architecture):
    torch.manual_seed(0)
    model = CGAN(
        num_classes=3, image_shape=(1, 16, 18), architecture=architecture, noise_size=4, width=4
    ).eval()
    noise, image = torch.randn(1, 4).expand(3, 4), torch.randn(1, 1, 16, 18).expand(3, -1, -1, -1)
    made = model(noise, torch.arange(3))
    rated = model.rate(image, torch.arange(3))
    assert made.shape == (3, 1, 16, 18)
    for one, other in ((0, 1), (1, 2), (0, 2)):
        assert (made[one] - made[other]).abs().max() > 1e-5
        assert (rated[one] - rated[other]).abs() > 1e-6
    assert torch.equal(model(noise)[2], made[2])  # classes come one after the other


def test_convolutions_need_images():
    with pytest.raises(OptionError, match=r"give --model\.architecture dense"):
        CGAN(architecture="convolutional", in_features=2, num_classes=3)


@pytest.mark.slow
def test_points_of_the_class_asked_for_are_made(trainer_of):
    data = dlarch.create_data(
        "toy_2d", shape="blobs", classes=3, noise=0.2, size=2000, batch_size=100
    )

    def adam(parameters):
        return optim.Adam(parameters, lr=2e-3, betas=(0.5, 0.9))

    torch.manual_seed(1)
    model = dlarch.create_model(
        "cgan", data, noise_size=4, generator_sizes=(32, 32), critic_sizes=(32, 32), ema=0.98,
        critic_steps=2, pictures=False, optimizer=adam, critic_optimizer=adam,
    )  # fmt: skip
    trainer_of(max_steps=1500, max_epochs=-1, limit_val_batches=0).fit(model, datamodule=data)
    centres = torch.tensor(data.processor.denormalize(data.modes.centres))
    for label in range(3):
        made = torch.tensor(model.eval().generate(300, condition=str(label), seed=1))
        nearest = torch.cdist(made, centres).argmin(1)
        assert (nearest == label).float().mean() > 0.9
