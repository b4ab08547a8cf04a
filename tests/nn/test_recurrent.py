"""The written-out updates against torch's own cells."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from dlarch.nn import gru_update, lstm_update, run_packed


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def gradients(outputs, inputs):
    """Gradients of a sum that weighs every output differently."""
    total = sum((output * torch.arange(1.0, output.numel() + 1).view_as(output)).sum()
                for output in outputs)  # fmt: skip
    return torch.autograd.grad(total, inputs)


def test_gru_update_is_that_of_torchs_cell():
    cell = nn.GRUCell(5, 4)
    x, h = torch.randn(3, 5, requires_grad=True), torch.randn(3, 4, requires_grad=True)
    inputs = (x, h, *cell.parameters())
    ours = gru_update(
        F.linear(x, cell.weight_ih, cell.bias_ih), F.linear(h, cell.weight_hh, cell.bias_hh), h
    )
    theirs = cell(x, h)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)
    for mine, reference in zip(gradients([ours], inputs), gradients([theirs], inputs), strict=True):
        torch.testing.assert_close(mine, reference, atol=1e-5, rtol=1e-6)


def test_lstm_update_is_that_of_torchs_cell():
    cell = nn.LSTMCell(5, 4)
    x, h, c = (torch.randn(3, size, requires_grad=True) for size in (5, 4, 4))
    inputs = (x, h, c, *cell.parameters())
    gates = F.linear(x, cell.weight_ih, cell.bias_ih) + F.linear(h, cell.weight_hh, cell.bias_hh)
    ours = lstm_update(gates, c)
    theirs = cell(x, (h, c))
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, reference, atol=1e-6, rtol=1e-6)
    for mine, reference in zip(gradients(ours, inputs), gradients(theirs, inputs), strict=True):
        torch.testing.assert_close(mine, reference, atol=1e-5, rtol=1e-6)


def test_leading_dimensions_are_free():
    """States of several hypotheses per sentence, (B, K, N), are updated as (B * K, N) would be."""
    gates, hidden_gates, h = torch.randn(2, 3, 12), torch.randn(2, 3, 12), torch.randn(2, 3, 4)
    flat = gru_update(gates.flatten(0, 1), hidden_gates.flatten(0, 1), h.flatten(0, 1))
    assert torch.equal(gru_update(gates, hidden_gates, h).flatten(0, 1), flat)
    gates, c = torch.randn(2, 3, 16), torch.randn(2, 3, 4)
    flat = lstm_update(gates.flatten(0, 1), c.flatten(0, 1))
    for ours, theirs in zip(lstm_update(gates, c), flat, strict=True):
        assert torch.equal(ours.flatten(0, 1), theirs)


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
@pytest.mark.parametrize(
    "options",
    [{}, {"bidirectional": True}, {"bidirectional": True, "num_layers": 2}, {"bias": False}],
    ids=["plain", "both", "stacked", "no_bias"],
)
def test_a_packed_run_equals_that_of_torch_with_its_gradients(kind, options):
    torch.manual_seed(0)
    network = kind(5, 4, batch_first=True, **options)
    inputs = torch.randn(6, 9, 5, requires_grad=True)
    lengths = torch.tensor([3, 9, 1, 9, 4, 7])
    weights = torch.randn(9 * 6, 8)

    def outcome(run):
        packed = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
        outputs, last = run(packed)
        values, _ = pad_packed_sequence(outputs, batch_first=True)
        last = last[0] if isinstance(last, tuple) else last
        total = (values.flatten(0, 1) * weights[:, : values.shape[-1]]).sum() + last.square().sum()
        gradients = torch.autograd.grad(total, [inputs, *network.parameters()])
        return [values, last, *gradients]

    ours = outcome(lambda packed: run_packed(network, packed))
    for one, other in zip(ours, outcome(network), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_dropout_between_the_layers_of_a_packed_run_is_that_of_training():
    network = nn.GRU(3, 4, num_layers=2, dropout=0.5, batch_first=True)
    packed = pack_padded_sequence(torch.randn(2, 5, 3), torch.tensor([5, 2]), batch_first=True)
    one, other = (run_packed(network, packed)[0].data for _ in range(2))
    assert not torch.equal(one, other)
    network.eval()
    one, other = (run_packed(network, packed)[0].data for _ in range(2))
    assert torch.equal(one, other)
    torch.testing.assert_close(one, network(packed)[0].data)
