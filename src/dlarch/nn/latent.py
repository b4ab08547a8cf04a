"""Formulas of models with a Gaussian code: Kullback-Leibler divergence, free bits, importance."""

from __future__ import annotations

import math

import torch
from torch import Tensor

LOG_TWO_PI = math.log(2 * math.pi)


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    r"""How far a Gaussian is from the standard one, in nats, dimension by dimension.

    $$KL(N(\mu, \sigma^2) \,\|\, N(0, 1)) = \tfrac{1}{2} (\mu^2 + \sigma^2 - 1 - \log \sigma^2)$$

    Args:
        mean: of any shape.
        log_variance: of the same shape.

    Returns:
        The divergence, of the same shape; summed over the dimensions of a code it is that of codes.
    """
    # expm1 keeps what is left where the variance is nearly 1.
    return 0.5 * (mean.square() + log_variance.expm1() - log_variance)


def free_bits(kl: Tensor, nats: float) -> Tensor:
    r"""Make the first nats of each dimension cost nothing more (Kingma et al., 1606.04934).

    $$\sum_d \max(\lambda, \tfrac{1}{B} \sum_b KL_{bd})$$

    A dimension that tells less than lambda nats has no gradient that would have it tell still less.

    Args:
        kl: (B, D), the divergence of each dimension of each code.
        nats: lambda, of each dimension.

    Returns:
        One number, the mean over the batch.
    """
    return kl.mean(0).clamp(min=nats).sum()


def log_normal(value: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Log density of values under Gaussians, summed over the last dimension."""
    squares = (value - mean).square() * (-log_variance).exp()
    return -0.5 * (squares + log_variance + LOG_TWO_PI).sum(-1)


def importance_nll(
    log_likelihood: Tensor, code: Tensor, mean: Tensor, log_variance: Tensor
) -> Tensor:
    r"""Estimate -log p(x), in nats, from K codes drawn from the posterior (1509.00519).

    $$-\log \frac{1}{K} \sum_k p(x | z_k) \frac{p(z_k)}{q(z_k | x)}, \qquad z_k \sim q(z | x)$$

    In the mean it is not below -log p(x), and falls to it as K grows; with one code it is the
    negative evidence lower bound.

    Args:
        log_likelihood: (B, K), log p(x | z) of each code.
        code: (B, K, D), drawn from the posterior.
        mean: (B, D), of the posterior.
        log_variance: (B, D), of the posterior.

    Returns:
        (B,).
    """
    nothing = torch.zeros_like(mean[:, None])
    prior = log_normal(code, nothing, nothing)
    posterior = log_normal(code, mean[:, None], log_variance[:, None])
    weights = log_likelihood + prior - posterior
    return math.log(weights.shape[1]) - weights.logsumexp(1)
