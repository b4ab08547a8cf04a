"""Distances of two sets against sums written out and closed forms."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from dlarch.nn.distances import frechet_distance, median_distance, squared_mmd


def rows(count, size, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, size, generator=generator, dtype=torch.float64)


def test_discrepancy_is_the_sum_over_all_pairs():
    real, made, widths = rows(5, 3, 0), rows(7, 3, 1) + 0.5, (0.5, 2.0)

    def kernel(x, y):
        square = sum((a - b) ** 2 for a, b in zip(x.tolist(), y.tolist(), strict=True))
        return sum(math.exp(-square / (2 * s * s)) for s in widths) / len(widths)

    within = [
        sum(kernel(x, y) for x, y in itertools.permutations(part, 2)) / len(part) / (len(part) - 1)
        for part in (real, made)
    ]
    between = sum(kernel(x, y) for x, y in itertools.product(real, made)) / 35
    found = squared_mmd(real, made, widths)
    assert found.item() == pytest.approx(sum(within) - 2 * between, rel=1e-9)


def test_discrepancy_of_equal_distributions_is_0_in_the_mean():
    """A biased estimate would be above 0 by about 1 / 10 for sets of 20."""
    found = [
        squared_mmd(rows(20, 2, seed), rows(20, 2, 1000 + seed), [1.0]).item()
        for seed in range(300)
    ]
    error = np.std(found) / math.sqrt(len(found))
    assert abs(np.mean(found)) < 4 * error
    assert min(found) < 0 < max(found)
    apart = squared_mmd(rows(20, 2, 0), rows(20, 2, 1) + 3, [1.0]).item()
    assert apart > 3 * max(found)


def test_discrepancy_of_gaussians_is_their_closed_form():
    """Of N(0, 1) and N(m, 1), kernel width s: E k = s / sqrt(s^2 + 2) exp(-m^2 / (2 s^2 + 4))."""
    shift, width = 1.0, 1.0
    found = squared_mmd(rows(2500, 1, 0), rows(2500, 1, 1) + shift, [width]).item()
    same = width / math.sqrt(width**2 + 2)
    other = same * math.exp(-(shift**2) / (2 * (width**2 + 2)))
    assert found == pytest.approx(2 * same - 2 * other, rel=0.1)


def test_median_distance_leaves_out_distances_to_itself():
    points = torch.tensor([[0.0], [1.0], [3.0]])
    assert median_distance(points) == 2.0


def test_frechet_distance_is_the_closed_form():
    mean, other = rows(1, 4, 0)[0], rows(1, 4, 1)[0]
    covariance, other_covariance = rows(9, 4, 2).T.cov(), rows(9, 4, 3).T.cov()
    root = np.real(sqrtm((covariance @ other_covariance).numpy()))
    expected = (mean - other).square().sum() + np.trace(
        covariance.numpy() + other_covariance.numpy() - 2 * root
    )
    found = frechet_distance(mean, covariance, other, other_covariance)
    assert found.item() == pytest.approx(expected.item(), rel=1e-9)


def test_frechet_distance_of_axes_is_that_of_each():
    """Of independent numbers it is the sum of (m - n)^2 + (s - t)^2, also where one is constant."""
    mean, other = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([1.0, 1.0, 0.0])
    std, other_std = torch.tensor([1.0, 2.0, 0.0]), torch.tensor([3.0, 2.0, 0.0])
    found = frechet_distance(mean, std.square().diag(), other, other_std.square().diag())
    assert found.item() == pytest.approx(1 + 4 + 4, rel=1e-5)
    same = frechet_distance(mean, std.square().diag(), mean, std.square().diag())
    assert same.item() == pytest.approx(0, abs=1e-5)
