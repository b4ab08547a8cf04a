import pytest
import torch

from dlarch.nn import make_basis


def test_linear_is_the_inputs():
    basis, size = make_basis("linear", 7, in_features=3)
    inputs = torch.randn(4, 3)
    assert size == 3
    assert torch.equal(basis(inputs), inputs)


def test_polynomials_are_powers_of_half_the_inputs():
    basis, size = make_basis("polynomial", 3, in_features=2)
    assert size == 6
    found = basis(torch.tensor([[2.0, -1.0]]))
    assert found.tolist() == [[1.0, -0.5, 1.0, 0.25, 1.0, -0.125]]


def test_bumps_are_gaussian_densities_of_height_one():
    basis, size = make_basis("gaussian", 5, in_features=2)
    assert size == 10
    inputs = torch.tensor([[0.3, -1.0]])
    centres = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0])  # as far apart as they are wide
    for column, found in enumerate(basis(inputs).view(2, 5)):
        density = torch.distributions.Normal(centres, 1.0).log_prob(inputs[0, column]).exp()
        torch.testing.assert_close(found, density * (2 * torch.pi) ** 0.5)


@pytest.mark.parametrize("basis", ["polynomial", "gaussian"])
def test_one_function_per_input_is_enough(basis):
    functions, size = make_basis(basis, 1, in_features=3)
    assert functions(torch.randn(2, 3)).shape == (2, size) == (2, 3)
