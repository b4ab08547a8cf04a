"""Losses against torch's own, bounds of spectral normalisation, slopes by finite differences."""

from functools import partial

import pytest
import torch
from torch import nn, optim
from torch.nn import functional as F  # noqa: N812

import dlarch
from dlarch.errors import OptionError
from dlarch.models.gans.gan import GAN
from dlarch.models.gans.wgan_gp import WGANGP
from dlarch.tasks.made import HighQuality, ModesCovered

SIZES = {"in_features": 2, "noise_size": 3, "generator_sizes": (16,), "critic_sizes": (16, 16)}


def ratings(seed):
    return 3 * torch.randn(9, generator=torch.Generator().manual_seed(seed))


def test_losses_are_the_cross_entropies_of_torch():
    real, made, ones, zeros = ratings(0), ratings(1), torch.ones(9), torch.zeros(9)
    entropy = F.binary_cross_entropy_with_logits
    model = GAN(**SIZES)
    critic = model.critic_losses(real, made).mean()
    torch.testing.assert_close(critic, entropy(real, ones) + entropy(made, zeros))
    torch.testing.assert_close(model.generator_losses(made).mean(), entropy(made, ones))
    saturating = GAN(objective="saturating", **SIZES).generator_losses(made)
    torch.testing.assert_close(saturating.mean(), -entropy(made, zeros))


def test_only_the_saturating_loss_loses_its_slope_before_a_sure_critic():
    def slope(objective):
        made = torch.full((1,), -10.0, requires_grad=True)
        GAN(objective=objective, **SIZES).generator_losses(made).sum().backward()
        return made.grad.item()

    assert slope("non_saturating") == pytest.approx(-1, abs=1e-3)
    assert slope("saturating") == pytest.approx(0, abs=1e-3)


def test_a_critic_that_knows_nothing_loses_log_4():
    nothing = torch.zeros(1)
    assert GAN(**SIZES).critic_losses(nothing, nothing).item() == pytest.approx(1.3863, abs=1e-4)


def test_spectral_normalisation_bounds_the_critic():
    """Largest singular values of 1, as torch.linalg finds them, so that no slope is above 1."""
    torch.manual_seed(0)
    model = GAN(spectral_norm=True, **SIZES).train()
    for _ in range(30):  # one step of the power iteration each
        model.rate(torch.randn(4, 2), torch.zeros(4))
    layers = [layer for layer in model.critic.modules() if isinstance(layer, nn.Linear)]
    for layer in layers:
        largest = torch.linalg.svdvals(layer.weight)[0].item()
        assert largest == pytest.approx(1, abs=0.02)
    model.eval()
    one, other = 5 * torch.randn(2, 500, 2)
    rise = (model.rate(one, None) - model.rate(other, None)).abs()
    assert (rise <= 1.05 * (one - other).norm(dim=1)).all()


def test_an_initializer_reaches_weights_that_are_normalised():
    made = GAN(spectral_norm=True, initializer=partial(nn.init.constant_, val=0.5), **SIZES)
    for layer in made.critic.modules():
        if isinstance(layer, nn.Linear):
            assert (layer.parametrizations["weight"].original == 0.5).all()


# ---- WGAN-GP


def test_slopes_are_those_of_finite_differences():
    torch.manual_seed(0)
    model = WGANGP(**SIZES, critic_activation="tanh").double()
    real, made = torch.randn(2, 5, 2, dtype=torch.float64)
    torch.manual_seed(7)
    found = model.slopes(real, made)
    torch.manual_seed(7)
    shares = torch.rand(5, 1, dtype=torch.float64)
    between = shares * real + (1 - shares) * made
    steps = 1e-5 * torch.eye(2, dtype=torch.float64)

    def rate(points):
        return model.critic(points)[:, 0]

    parts = [(rate(between + step) - rate(between - step)) / 2e-5 for step in steps]
    torch.testing.assert_close(found, torch.stack(parts).norm(dim=0), atol=1e-6, rtol=1e-5)


def test_the_penalty_is_0_where_slopes_are_1():
    model = WGANGP(**SIZES, gradient_weight=4.0)
    real, made = torch.randn(2, 6, 2)
    direction = torch.tensor([[0.6], [0.8]])
    model.critic = nn.Linear(2, 1, bias=False)
    model.critic.weight.data = direction.T
    assert model.penalty(real, made, None).item() == pytest.approx(0, abs=1e-10)
    model.critic.weight.data = 3 * direction.T
    assert model.penalty(real, made, None).item() == pytest.approx(4 * (3 - 1) ** 2)


def test_the_critic_loss_is_minus_the_difference_of_means():
    real, made = ratings(0), ratings(1)
    model = WGANGP(**SIZES)
    expected = made.mean() - real.mean()
    torch.testing.assert_close(model.critic_losses(real, made).mean(), expected)
    torch.testing.assert_close(model.generator_losses(made).mean(), -made.mean())


def test_convolutions_need_images():
    with pytest.raises(OptionError, match=r"give --model\.architecture dense"):
        WGANGP(architecture="convolutional", in_features=2)
    with pytest.raises(OptionError, match="gradient_weight must be above 0"):
        WGANGP(gradient_weight=0.0)
    critic = WGANGP(architecture="convolutional", image_shape=(1, 16, 16), width=4).critic
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in critic)


# ---- learning


@pytest.mark.slow
@pytest.mark.parametrize(("name", "good"), [("gan", 0.8), ("wgan_gp", 0.4)])
def test_wide_blobs_are_learnt(name, good, trainer_of):
    """Two Gaussians with a deviation of 0.2, a minute's work of a textbook."""
    data = dlarch.create_data("toy_2d", shape="blobs", noise=0.2, size=2000, batch_size=100)
    torch.manual_seed(1)
    rates = {"optimizer": _adam, "critic_optimizer": _adam}
    model = dlarch.create_model(
        name, data, noise_size=4, generator_sizes=(32, 32), critic_sizes=(32, 32), ema=0.98,
        critic_steps=2, pictures=False, **rates,
    )  # fmt: skip
    trainer_of(max_steps=1500, max_epochs=-1, limit_val_batches=0).fit(model, datamodule=data)
    made = torch.tensor(model.eval().generate(1000, seed=1))
    modes = data.modes
    made = data.processor.normalize(made.double().numpy())
    scores = {}
    for metric in (ModesCovered(modes), HighQuality(modes)):
        metric.update(made)
        scores[type(metric).__name__] = metric.compute().item()
    assert scores["ModesCovered"] == 2
    assert scores["HighQuality"] > good


def _adam(parameters):
    return optim.Adam(parameters, lr=2e-3, betas=(0.5, 0.9))
