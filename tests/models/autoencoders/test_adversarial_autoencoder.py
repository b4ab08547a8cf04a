"""A critic of codes: the step of each network, the mixture, codes that come to lie as drawn."""

import copy
import functools
import math

import pytest
import torch
from torch import optim
from torch.nn import functional as F  # noqa: N812

import dlarch
from dlarch.batches import ImageBatch
from dlarch.errors import OptionError
from dlarch.models.autoencoders.adversarial_autoencoder import AdversarialAutoencoder, petals

SMALL = {"image_shape": (1, 4, 5), "code_size": 3, "hidden_sizes": (12,), "critic_sizes": (9,)}


def made(**options):
    torch.manual_seed(0)
    rates = {"optimizer": sgd(0.05), "critic_optimizer": sgd(0.1)}
    return AdversarialAutoencoder(**SMALL | rates | options)


def sgd(rate):
    return functools.partial(optim.SGD, lr=rate)


def weights(module):
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


class Loader(torch.utils.data.IterableDataset):
    def __init__(self, count):
        generator = torch.Generator().manual_seed(9)
        images = (torch.rand((count, 6, 1, 4, 5), generator=generator) > 0.5).float()
        self.batches = [ImageBatch(each, torch.arange(6), torch.arange(6)) for each in images]

    def __iter__(self):
        return iter(self.batches)

    def __len__(self):
        return len(self.batches)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_a_turn_is_the_papers(likelihood, trainer_of):
    """Critic on drawn codes and codes of images, then the autoencoder against the critic of now."""
    model, batches = made(likelihood=likelihood, adversarial_weight=3.0), Loader(3)
    encoder, decoder, critic = map(copy.deepcopy, (model.encoder, model.decoder, model.critic))
    torch.manual_seed(5)
    trainer_of(max_epochs=1).fit(model, batches)
    torch.manual_seed(5)
    both = sgd(0.05)([*encoder.parameters(), *decoder.parameters()])
    other = sgd(0.1)(critic.parameters())
    ones, zeros = torch.ones(6), torch.zeros(6)
    for image, *_ in batches:
        drawn, code = torch.randn(1, 6, 3)[0], encoder(image).detach()
        loss = F.binary_cross_entropy_with_logits(critic(drawn), ones)
        loss = loss + F.binary_cross_entropy_with_logits(critic(code), zeros)
        other.zero_grad()
        loss.backward()
        other.step()
        code = encoder(image)
        output = decoder(code)
        if likelihood == "bernoulli":
            lost = F.binary_cross_entropy_with_logits(output, image, reduction="sum") / 6
        else:
            lost = F.mse_loss(output, image, reduction="sum") / 6
        both.zero_grad()
        (lost + 3 * F.binary_cross_entropy_with_logits(critic(code), ones)).backward()
        both.step()
    for mine, theirs in zip(
        (model.encoder, model.decoder, model.critic), (encoder, decoder, critic), strict=True
    ):
        torch.testing.assert_close(weights(mine), weights(theirs))


def test_without_weight_it_is_a_plain_autoencoder(trainer_of):
    """That of the same layers, which knows no critic."""
    model = made(adversarial_weight=0.0)
    encoder, decoder = map(copy.deepcopy, (model.encoder, model.decoder))
    trainer_of(max_epochs=2).fit(model, Loader(3))
    step = sgd(0.05)([*encoder.parameters(), *decoder.parameters()])
    for image, *_ in [*Loader(3), *Loader(3)]:
        output = decoder(encoder(image))
        step.zero_grad()
        (F.binary_cross_entropy_with_logits(output, image, reduction="sum") / 6).backward()
        step.step()
    torch.testing.assert_close(weights(model.encoder), weights(encoder))
    torch.testing.assert_close(weights(model.decoder), weights(decoder))


def test_the_critic_may_take_several_steps(trainer_of):
    model, turns = made(critic_steps=2), []
    take_step = model.take_step
    model.take_step = lambda place, *rest: (turns.append(place), take_step(place, *rest))
    trainer_of(max_epochs=1).fit(model, Loader(4))
    assert turns == [1, 1, 0, 1, 1, 0]


# ---- the mixture


def test_the_mixture_has_ten_equal_gaussians_with_the_moments_of_its_formula():
    points = petals(torch.randn((200_000, 2), generator=torch.Generator().manual_seed(0))).double()
    assert points.mean(0).abs().max() < 0.02
    # Turned by ten equal angles, the mean square is the same in all directions.
    square = (3.0**2 + 0.8**2 + 0.25**2) / 2
    torch.testing.assert_close(
        points.T @ points / len(points), square * torch.eye(2).double(), atol=0.03, rtol=0
    )
    angle = torch.atan2(points[:, 1], points[:, 0])
    which = (angle / (2 * math.pi / 10)).round().long() % 10
    shares = which.bincount(minlength=10) / len(points)
    assert (shares - 0.1).abs().max() < 0.003
    turned = -which * (2 * math.pi / 10)
    along = points[:, 0] * turned.cos() - points[:, 1] * turned.sin()
    across = points[:, 0] * turned.sin() + points[:, 1] * turned.cos()
    assert float(along.mean()) == pytest.approx(3, abs=0.01)
    assert float(along.std()) == pytest.approx(0.8, abs=0.01)
    assert float(across.std()) == pytest.approx(0.25, abs=0.01)


def test_further_numbers_of_a_mixture_are_normal():
    model = made(prior="mixture")
    noise = torch.randn(7, 3)
    torch.testing.assert_close(model.prior(noise)[:, :2], petals(noise[:, :2]))
    assert torch.equal(model.prior(noise)[:, 2], noise[:, 2])
    assert petals(torch.full((1, 2), 40.0)).isfinite().all()


def test_what_makes_no_sense_is_refused():
    with pytest.raises(OptionError, match="0 or more, not -1"):
        made(adversarial_weight=-1.0)
    with pytest.raises(OptionError, match="code_size 2 or more"):
        made(prior="mixture", code_size=1)


# ---- codes


@pytest.mark.slow
@pytest.mark.parametrize("prior", ["normal", "mixture"])
def test_codes_of_digits_come_to_lie_as_drawn_ones(prior, trainer_of):
    """At least five times nearer than those of a plain autoencoder."""
    data = dlarch.create_data("digits", batch_size=64)
    data.prepare_data()
    data.setup()
    found = []
    for weight in (0.0, 10.0):
        torch.manual_seed(0)
        options = {"code_size": 2, "hidden_sizes": (64,), "critic_sizes": (64, 64)}
        model = dlarch.create_model(
            "adversarial_autoencoder", data, prior=prior, adversarial_weight=weight, **options
        )
        trainer = trainer_of(max_epochs=12, limit_val_batches=0)
        trainer.fit(model, datamodule=data)
        (scores,) = trainer.test(model, datamodule=data, verbose=False)
        found.append(scores["test/code_mmd"])
    print(found)
    assert found[1] < found[0] / 5
