"""The VAE against probabilistic PCA, its linear case, and its bounds against each other."""

import math
from itertools import pairwise

import pytest
import torch
from torch import optim
from torch.distributions import MultivariateNormal

import dlarch
from dlarch.batches import ImageBatch
from dlarch.errors import OptionError
from dlarch.models.autoencoders.vae import VAE
from dlarch.tasks.latent import walked

SHAPE = (1, 2, 3)


def linear_vae():
    return VAE(image_shape=SHAPE, code_size=2, hidden_sizes=(), likelihood="gaussian").eval()


@pytest.fixture(scope="module")
def images():
    """500 points of a plane in six dimensions, with noise."""
    generator = torch.Generator().manual_seed(0)
    plane = torch.randn(2, 6, generator=generator)
    points = torch.randn(500, 2, generator=generator) * torch.tensor([2.0, 1.0]) @ plane
    return 0.3 + 0.3 * points + 0.15 * torch.randn(500, 6, generator=generator)


class ProbabilisticPCA:
    """The maximum of the likelihood of x = W z + mean + noise (Tipping and Bishop 1999)."""

    def __init__(self, x, size):
        self.mean = x.mean(0)
        values, vectors = torch.linalg.eigh((x - self.mean).T @ (x - self.mean) / len(x))
        values, vectors = values.flip(0), vectors.flip(1)
        self.variance = values[size:].mean()
        self.weight = vectors[:, :size] * (values[:size] - self.variance).sqrt()
        covariance = self.weight @ self.weight.T + self.variance * torch.eye(x.shape[1])
        self.nll = -MultivariateNormal(self.mean, covariance).log_prob(x)


def test_with_its_solution_the_bound_is_the_likelihood(images):
    pca, model = ProbabilisticPCA(images, 2), linear_vae()
    precision = pca.weight.T @ pca.weight + pca.variance * torch.eye(2)  # diagonal
    backward = torch.linalg.solve(precision, pca.weight.T)
    with torch.no_grad():
        model.decoder.dense[0].weight.copy_(pca.weight)
        model.decoder.dense[0].bias.copy_(pca.mean)
        model.pixel_log_variance.copy_(pca.variance.log())
        model.mean.weight.copy_(backward)
        model.mean.bias.copy_(-backward @ pca.mean)
        model.log_variance.weight.zero_()
        model.log_variance.bias.copy_((pca.variance / precision.diagonal()).log())
        x = images.view(-1, *SHAPE)
        for count in (1, 7):  # the true posterior needs one code, whichever is drawn
            found = model.importance_nll(x, model.posterior(x), torch.randn(500, count, 2))
            torch.testing.assert_close(found, pca.nll, atol=1e-3, rtol=0)
        bounds = [model.bound(x, torch.randn(500, 2)).reconstruction.mean() for _ in range(200)]
        kl = model.bound(x, torch.zeros(500, 2)).kl.sum(1).mean()
    assert float(sum(bounds) / 200 + kl) == pytest.approx(float(pca.nll.mean()), abs=0.02)


def test_training_finds_that_solution(images):
    pca, model = ProbabilisticPCA(images, 2), linear_vae()
    batch = ImageBatch(images.view(-1, *SHAPE), torch.zeros(500).long())
    torch.manual_seed(0)
    optimizer = optim.Adam(model.parameters(), lr=0.03)
    rates = optim.lr_scheduler.CosineAnnealingLR(optimizer, 1500)
    for _ in range(1500):
        optimizer.zero_grad()
        model.losses(batch).mean().backward()
        optimizer.step()
        rates.step()
    with torch.no_grad():
        bound = sum(model.losses(batch).mean() for _ in range(300)) / 300
    exact = float(pca.nll.mean())
    assert float(bound) == pytest.approx(exact, abs=0.03)
    assert model.pixel_log_variance.item() == pytest.approx(float(pca.variance.log()), abs=0.1)


@pytest.fixture(scope="module")
def trained():
    """A VAE that has seen digits, and some of them."""
    data = dlarch.create_data("digits", targets="threshold", train_size=400)
    data.prepare_data()
    data.setup()
    torch.manual_seed(0)
    model = dlarch.create_model("vae", data, code_size=4, hidden_sizes=[32], importance_samples=20)
    optimizer = optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(40):
        for batch in data.train_dataloader():
            optimizer.zero_grad()
            model.losses(batch).mean().backward()
            optimizer.step()
    return model.eval(), next(iter(data.val_dataloader()))


