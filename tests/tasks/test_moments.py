import numpy as np
import torch

from dlarch.tasks import Moments


def moments(rows):
    return Moments.of(torch.tensor(rows[:, :3]), torch.tensor(rows[:, 3:]))


def test_moments_are_means_and_scatter():
    rows = np.random.default_rng(0).normal(size=(9, 5))
    found = moments(rows)
    centred = rows - rows.mean(0)
    np.testing.assert_allclose(found.x_mean, rows[:, :3].mean(0))
    np.testing.assert_allclose(found.y_mean, rows[:, 3:].mean(0))
    np.testing.assert_allclose(found.xx, centred[:, :3].T @ centred[:, :3])
    np.testing.assert_allclose(found.xy, centred[:, :3].T @ centred[:, 3:])
    np.testing.assert_allclose(found.yy, centred[:, 3:].T @ centred[:, 3:])


def test_moments_of_parts_add_up_to_those_of_the_whole():
    rows = np.random.default_rng(0).normal(size=(50, 5))
    whole, parts = moments(rows), [moments(rows[a:b]) for a, b in ((0, 1), (1, 30), (30, 50))]
    found = parts[0] + parts[1] + parts[2]
    assert found.count == whole.count == 50
    torch.testing.assert_close(found.mean, whole.mean)
    torch.testing.assert_close(found.scatter, whole.scatter)


def test_a_large_offset_costs_no_digits():
    """Plain sums of squares would have lost all of them."""
    rows = np.random.default_rng(0).normal(size=(200, 5))
    far = rows + 1e7
    found = moments(far[:100]) + moments(far[100:])
    np.testing.assert_allclose(found.scatter, moments(rows).scatter, rtol=1e-6, atol=1e-6)


def test_moments_are_in_float64_on_the_cpu():
    found = Moments.of(torch.ones(2, 3, dtype=torch.bfloat16), torch.ones(2, 1))
    assert found.mean.dtype == found.scatter.dtype == torch.float64
    assert found.scatter.eq(0).all()
