"""How far two sets of examples are from each other: maximum mean discrepancy, Frechet distance."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

WIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Widths of the Gaussian kernels, as parts of the median distance between real examples."""


def median_distance(rows: Tensor) -> float:
    """Median of the distances between different rows (N, F)."""
    distances: Tensor = torch.pdist(rows)
    return float(distances.median())


def squared_mmd(real: Tensor, made: Tensor, widths: Sequence[float]) -> Tensor:
    r"""Estimate the squared maximum mean discrepancy of two sets, without bias (Gretton et al.).

    $$\frac{1}{N (N - 1)} \sum_{i \ne j} k(x_i, x_j) + \frac{1}{M (M - 1)} \sum_{i \ne j}
      k(y_i, y_j) - \frac{2}{N M} \sum_{i, j} k(x_i, y_j)$$

    with the mean of Gaussian kernels $k(x, y) = \exp(-|x - y|^2 / (2 s^2))$. 0 in the mean for sets
    from one distribution, so that it may be a little below 0.

    Args:
        real: x, (N, F).
        made: y, (M, F).
        widths: s of each kernel.
    """

    def kernel(one: Tensor, other: Tensor) -> Tensor:
        squares = torch.cdist(one, other).square()
        return torch.stack([(-squares / (2 * s * s)).exp() for s in widths]).mean(0)

    def within(rows: Tensor) -> Tensor:
        count = len(rows)
        values = kernel(rows, rows)
        return (values.sum() - values.diagonal().sum()) / (count * (count - 1))

    return within(real) + within(made) - 2 * kernel(real, made).mean()


def frechet_distance(
    mean: Tensor, covariance: Tensor, other_mean: Tensor, other_covariance: Tensor
) -> Tensor:
    r"""Squared Frechet distance of two Gaussians (Dowson and Landau, 1982).

    $$|\mu - \nu|^2 + \mathrm{tr}\big(\Sigma + \Lambda - 2 (\Sigma^{1/2} \Lambda
      \Sigma^{1/2})^{1/2}\big)$$

    Args:
        mean: (F,), of the one.
        covariance: (F, F).
        other_mean: (F,), of the other.
        other_covariance: (F, F).
    """
    values, vectors = torch.linalg.eigh(covariance)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    product = torch.linalg.eigvalsh(root @ other_covariance @ root)
    traces = covariance.trace() + other_covariance.trace() - 2 * product.clamp(min=0).sqrt().sum()
    found: Tensor = (mean - other_mean).square().sum() + traces
    return found
