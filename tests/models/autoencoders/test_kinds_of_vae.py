"""What beta, capacity, classes, several codes and a discriminator change of a VAE."""

import math

import pytest
import torch
from torch import optim
from torch.distributions import Bernoulli, MultivariateNormal, Normal, kl_divergence

import dlarch
from dlarch.batches import ImageBatch
from dlarch.errors import DataError, OptionError
from dlarch.models.autoencoders.beta_vae import BetaVAE
from dlarch.models.autoencoders.cvae import CVAE
from dlarch.models.autoencoders.factor_vae import FactorVAE
from dlarch.models.autoencoders.iwae import IWAE
from dlarch.models.autoencoders.vae import VAE

SMALL = {"image_shape": (1, 4, 5), "code_size": 3, "hidden_sizes": (12,)}


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    image = (torch.rand(6, 1, 4, 5, generator=generator) > 0.5).float()
    return ImageBatch(image, torch.arange(6) % 3)


def made(cls, **options):
    torch.manual_seed(0)
    return cls(**SMALL, **options).eval()


def losses(model, batch):
    torch.manual_seed(1)
    with torch.no_grad():
        return model.losses(batch)


# ---- beta-VAE


def test_beta_1_is_a_vae(batch):
    plain, model = made(VAE, activation="relu"), made(BetaVAE, beta=1.0)
    model.load_state_dict(plain.state_dict())
    torch.testing.assert_close(losses(model, batch).mean(), losses(plain, batch).mean())


def test_what_is_told_beside_the_capacity_costs_beta(batch):
    model = made(BetaVAE, beta=7.0, capacity=2.0, capacity_steps=10)
    bound = model.bound(batch.image, torch.zeros(6, 3))
    told = bound.kl.sum(1).mean()
    model.capacity_at = lambda: BetaVAE.capacity_at(model, 4)
    expected = bound.reconstruction.mean() + 7 * abs(told - 0.8)
    torch.testing.assert_close(model.objective(bound).mean(), expected)
    assert [BetaVAE.capacity_at(model, step) for step in (0, 5, 10, 99)] == [0, 1, 2, 2]


def test_no_negative_beta():
    with pytest.raises(OptionError, match="0 or more, not -1"):
        BetaVAE(beta=-1.0)


# ---- CVAE


@pytest.fixture(scope="module")
def digits():
    data = dlarch.create_data("digits", targets="threshold", train_size=600)
    data.prepare_data()
    data.setup()
    return data


@pytest.fixture(scope="module")
def conditional(digits):
    torch.manual_seed(0)
    model = dlarch.create_model("cvae", digits, code_size=2, hidden_sizes=[64])
    optimizer = optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(25):
        for batch in digits.train_dataloader():
            optimizer.zero_grad()
            model.losses(batch).mean().backward()
            optimizer.step()
    return model.eval()


def test_classes_stand_behind_pixels_and_codes():
    model = CVAE(**SMALL, num_classes=7)
    assert model.encoder.dense[0].in_features == 20 + 7
    assert model.decoder.dense[0].in_features == 3 + 7


def test_images_are_of_the_class_that_was_asked_for(conditional, digits):
    """The nearest mean of the training digits is that of the class, for most."""
    images = torch.cat([batch.image for batch in digits.in_order("train")])
    labels = torch.cat([batch.label for batch in digits.in_order("train")])
    means = torch.stack([images[labels == k].mean(0) for k in range(10)]).flatten(1)
    right = 0
    for name in range(10):
        drawn = conditional.generate(20, condition=str(name), seed=name)
        pixels = torch.stack([torch.from_numpy(each) for each in drawn]).flatten(1) / 255
        right += int((torch.cdist(pixels, means).argmin(1) == name).sum())
    assert right >= 160


def test_a_class_that_is_not_there_is_refused_with_the_nearest(conditional):
    with pytest.raises(DataError, match=r"no class '17', only 0, 1, .* Did you mean '[17]'"):
        conditional.generate(1, condition="17")


def test_images_are_drawn_again_as_of_other_classes(conditional):
    image = conditional.generate(1, condition="3", seed=0)
    as_three, as_one = conditional.reconstruct(image * 2, ["3", "1"])
    assert abs(as_three.astype(int) - as_one).mean() > 10
    with pytest.raises(OptionError, match="give classes"):
        conditional.reconstruct(image)


