"""Likelihoods of images against torch.distributions."""

import torch
from torch.distributions import Bernoulli, Normal

from dlarch.nn import as_pixels, bernoulli_nll, gaussian_nll, squared_error


def images():
    generator = torch.Generator().manual_seed(0)
    output = torch.randn((5, 3, 4, 6), generator=generator)
    return output, (torch.rand((5, 3, 4, 6), generator=generator) > 0.5).float()


def test_black_or_white_pixels_are_bernoulli_summed_over_an_image():
    logits, image = images()
    expected = -Bernoulli(logits=logits).log_prob(image).sum((1, 2, 3))
    torch.testing.assert_close(bernoulli_nll(logits, image), expected)


def test_logits_beyond_the_range_of_floats_cost_what_they_say():
    logits, image = torch.tensor([[1000.0], [-1000.0]]), torch.tensor([[0.0], [0.0]])
    assert bernoulli_nll(logits, image).tolist() == [1000.0, 0.0]


def test_grey_pixels_with_one_variance_or_one_each():
    mean, image = images()
    for log_variance in (torch.tensor(-0.7), torch.linspace(-1, 1, 6)):
        expected = -Normal(mean, (0.5 * log_variance).exp()).log_prob(image).sum((1, 2, 3))
        torch.testing.assert_close(gaussian_nll(mean, image, log_variance), expected)


def test_squared_errors_are_summed_over_an_image():
    mean, image = images()
    torch.testing.assert_close(squared_error(mean, image)[2], ((mean - image)[2] ** 2).sum())


def test_logits_look_like_their_probabilities_and_means_like_themselves():
    output, _ = images()
    torch.testing.assert_close(as_pixels(output, "bernoulli"), 1 / (1 + (-output).exp()))
    assert as_pixels(output, "gaussian") is output
