"""The written-out updates against torch's own cells."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from dlarch.nn import (
    RecurrentState,
    gru_update,
    lstm_update,
    make_recurrent,
    run_recurrent,
    step_from_gates,
    step_recurrent,
    watch_states,
)


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


KINDS = pytest.mark.parametrize(
    "kind", [nn.RNN, partial(nn.RNN, nonlinearity="relu"), nn.GRU, nn.LSTM],
    ids=["rnn", "relu", "gru", "lstm"],
)  # fmt: skip


def of_torch(last):
    """torch's last states (L, B, N) as ours, (B, L, N)."""
    hidden, cell = last if isinstance(last, tuple) else (last, None)
    return RecurrentState(hidden.transpose(0, 1), None if cell is None else cell.transpose(0, 1))


def to_torch(state):
    """The other way."""
    parts = tuple(part.transpose(0, 1).contiguous() for part in state if part is not None)
    return parts if len(parts) > 1 else parts[0]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("name", "kind"), [("rnn", nn.RNN), ("gru", nn.GRU), ("lstm", nn.LSTM)])
def test_a_network_is_torchs_with_dropout_between_layers_alone(name, kind):
    torch.manual_seed(1)
    reference = kind(3, 4, 2, batch_first=True, bidirectional=True)
    torch.manual_seed(1)
    network = make_recurrent(name, 3, 4, 2, bidirectional=True, dropout=0.5)
    assert type(network) is kind
    inputs = torch.randn(2, 5, 3)
    assert torch.equal(network.eval()(inputs)[0], reference(inputs)[0])
    assert network.dropout == 0.5
    assert make_recurrent(name, 3, 4, dropout=0.5).dropout == 0.0
    assert make_recurrent("rnn", 3, 4, nonlinearity="relu").mode == "RNN_RELU"


@pytest.mark.parametrize("name", ["rnn", "gru", "lstm"])
def test_a_run_equals_a_forward_pass_in_numpy(name):
    network = make_recurrent(name, 3, 4).double()
    inputs = torch.randn(2, 6, 3, dtype=torch.float64)
    names = ("weight_ih_l0", "bias_ih_l0", "weight_hh_l0", "bias_hh_l0")
    w_i, b_i, w_h, b_h = (network.get_parameter(each).detach().numpy() for each in names)

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    hidden = cell = np.zeros((2, 4))
    for x in inputs.numpy().transpose(1, 0, 2):
        from_input, from_state = x @ w_i.T + b_i, hidden @ w_h.T + b_h
        if name == "rnn":
            hidden = np.tanh(from_input + from_state)
        elif name == "gru":
            reset, update = (sigmoid(from_input + from_state)[:, at : at + 4] for at in (0, 4))
            new = np.tanh(from_input[:, 8:] + reset * from_state[:, 8:])
            hidden = (1 - update) * new + update * hidden
        else:
            write, keep, new, output = np.split(from_input + from_state, 4, axis=1)
            cell = sigmoid(keep) * cell + sigmoid(write) * np.tanh(new)
            hidden = sigmoid(output) * np.tanh(cell)
    for backend in ("written", "torch"):
        outputs, last = run_recurrent(network, inputs, backend=backend)
        np.testing.assert_allclose(outputs[:, -1].detach(), hidden, atol=1e-12)
        np.testing.assert_allclose(last.hidden[:, 0].detach(), hidden, atol=1e-12)