def test_each_row_of_drawn_images_has_a_class_and_the_codes_of_the_others(conditional):
    grid = conditional._prior_images(torch.device("cpu"))
    assert grid.shape == (10, 8, 1, 8, 8)
    codes = torch.randn((64, 2), generator=torch.Generator().manual_seed(0))[:8]
    torch.testing.assert_close(grid[4], conditional.decode(codes, torch.full((8,), 4)))


# ---- IWAE


def test_the_bound_is_the_mean_of_importance_weights(batch):
    """Written out with torch.distributions."""
    model = made(IWAE, samples=4)
    torch.manual_seed(1)
    noise = torch.randn(6, 4, 3)
    with torch.no_grad():
        mean, log_variance = model.posterior(batch.image)
        posterior = Normal(mean[:, None], (0.5 * log_variance[:, None]).exp())
        code = posterior.loc + posterior.scale * noise
        logits = model.output(code.flatten(0, 1)).unflatten(0, (6, 4))
        weights = Bernoulli(logits=logits).log_prob(batch.image[:, None]).sum((2, 3, 4))
        weights += (Normal(0.0, 1.0).log_prob(code) - posterior.log_prob(code)).sum(-1)
        expected = -torch.stack([row.exp().mean().log() for row in weights])
    torch.testing.assert_close(losses(model, batch), expected, rtol=1e-4, atol=1e-4)


def test_more_codes_make_a_tighter_bound_in_training_and_validation(batch):
    means = []
    for samples in (1, 5, 50):
        model = made(IWAE, samples=samples)
        with torch.no_grad():
            means.append(torch.stack([model.losses(batch).mean() for _ in range(400)]).mean())
    assert means[0] > means[1] > means[2]
    plain = made(VAE)
    with torch.no_grad():
        elbo = torch.stack([plain.losses(batch).mean() for _ in range(400)]).mean()
    assert float(means[0]) == pytest.approx(float(elbo), abs=0.1)


def test_validation_scores_its_own_bound(batch):
    model = made(IWAE, samples=5)
    model._metrics = model._fresh_metrics("val")
    with torch.no_grad():
        model.score(batch._replace(example=torch.arange(6)))
        noise = model._noise(batch._replace(example=torch.arange(6)), 5)
        expected = model.importance_nll(batch.image, model.posterior(batch.image), noise).mean()
    assert float(model._metrics["loss"].compute()) == pytest.approx(float(expected))


# ---- FactorVAE


def test_the_total_correlation_of_a_gaussian_is_found():
    """-log(1 - rho^2) / 2 nats for two numbers of correlation rho."""
    model = made(FactorVAE, discriminator_sizes=(64, 64))
    covariance = torch.tensor([[1.0, 0.8, 0.0], [0.8, 1.0, 0.0], [0.0, 0.0, 1.0]])
    codes = MultivariateNormal(torch.zeros(3), covariance)
    optimizer = optim.Adam(model.discriminator.parameters(), lr=3e-3)
    torch.manual_seed(0)
    for _ in range(400):
        optimizer.zero_grad()
        model.discriminator_losses(codes.sample((500,))).mean().backward()
        optimizer.step()
    with torch.no_grad():
        found = float(model.nats_apart(codes.sample((5000,))).mean())
    apart = MultivariateNormal(torch.zeros(3), torch.eye(3))
    exact = float(kl_divergence(codes, apart))
    assert exact == pytest.approx(-0.5 * math.log(1 - 0.64))
    assert found == pytest.approx(exact, abs=0.1)


def test_each_network_is_trained_by_its_own_loss(batch):
    """The discriminator's cross-entropy is no part of the loss, and reaches nothing else."""
    plain, model = made(VAE, activation="relu"), made(FactorVAE, gamma=0.0)
    model.load_state_dict(plain.state_dict(), strict=False)
    torch.testing.assert_close(losses(model, batch), losses(plain, batch))
    for each in (plain, model):
        torch.manual_seed(1)
        each.losses(batch).mean().backward()
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(model.get_parameter(name).grad, parameter.grad)
    assert all(p.grad.ne(0).any() for p in model.discriminator.parameters())
    # With gamma the discriminator still minimises its own loss alone.
    before = [p.grad.clone() for p in model.discriminator.parameters()]
    model.zero_grad()
    model.hparams.gamma = 50.0
    torch.manual_seed(1)
    model.losses(batch).mean().backward()
    for p, gradient in zip(model.discriminator.parameters(), before, strict=True):
        torch.testing.assert_close(p.grad, gradient)
    assert not torch.equal(model.mean.weight.grad, plain.mean.weight.grad)
