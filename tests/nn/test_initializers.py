import pytest
import torch
from torch import nn

from dlarch.nn import Constant, Glorot, He, LeCun, default_initializer, initialize, make_activation

FORMULAS = {
    Glorot: lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    He: lambda fan_in, fan_out: 2 / fan_in,
    LeCun: lambda fan_in, fan_out: 1 / fan_in,
}


@pytest.mark.parametrize("kind", FORMULAS)
@pytest.mark.parametrize("distribution", ["uniform", "normal"])
@pytest.mark.parametrize("shape", [(300, 500), (40, 30, 3, 3)])
def test_the_variance_is_that_of_the_formula(kind, distribution, shape):
    torch.manual_seed(0)
    weight = torch.empty(shape)
    kind(distribution)(weight)
    receptive = weight[0, 0].numel()
    wanted = FORMULAS[kind](shape[1] * receptive, shape[0] * receptive)
    assert weight.var().item() == pytest.approx(wanted, rel=0.05)
    assert weight.mean().abs() < 4 * (wanted / weight.numel()) ** 0.5
    largest = weight.abs().max().item() / wanted**0.5
    assert (largest <= 3**0.5 + 1e-5) == (distribution == "uniform")


def test_equal_to_torchs_own_bounds():
    """The bounds of torch.nn.init are those of the same papers."""
    ours, theirs = torch.empty(64, 48), torch.empty(64, 48)
    for kind, fill in ((Glorot, nn.init.xavier_uniform_), (He, nn.init.kaiming_uniform_)):
        torch.manual_seed(1)
        kind()(ours)
        torch.manual_seed(1)
        fill(theirs) if kind is Glorot else fill(theirs, nonlinearity="relu")
        torch.testing.assert_close(ours, theirs)


def test_a_constant_deviation_does_not_depend_on_the_size():
    weight = torch.empty(200, 300)
    Constant(0.02)(weight)
    assert weight.std().item() == pytest.approx(0.02, rel=0.05)
    Constant(0.0)(weight)
    assert weight.eq(0).all()


@pytest.mark.parametrize(
    ("name", "kind"),
    [("relu", He), ("gelu", He), ("selu", LeCun), ("tanh", Glorot), ("identity", Glorot)],
)
def test_the_usual_initializer_keeps_the_signal_through_twenty_layers(name, kind):
    assert type(default_initializer(name)) is kind
    torch.manual_seed(0)
    signal = torch.randn(256, 256)
    for _ in range(20):
        layer = nn.Linear(256, 256, bias=False)
        initialize(layer, default_initializer(name))
        with torch.no_grad():
            signal = make_activation(name)(layer(signal))
    assert 0.05 < signal.std() < 3
    signal = torch.randn(256, 256)
    for _ in range(20):
        layer = nn.Linear(256, 256, bias=False)
        initialize(layer, Constant(0.01))
        with torch.no_grad():
            signal = make_activation(name)(layer(signal))
    assert signal.std() < 0.05  # too small a deviation, and nothing is left


def test_gates_are_drawn_one_by_one_and_biases_stay():
    network = nn.ModuleList([nn.GRU(30, 50), nn.LSTMCell(30, 50), nn.Linear(30, 50)])
    seen = []

    def watch(weight):
        seen.append(tuple(weight.shape))
        nn.init.constant_(weight, 2.0)

    bias = network[2].bias.clone()
    with torch.no_grad():
        initialize(network, watch)
    assert seen == [(50, 30)] * 3 + [(50, 50)] * 3 + [(50, 30)] * 4 + [(50, 50)] * 4 + [(50, 30)]
    assert network[0].weight_hh_l0.eq(2).all()
    assert torch.equal(network[2].bias, bias)


def test_a_transposed_convolution_passes_on_signals_of_the_same_size():
    """He's variance counts the weights that meet in one place of the output: 4 of 16 per map."""
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(64, 32, 4, 2, 1)
    initialize(layer, He())
    assert layer.weight.std().item() == pytest.approx((2 / (64 * 4)) ** 0.5, rel=0.02)
    sums = layer(torch.randn(8, 64, 12, 12).relu())
    assert sums.std().item() == pytest.approx(1.0, rel=0.1)  # E[relu(x)^2] = 1/2, doubled
