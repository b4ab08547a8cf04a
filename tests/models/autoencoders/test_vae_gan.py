"""A critic's features for pixels: the losses of the three parts, layers, sizes of images."""

import copy
import functools

import pytest
import torch
from torch import nn, optim
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F  # noqa: N812

import dlarch
from dlarch.batches import ImageBatch
from dlarch.errors import OptionError
from dlarch.models.autoencoders.vae_gan import VAEGAN, FeatureCritic

SMALL = {"image_shape": (1, 4, 5), "code_size": 3, "hidden_sizes": (12,), "critic_sizes": (9, 7)}


def made(**options):
    torch.manual_seed(0)
    rates = {"optimizer": sgd(0.05), "critic_optimizer": sgd(0.1)}
    return VAEGAN(**SMALL | rates | options)


def sgd(rate):
    return functools.partial(optim.SGD, lr=rate)


def weights(module):
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(6, 1, 4, 5, generator=generator)
    return ImageBatch(image, torch.arange(6) % 3, torch.arange(6))


class Once(torch.utils.data.IterableDataset):
    def __init__(self, batch):
        self.batch = batch

    def __iter__(self):
        return iter([self.batch])

    def __len__(self):
        return 1


@pytest.mark.parametrize("feature_layer", [1, 2])
@pytest.mark.parametrize("gamma", [0.0, 0.7])
def test_a_step_is_algorithm_1(gamma, feature_layer, batch, trainer_of):
    """Each part against a copy of all, whose other parts stand still; KL of torch.distributions."""
    model = made(gamma=gamma, feature_layer=feature_layer)
    expected = {}
    for part in ("encoder", "decoder", "critic"):
        other = copy.deepcopy(model)
        torch.manual_seed(5)
        noise, drawn = torch.randn(1, 2, 6, 3)[0]
        hidden = other.encoder(batch.image)
        posterior = Normal(other.mean(hidden), (other.log_variance(hidden) / 2).exp())
        again = other.decoder(posterior.loc + posterior.scale * noise).sigmoid()
        invented = other.decoder(drawn).sigmoid()

        def seen(image, critic=other.critic):
            """Features and rating, by the layers one after the other."""
            first = critic.layers[0](2 * image - 1)
            second = critic.layers[1](first)
            return (first, second)[feature_layer - 1], critic.rating(second)

        (real, rating), (kept, rating_again), (_, rating_made) = map(
            seen, (batch.image, again, invented)
        )
        nats = F.mse_loss(kept, real, reduction="sum") / 2 / 6
        kl = kl_divergence(posterior, Normal(0.0, 1.0)).sum() / 6
        ones, zeros = torch.ones(6), torch.zeros(6)
        nll = F.binary_cross_entropy_with_logits
        if part == "encoder":
            loss, rate = nats + kl, 0.05
        elif part == "decoder":
            loss, rate = gamma * nats + nll(rating_again, ones) + nll(rating_made, ones), 0.05
        else:
            rate = 0.1
            loss = nll(rating, ones) + nll(rating_again, zeros) + nll(rating_made, zeros)
        loss.backward()
        names = ("encoder", "mean", "log_variance") if part == "encoder" else (part,)
        for name in names:
            for parameter in other.get_submodule(name).parameters():
                parameter.data -= rate * parameter.grad
            expected[name] = weights(other.get_submodule(name))
    torch.manual_seed(5)
    trainer = trainer_of(max_epochs=1)
    trainer.fit(model, Once(batch))
    assert trainer.global_step == 2
    for name, values in expected.items():
        torch.testing.assert_close(weights(model.get_submodule(name)), values)


