import math

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from dlarch.errors import OptionError
from dlarch.nn import ACTIVATIONS, make_activation, units_before

X = torch.linspace(-3, 3, 13)[None]

FORMULAS = {
    "identity": lambda x: x,
    "sigmoid": lambda x: 1 / (1 + torch.exp(-x)),
    "tanh": lambda x: (torch.exp(x) - torch.exp(-x)) / (torch.exp(x) + torch.exp(-x)),
    "relu": lambda x: torch.where(x > 0, x, 0.0),
    "leaky_relu": lambda x: torch.where(x > 0, x, 0.01 * x),
    "prelu": lambda x: torch.where(x > 0, x, 0.25 * x),
    "elu": lambda x: torch.where(x > 0, x, torch.exp(x) - 1),
    "selu": lambda x: (
        1.0507009873554805 * torch.where(x > 0, x, 1.6732632423543772 * (torch.exp(x) - 1))
    ),
    "silu": lambda x: x / (1 + torch.exp(-x)),
    "softplus": lambda x: torch.log(1 + torch.exp(x)),
    "gelu": lambda x: x * (1 + torch.erf(x / math.sqrt(2))) / 2,
    "softmax": lambda x: torch.exp(x) / torch.exp(x).sum(1, keepdim=True),
    "maxout": lambda x: torch.maximum(x[:, ::2], x[:, 1::2]),
}


def test_every_activation_has_a_formula_here():
    assert set(FORMULAS) == set(ACTIVATIONS)


@pytest.mark.parametrize("name", FORMULAS)
def test_an_activation_is_its_formula(name):
    inputs = torch.cat((X, X[:, :1]), dim=1) if name == "maxout" else X
    found = make_activation(name)(inputs)
    torch.testing.assert_close(found, FORMULAS[name](inputs), atol=1e-6, rtol=1e-5)


def test_maxout_takes_maps_as_well():
    maps = torch.randn(2, 6, 4, 5)
    found = make_activation("maxout")(maps)
    assert units_before(make_activation("maxout")) == 2
    assert torch.equal(found, torch.maximum(maps[:, ::2], maps[:, 1::2]))
    assert F.relu(found).shape == (2, 3, 4, 5)


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(OptionError, match="Did you mean 'gelu'"):
        make_activation("gelo")
