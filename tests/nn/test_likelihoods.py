"""Likelihoods of pixels against torch.distributions."""

import torch
from torch.distributions import Bernoulli, Independent, Normal

from dlarch.nn import bernoulli_nll, gaussian_nll


def draws(*shape):
    generator = torch.Generator().manual_seed(0)
    return 4 * torch.randn(shape, generator=generator), torch.rand(shape, generator=generator)


def test_black_and_white_pixels_are_bernoulli():
    logits, image = draws(5, 3, 4, 6)
    image = (image > 0.5).float()
    expected = -Independent(Bernoulli(logits=logits), 3).log_prob(image)
    torch.testing.assert_close(bernoulli_nll(logits, image), expected)


def test_certain_pixels_cost_nothing_and_wrong_ones_their_logit():
    logits = torch.tensor([[60.0, -60.0], [60.0, -60.0]])
    image = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    torch.testing.assert_close(bernoulli_nll(logits, image), torch.tensor([0.0, 60.0]))


def test_the_gradient_is_what_was_predicted_minus_what_is_right():
    logits, image = draws(2, 7)
    logits.requires_grad_()
    bernoulli_nll(logits, image).sum().backward()
    torch.testing.assert_close(logits.grad, torch.sigmoid(logits.detach()) - image)


def test_pixels_with_noise_are_normal():
    mean, image = draws(5, 3, 4, 6)
    log_variance = torch.tensor(-1.3)
    normal = Independent(Normal(mean, (0.5 * log_variance).exp()), 3)
    found = gaussian_nll(mean, image, log_variance)
    torch.testing.assert_close(found, -normal.log_prob(image))