@KINDS
@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize(
    "options",
    [{}, {"bidirectional": True}, {"bidirectional": True, "num_layers": 2}, {"bias": False}],
    ids=["plain", "both", "stacked", "no_bias"],
)
def test_a_run_equals_that_of_torch_with_its_gradients(kind, options, started):
    network = kind(5, 4, batch_first=True, **options)
    inputs = torch.randn(6, 9, 5, requires_grad=True)
    lengths = torch.tensor([3, 9, 1, 9, 4, 7])
    mask = torch.arange(9) < lengths[:, None]
    weights = torch.randn(6, 9, 8)
    layers = options.get("num_layers", 1) * (1 + options.get("bidirectional", False))
    start = None
    if started:
        cell = torch.randn(6, layers, 4, requires_grad=True) if kind is nn.LSTM else None
        start = RecurrentState(torch.randn(6, layers, 4, requires_grad=True), cell)

    def torch_run():
        packed = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
        outputs, last = network(packed, None if start is None else to_torch(start))
        return pad_packed_sequence(outputs, batch_first=True)[0], of_torch(last)

    def outcome(run):
        values, last = run()
        states = [part for part in last if part is not None]
        total = (values * weights[..., : values.shape[-1]]).sum()
        total = total + sum(state.square().sum() for state in states)
        given = [part for part in start or () if part is not None]
        gradients = torch.autograd.grad(total, [inputs, *given, *network.parameters()])
        return [values, *states, *gradients]

    ours = outcome(lambda: run_recurrent(network, inputs, mask, start))
    for one, other in zip(ours, outcome(torch_run), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@KINDS
def test_without_a_mask_all_inputs_are_real(kind):
    network = kind(5, 4, num_layers=2, batch_first=True)
    inputs = torch.randn(3, 7, 5)
    outputs, last = run_recurrent(network, inputs)
    theirs, state = network(inputs)
    torch.testing.assert_close(outputs, theirs)
    torch.testing.assert_close(last.hidden, of_torch(state).hidden)


@KINDS
def test_step_by_step_is_the_whole_run(kind):
    network = kind(5, 4, num_layers=2, batch_first=True)
    inputs = torch.randn(3, 7, 5)
    outputs, last = run_recurrent(network, inputs)
    cell = torch.zeros(3, 2, 2, 4) if kind is nn.LSTM else None
    state = RecurrentState(torch.zeros(3, 2, 2, 4), cell)  # two hypotheses of each sentence
    for place in range(7):
        given = torch.stack((inputs[:, place], torch.randn(3, 5)), dim=1)
        found, state = step_recurrent(network, given, state)
        if place < 6:  # the second hypothesis takes a way of its own and must not disturb
            torch.testing.assert_close(found[:, 0], outputs[:, place])
    torch.testing.assert_close(state.hidden[:, 0], last.hidden)
    if cell is not None:
        torch.testing.assert_close(state.cell[:, 0], last.cell)


@KINDS
def test_steps_from_known_gates_are_the_whole_run_with_its_gradients(kind):
    network = kind(5, 4, num_layers=2, batch_first=True)
    inputs = torch.randn(3, 7, 5)
    wanted, last = network(inputs)
    gates = torch.nn.functional.linear(inputs, network.weight_ih_l0, network.bias_ih_l0)
    states = [tuple(torch.zeros(3, 4) for _ in range(1 + (kind is nn.LSTM)))] * 2
    found = []
    for step in gates.unbind(1):
        states = step_from_gates(network, step, states)
        found.append(states[-1][0])
    outputs = torch.stack(found, dim=1)
    torch.testing.assert_close(outputs, wanted)
    parts = last if isinstance(last, tuple) else (last,)
    for part, finals in zip(parts, zip(*states, strict=True), strict=True):
        torch.testing.assert_close(torch.stack(finals), part)
    weights = torch.randn(3, 7, 4)
    ours = torch.autograd.grad((outputs * weights).sum(), list(network.parameters()))
    theirs = torch.autograd.grad((wanted * weights).sum(), list(network.parameters()))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_dropout_between_the_layers_is_that_of_training():
    network = nn.GRU(3, 4, num_layers=2, dropout=0.5, batch_first=True)
    inputs = torch.randn(2, 5, 3)
    one, other = (run_recurrent(network, inputs)[0] for _ in range(2))
    assert not torch.equal(one, other)
    network.eval()
    one, other = (run_recurrent(network, inputs)[0] for _ in range(2))
    assert torch.equal(one, other)
    torch.testing.assert_close(one, network(inputs)[0])


@KINDS
def test_a_run_in_bfloat16_may_begin_from_a_state_in_float32(kind):
    network = kind(5, 4, batch_first=True)
    state = torch.randn(3, 1, 4)
    start = RecurrentState(state, state if kind is nn.LSTM else None)
    inputs = torch.randn(3, 7, 5)
    exact, _ = run_recurrent(network, inputs, start=start)
    with torch.autocast("cpu", torch.bfloat16):
        outputs, _ = run_recurrent(network, inputs, start=start)
    torch.testing.assert_close(outputs.float(), exact, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_watched_states_are_those_that_torch_returns(kind):
    """The hidden states of all steps; of an LSTM the cells, of which torch returns the last."""
    network = make_recurrent(kind, 3, 4, 2, bidirectional=True)
    inputs = torch.randn(2, 6, 3)
    with watch_states() as watched:
        run_recurrent(network, inputs, backend="torch")
    run_recurrent(network, inputs)  # no longer watched
    assert [layer.name for layer in watched] == ["_l0", "_l0_reverse", "_l1", "_l1_reverse"]
    outputs, last = network(inputs)
    for place, layer in enumerate(watched):
        assert len(layer.states) == 6
        end = layer.states[0 if place % 2 else -1]
        torch.testing.assert_close(end, (last[1] if kind == "lstm" else last)[place])
    if kind != "lstm":
        top = torch.stack([torch.cat(pair, dim=-1) for pair in zip(
            watched[2].states, watched[3].states, strict=True)], dim=1)  # fmt: skip
        torch.testing.assert_close(top, outputs)
