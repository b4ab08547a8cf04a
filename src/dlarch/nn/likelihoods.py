"""How likely an image is, once its code is known; in nats, summed over pixels."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

Likelihood = Literal["bernoulli", "gaussian"]
"""What a decoder's numbers are: logits of black or white, or means of a Gaussian."""


def bernoulli_nll(logits: Tensor, image: Tensor) -> Tensor:
    r"""Cross-entropy of pixels, $-\sum_i x_i \log p_i + (1 - x_i) \log (1 - p_i)$, (B,).

    A likelihood where pixels are 0 or 1; of grey pixels the cross-entropy, which is not 0 at the
    best. In terms of the logit l it is $\log (1 + e^l) - x l$.

    Args:
        logits: (B, ...), of p.
        image: (B, ...), 0 to 1.
    """
    logits, image = logits.float().flatten(1), image.flatten(1)
    return F.softplus(logits).sum(1) - (logits * image).sum(1)


def gaussian_nll(mean: Tensor, image: Tensor, log_variance: Tensor) -> Tensor:
    r"""$\tfrac{1}{2} \sum_i (x_i - \mu_i)^2 / \sigma^2 + \log (2 \pi \sigma^2)$, (B,).

    Args:
        mean: (B, ...).
        image: (B, ...).
        log_variance: one number for all pixels, or of the shape of the image.
    """
    squares = (image - mean).square() * (-log_variance).exp()
    return 0.5 * (squares + log_variance + math.log(2 * math.pi)).flatten(1).sum(1)


def squared_error(mean: Tensor, image: Tensor) -> Tensor:
    """Sum of squared errors of each image, (B,)."""
    return (mean - image).square().flatten(1).sum(1)


def as_pixels(output: Tensor, likelihood: Likelihood) -> Tensor:
    """What a decoder's numbers look like: probabilities of white, or means."""
    return torch.sigmoid(output) if likelihood == "bernoulli" else output
