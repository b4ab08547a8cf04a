"""Networks of convolutions: sizes, published counts of parameters, independence of a batch."""

import pytest
import torch
from torch import nn

import dlarch
from dlarch.errors import OptionError
from dlarch.models.gans.dcgan import DCGAN, halvings
from dlarch.optim import CalmAdam

OPTIMIZERS = ("optimizer", "critic_optimizer")


@pytest.mark.parametrize(
    "shape", [(1, 16, 16), (3, 17, 31), (1, 28, 28), (3, 32, 32), (3, 30, 45), (3, 64, 64)]
)
def test_images_of_any_size_are_made_and_rated(shape):
    model = DCGAN(image_shape=shape, noise_size=5, width=2)
    images = model(torch.randn(3, 5))
    assert images.shape == (3, *shape)
    assert images.min() >= 0
    assert images.max() <= 1
    assert model.rate(torch.randn(3, *shape), None).shape == (3,)


def test_sides_are_halved_down_to_4_to_7():
    for side in range(16, 300):
        assert 4 <= side / 2 ** halvings(side, 2 * side) < 8
    with pytest.raises(OptionError, match="need 16 x 16"):
        DCGAN(image_shape=(1, 8, 8))


def test_the_network_for_64_pixels_has_the_parameters_of_the_published_one():
    """Of PyTorch's DCGAN example with nz 100, ngf 64, ndf 64: 3,576,704 and 2,765,568."""
    model = DCGAN(image_shape=(3, 64, 64))

    def count(network):
        return sum(parameter.numel() for parameter in network.parameters())

    # Ours has biases where an image is made and where one is first read, and one of the rating.
    assert count(model.generator) == 3_576_704 + 3
    assert count(model.critic) == 2_765_568 + 64 + 1


def test_weights_start_as_in_the_paper():
    torch.manual_seed(0)
    model = DCGAN(image_shape=(3, 32, 32))
    for layer in [*model.generator, *model.critic]:
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.1)
        elif isinstance(layer, nn.BatchNorm2d):
            assert layer.weight.mean().item() == pytest.approx(1, abs=0.01)
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.5)


def test_spectral_normalisation_takes_the_place_of_that_of_batches():
    model = DCGAN(image_shape=(1, 16, 16), width=4, spectral_norm=True)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in model.critic)
    alone, together = torch.randn(1, 1, 16, 16), torch.randn(3, 1, 16, 16)
    together[0] = alone[0]
    model.critic.eval()
    torch.testing.assert_close(model.rate(alone, None)[0], model.rate(together, None)[0])


@pytest.mark.slow
def test_figures_in_the_middle_are_learnt(trainer_of):
    """Squares that are all alike: made ones are bright in the same place."""
    from dlarch.batches import ImageBatch

    images = torch.zeros(64, 1, 16, 16)
    images[:, :, 4:12, 4:12] = 1
    batch = ImageBatch(images, torch.zeros(64, dtype=torch.long), torch.arange(64))

    class Once(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter([batch])

        def __len__(self):
            return 1

    torch.manual_seed(1)
    quick = {name: lambda parameters: CalmAdam(parameters, lr=2e-3) for name in OPTIMIZERS}
    model = dlarch.create_model(
        "dcgan", image_shape=(1, 16, 16), width=4, noise_size=4, ema=0.9, **quick
    )
    trainer_of(max_epochs=150, limit_val_batches=0).fit(model, Once())
    with torch.no_grad():
        made = model.eval()(torch.randn(16, 4)).mean(0)[0]
    inside = made[5:11, 5:11].mean().item()
    outside = torch.cat((made[:3].flatten(), made[13:].flatten())).mean().item()
    assert inside > outside + 0.5  # equal before