def test_more_codes_tighten_the_bound(trained):
    model, batch = trained
    x = batch.image[:60]
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        posterior = model.posterior(x)

        def bound(count):
            return torch.stack([
                model.importance_nll(
                    x, posterior, torch.randn(60, count, 4, generator=generator)
                ).mean()
                for _ in range(2000 // count)
            ]).mean()  # fmt: skip

        one, five, fifty = bound(1), bound(5), bound(50)
        elbo = torch.stack([
            sum(term.flatten(1).sum(1).mean() for term in (b.reconstruction[:, None], b.kl))
            for b in (model.bound(x, torch.randn(60, 4, generator=generator)) for _ in range(500))
        ]).mean()  # fmt: skip
    assert one > five + 0.1 > fifty + 0.13
    assert float(one) == pytest.approx(float(elbo), abs=0.15)  # with one code it is the bound


def test_codes_are_scored_in_parts_as_at_once(trained, monkeypatch):
    model, batch = trained
    noise = torch.randn(len(batch.image), 30, 4)
    with torch.no_grad():
        posterior = model.posterior(batch.image)
        whole = model.importance_nll(batch.image, posterior, noise)
        monkeypatch.setattr("dlarch.tasks.latent_images.AT_ONCE", batch.image.numel() * 7)
        parts = model.importance_nll(batch.image, posterior, noise)
    torch.testing.assert_close(parts, whole)


def test_the_estimates_of_the_test_do_not_depend_on_batches(trained):
    model, batch = trained

    def scores(size):
        model._metrics = model._fresh_metrics("test")
        with torch.no_grad():
            for start in range(0, 60, size):
                rows = slice(start, min(start + size, 60))
                model.score(ImageBatch(batch.image[rows], batch.label[rows], batch.example[rows]))
        return {name: float(metric.compute()) for name, metric in model._metrics.items()}

    whole = scores(60)
    assert "nll_is20" in whole
    assert whole["nll_is20"] < whole["loss"]
    assert scores(7) == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize(
    ("shape", "widths"),
    [((1, 28, 28), (8, 16)), ((3, 64, 64), (4, 8, 8, 8)), ((3, 21, 50), (4, 4, 4, 4))],
)
def test_convolutions_give_images_of_any_size_back(shape, widths):
    model = VAE(image_shape=shape, code_size=3, hidden_sizes=(20,), widths=widths).eval()
    image = torch.rand(2, *shape)
    assert model(image).shape == image.shape
    assert model.encoder.convolutions[0].weight.shape == (widths[0], shape[0], 4, 4)
    changed = image.clone()
    changed[:, :, -1, -1] += 1  # also what odd sizes leave over is read
    if all(side % 2 ** len(widths) == 0 for side in shape[1:]):
        assert not torch.equal(model.encode(changed), model.encode(image))


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("widths", [(), (4,)])
def test_training_begins_at_the_mean_image(likelihood, widths):
    data = dlarch.create_data("digits", train_size=50, batch_size=16)
    model = VAE(
        code_size=2, hidden_sizes=(8,), widths=widths, likelihood=likelihood, pictures=False,
        optimizer=lambda parameters: optim.SGD(parameters, lr=0.0),
    )  # fmt: skip
    options = {"logger": False, "enable_progress_bar": False, "test_after_fit": False}
    dlarch.fit(model, data, max_steps=1, **options)
    images = torch.cat([model.as_unit(batch).image for batch in data.in_order("train")])
    mean = images.mean((0, 2, 3)) if widths else images.mean(0).flatten()
    mean = mean.clamp(1e-3, 1 - 1e-3)
    expected = mean.logit() if likelihood == "bernoulli" else mean
    torch.testing.assert_close(model.decoder.bias.detach(), expected)
    with torch.no_grad():  # what has been trained is left as it is
        model.decoder.bias.fill_(0.3)
    dlarch.fit(model, data, max_steps=1, **options)
    assert model.decoder.bias.eq(0.3).all()


def test_images_too_small_to_be_halved_are_refused():
    with pytest.raises(OptionError, match=r"8 x 8 are too small for 4 .* fewer --model.widths"):
        VAE(image_shape=(1, 8, 8), widths=(4, 4, 4, 4))


def test_codes_of_a_walk_are_as_likely_as_drawn_ones():
    codes = walked(torch.randn(400, 10, generator=torch.Generator().manual_seed(0)), 5)
    assert codes.shape == (2000, 10)
    for step in range(5):
        assert codes[step::5].std().item() == pytest.approx(1, abs=0.03)
    ring = walked(torch.eye(2), 90)
    torch.testing.assert_close(ring.norm(dim=1), torch.ones(180))
    torch.testing.assert_close(ring[45], torch.full((2,), math.sqrt(0.5)))


def test_generated_images_are_those_of_the_seed(trained):
    model, _ = trained
    images = model.generate(70, seed=3)
    assert len(images) == 70
    assert images[0].shape == (8, 8, 1)
    again = model.generate(70, seed=3)
    assert all((one == other).all() for one, other in zip(images, again, strict=True))
    assert any((one != other).any() for one, other in pairwise(images))
    assert len(model.walk(3, steps=4, seed=0)) == 12
    with pytest.raises(OptionError, match="knows no classes"):
        model.generate(1, condition="7")
