"""Divergence, free bits and importance sampling against torch.distributions and closed forms."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from dlarch.nn import free_bits, gaussian_kl, importance_nll
from dlarch.nn.latent import log_normal


def gaussians(*shape):
    generator = torch.Generator().manual_seed(0)
    return (torch.randn(shape, generator=generator) for _ in range(2))


def test_divergence_is_that_of_torch():
    mean, log_variance = gaussians(7, 5)
    posterior = Normal(mean, (0.5 * log_variance).exp())
    expected = kl_divergence(posterior, Normal(0.0, 1.0))
    torch.testing.assert_close(gaussian_kl(mean, log_variance), expected)


def test_divergence_of_nearly_the_prior_is_not_lost_in_rounding():
    found = gaussian_kl(torch.zeros(1), torch.tensor([1e-3])).item()
    assert found == pytest.approx(0.25e-6, rel=1e-3)


def test_log_density_is_that_of_torch():
    mean, log_variance = gaussians(7, 5)
    value = torch.full((7, 5), 0.3)
    expected = Normal(mean, (0.5 * log_variance).exp()).log_prob(value).sum(-1)
    torch.testing.assert_close(log_normal(value, mean, log_variance), expected)


def test_free_bits_take_the_mean_of_the_batch_before_the_larger():
    kl = torch.tensor([[0.0, 1.0, 0.1], [0.4, 3.0, 0.1]], requires_grad=True)
    found = free_bits(kl, 0.5)
    assert found.item() == pytest.approx(0.5 + 2.0 + 0.5)
    found.backward()
    assert kl.grad.tolist() == [[0.0, 0.5, 0.0]] * 2  # below lambda nothing pulls
    assert free_bits(kl, 0.0).item() == pytest.approx(kl.mean(0).sum().item())


def test_importance_sampling_of_a_linear_gaussian_model():
    """z ~ N(0, I), x = A z + noise: log p(x) and the posterior have closed forms."""
    generator = torch.Generator().manual_seed(1)
    matrix, noise = torch.tensor([[1.0, 0.5], [-0.3, 0.8], [0.2, 0.9]]), 0.7
    x = torch.randn(4, 3, generator=generator)
    marginal = MultivariateNormal(torch.zeros(3), matrix @ matrix.T + noise**2 * torch.eye(3))
    exact = -marginal.log_prob(x)
    precision = torch.eye(2) + matrix.T @ matrix / noise**2
    mean = x @ matrix @ torch.linalg.inv(precision).T / noise**2
    log_variance = -precision.diagonal().log().expand(4, 2)  # the best independent one

    def estimate(count):
        draws = torch.randn(4, count, 2, generator=generator)
        code = mean[:, None] + (0.5 * log_variance[:, None]).exp() * draws
        likelihood = Normal(code @ matrix.T, noise).log_prob(x[:, None]).sum(-1)
        return importance_nll(likelihood, code, mean, log_variance)

    torch.testing.assert_close(estimate(20_000), exact, atol=0.02, rtol=0)
    one, five = (torch.stack([estimate(n) for _ in range(2000)]).mean() for n in (1, 5))
    assert one > five > exact.mean()  # a bound that becomes tighter
    # With one code it is the bound: its mean exceeds by the divergence to the true posterior.
    true = MultivariateNormal(torch.zeros(2), torch.linalg.inv(precision))
    near = MultivariateNormal(torch.zeros(2), torch.diag(log_variance[0].exp()))
    assert float(one - exact.mean()) == pytest.approx(float(kl_divergence(near, true)), abs=0.03)


def test_the_true_posterior_needs_one_code():
    x, weight = torch.tensor([[0.4], [-1.2]]), 2.0
    variance = 1 / (1 + weight**2)
    mean, log_variance = variance * weight * x, torch.full((2, 1), math.log(variance))
    code = mean[:, None] + math.sqrt(variance) * torch.randn(2, 1, 1)
    likelihood = Normal(weight * code, 1.0).log_prob(x[:, None]).sum(-1)
    exact = -Normal(0.0, math.sqrt(1 + weight**2)).log_prob(x)[:, 0]
    torch.testing.assert_close(importance_nll(likelihood, code, mean, log_variance), exact)