def test_terms_are_summed_over_features_and_averaged_over_images(batch, trainer_of):
    model = made()
    model.processor = None
    (scores,) = trainer_of().test(model, Once(batch), verbose=False)
    model.eval()
    with torch.no_grad():
        noise = model._noise(batch)
        posterior = model.posterior(batch.image)
        real = model.critic(batch.image).features
        again = model.critic(model.decode(posterior.code(noise[:, 0]))).features
        made_images = model.decode(noise[:, 1])
    normal = Normal(again, 1.0)
    best = Normal(real, 1.0).log_prob(real)  # the constant is left out
    nats = (best - normal.log_prob(real)).sum(1).mean()
    assert scores["test/reconstruction"] == pytest.approx(float(nats), rel=1e-5)
    scale = (posterior.log_variance / 2).exp()
    kl = kl_divergence(Normal(posterior.mean, scale), Normal(0.0, 1.0)).sum(1).mean()
    assert scores["test/kl"] == pytest.approx(float(kl), rel=1e-5)
    assert made_images.shape == batch.image.shape
    with torch.no_grad():
        errors = (model(batch.image) - batch.image).square().sum((1, 2, 3)).mean()
    assert scores["test/sse"] == pytest.approx(float(errors), rel=1e-5)


# ---- layers


def test_features_are_those_of_the_layer_that_was_asked_for():
    torch.manual_seed(0)
    image = torch.rand(2, 3, 12, 13)
    shapes = [5 * 6 * 6, 7 * 3 * 3, 11]
    for layer, size in enumerate(shapes, start=1):
        critic = FeatureCritic((3, 12, 13), (5, 7), (11,), layer)
        seen = critic(image)
        assert seen.features.shape == (2, size)
        hidden = 2 * image - 1
        for each in critic.layers[:layer]:
            hidden = each(hidden)
        assert torch.equal(seen.features, hidden.flatten(1))
        assert seen.rating.shape == (2,)


def test_matrices_have_singular_values_of_at_most_1_if_asked_for():
    model = made(spectral_norm=True, critic_sizes=(20, 30))
    model.train()
    for _ in range(60):  # the largest value is found step by step
        model.critic(torch.rand(2, 1, 4, 5))
    for layer in model.critic.modules():
        if isinstance(layer, nn.Linear):
            assert float(torch.linalg.svdvals(layer.weight)[0]) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(
    ("shape", "widths"),
    [
        ((1, 8, 8), ()),
        ((1, 8, 8), (4,)),
        ((1, 28, 28), (4, 8)),
        ((3, 17, 31), (4, 8)),
        ((3, 64, 64), (4, 8, 8, 8)),
    ],
)
def test_images_of_any_size_are_drawn_again_and_learnt(shape, widths, trainer_of):
    torch.manual_seed(0)
    model = VAEGAN(
        image_shape=shape, widths=widths, hidden_sizes=(16,), critic_sizes=(8,), feature_layer=1
    )
    before = [weights(part) for part in (model.encoder, model.decoder, model.critic)]
    images = torch.rand(3, *shape)
    trainer_of(max_epochs=1).fit(model, Once(ImageBatch(images, torch.arange(3))))
    for part, was in zip((model.encoder, model.decoder, model.critic), before, strict=True):
        assert (weights(part) != was).any()
    again = model(images)
    assert again.shape == (3, *shape)
    assert again.min() >= 0
    assert again.max() <= 1


def test_what_makes_no_sense_is_refused():
    with pytest.raises(OptionError, match="0 or more, not -1"):
        made(gamma=-1.0)
    with pytest.raises(OptionError, match="one of the critic's 2 hidden layers, not 3"):
        made(feature_layer=3)
    with pytest.raises(OptionError, match=r"fewer --model\.widths"):
        made(widths=(2, 2, 2, 2))


@pytest.mark.slow
def test_what_is_alike_for_the_critic_comes_to_be_alike(trainer_of):
    """Trained on digits, images are drawn again far better than by an untrained pair."""
    data = dlarch.create_data("digits", batch_size=64)
    data.prepare_data()
    data.setup()
    torch.manual_seed(0)
    model = dlarch.create_model("vae_gan", data, hidden_sizes=(128,), critic_sizes=(128, 128))
    trainer = trainer_of(max_epochs=12, limit_val_batches=0)
    (before,) = trainer.test(model, datamodule=data, verbose=False)
    trainer.fit(model, datamodule=data)
    (after,) = trainer.test(model, datamodule=data, verbose=False)
    print(before, after)
    assert after["test/sse"] < before["test/sse"] / 2
    assert after["test/mmd"] < before["test/mmd"] / 3
    assert after["test/active_units"] >= 5
