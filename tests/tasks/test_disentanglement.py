"""The gap of mutual information, on codes of which the right answer is known."""

import pytest
import torch

from dlarch.tasks.disentanglement import MutualInformationGap, mutual_information_gap


@pytest.fixture
def factors():
    """Three kinds of figure, and two even numbers."""
    generator = torch.Generator().manual_seed(0)
    figure = torch.randint(0, 3, (20_000, 1), generator=generator).float()
    return torch.cat((figure, torch.rand((20_000, 2), generator=generator)), 1)


def noise(factors, columns, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((len(factors), columns), generator=generator)


def test_a_number_for_each_factor_is_perfect(factors):
    code = torch.cat((-3 * factors[:, [2, 0, 1]], noise(factors, 4)), 1)
    torch.testing.assert_close(
        mutual_information_gap(code, factors).float(), torch.ones(3), atol=0.02, rtol=0
    )


def test_noise_tells_nothing(factors):
    assert mutual_information_gap(noise(factors, 7), factors).max() < 0.01


def test_two_numbers_that_tell_the_same_have_no_gap(factors):
    assert mutual_information_gap(torch.cat((factors, factors), 1), factors).abs().max() < 1e-9


def test_a_rotated_code_is_worse(factors):
    one, other = factors[:, 1], factors[:, 2]
    turned = torch.stack((one + other, one - other), 1)
    assert mutual_information_gap(turned, factors[:, 1:]).max() < 0.05


def test_half_a_factor_is_half_a_gap(factors):
    """A number with two bits of a factor's four."""
    generator = torch.Generator().manual_seed(0)
    factor = torch.randint(0, 16, (20_000, 1), generator=generator)
    gap = mutual_information_gap((factor // 4).float(), factor.float(), bins=16)
    assert float(gap) == pytest.approx(0.5, abs=0.01)


def test_factors_that_never_change_are_left_out(factors):
    factors = torch.cat((factors, torch.ones(len(factors), 1)), 1)
    assert mutual_information_gap(factors, factors).shape == (3,)


def test_the_metric_is_that_of_all_batches(factors):
    code = factors + 0.1 * noise(factors, 3)
    metric = MutualInformationGap()
    for rows in torch.arange(len(factors)).split(7000):
        metric.update(code[rows], factors[rows])
    expected = mutual_information_gap(code, factors).mean()
    assert float(metric.compute()) == pytest.approx(float(expected))
