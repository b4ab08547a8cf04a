"""Metrics of made examples: counted by hand, and added up over batches."""

import math

import pytest
import torch

from dlarch.batches import Modes
from dlarch.nn.distances import frechet_distance
from dlarch.tasks.made import (
    ClassifierFrechet,
    HighQuality,
    ModeKL,
    ModesCovered,
    RarestClass,
    SquaredMMD,
)

MODES = Modes(torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]]), torch.tensor([1.0, 2.0]))
POINTS = torch.tensor(
    [
        [0.0, 0.0],
        [2.9, 0.0],  # 2.9 deviations away
        [3.1, 0.0],  # 3.1: bad
        [0.0, -5.9],  # the second number has a deviation of 2
        [10.0, 1.0],
        [5.0, 5.0],  # between all: bad
    ]
)


def scored(metric, *batches):
    for batch in batches:
        metric.update(batch)
    return metric.compute().item()


@pytest.mark.parametrize("parts", [1, 2, 6])
def test_points_are_counted_as_by_hand(parts):
    batches = POINTS.chunk(parts)
    assert scored(ModesCovered(MODES), *batches) == 2
    assert scored(HighQuality(MODES), *batches) == pytest.approx(4 / 6)
    nats = 0.75 * math.log(0.75 * 3) + 0.25 * math.log(0.25 * 3)
    assert scored(ModeKL(MODES), *batches) == pytest.approx(nats)


def test_divergence_of_modes_at_its_limits():
    assert scored(ModeKL(MODES), MODES.centres) == pytest.approx(0, abs=1e-6)
    assert scored(ModeKL(MODES), MODES.centres[:1]) == pytest.approx(math.log(3))
    assert scored(ModeKL(MODES), torch.full((4, 2), 99.0)) == pytest.approx(math.log(3))
    assert scored(HighQuality(MODES), torch.full((4, 2), 99.0)) == 0


def test_points_of_the_mixture_itself_are_good():
    """Within 3 deviations lie 1 - exp(-9 / 2) = 98.9 % of a Gaussian in the plane."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(30_000) % 3
    noise = torch.randn(30_000, 2, generator=generator)
    points = MODES.centres[labels] + noise * MODES.deviation
    assert scored(HighQuality(MODES), points) == pytest.approx(1 - math.exp(-4.5), abs=0.002)


@pytest.mark.parametrize("metric", [SquaredMMD, ClassifierFrechet])
def test_distances_are_those_of_whole_sets_however_they_are_batched(metric):
    generator = torch.Generator().manual_seed(0)
    real, made = torch.randn(2, 40, 3, generator=generator)
    whole, parts = metric(), metric()
    whole.update(real, made)
    for one, other in zip(real.split(7), made.split(7), strict=True):
        parts.update(one, other)
    assert parts.compute().item() == pytest.approx(whole.compute().item(), rel=1e-5)
    assert math.isnan(metric().compute().item())


def test_frechet_metric_is_that_of_the_sets_gaussians():
    """Means 0 and 1, deviations 1 and 3: (0 - 1)^2 + (1 - 3)^2 for each of two features."""
    generator = torch.Generator().manual_seed(0)
    real, made = torch.randn(2, 50_000, 2, generator=generator)
    metric = ClassifierFrechet()
    metric.update(real, 1 + 3 * made)
    assert metric.compute().item() == pytest.approx(10, rel=0.03)
    moments = [part for rows in (real, 1 + 3 * made) for part in (rows.mean(0), rows.T.cov())]
    assert metric.compute().item() == pytest.approx(frechet_distance(*moments).item(), rel=1e-3)


def test_the_rarest_class_is_one_that_never_comes():
    metric = RarestClass(3)
    metric.update(torch.tensor([0, 1, 1, 2]))
    assert metric.compute().item() == pytest.approx(0.25)
    assert scored(RarestClass(3), torch.tensor([0, 2])) == 0
