import pytest
import torch
from torch import nn

from dlarch.models.vision.image_rnn import ImageRNN
from dlarch.nn import gru_update, lstm_update

SHAPE = (2, 5, 3)


def make(**options):
    torch.manual_seed(0)
    return ImageRNN(image_shape=SHAPE, num_classes=4, hidden_size=6, **options).eval()


def read(model, rows, suffix=""):
    """The last state of a cell that is fed with rows (B, F) one after the other."""
    weights = [
        getattr(model.recurrent, f"{name}_l0{suffix}")
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    ]
    hidden = cell = torch.zeros(len(rows[0]), 6)
    for row in rows:
        inputs = row @ weights[0].T + weights[2]
        states = hidden @ weights[1].T + weights[3]
        if model.hparams.cell == "rnn":
            hidden = (inputs + states).tanh()
        elif model.hparams.cell == "gru":
            hidden = gru_update(inputs, states, hidden)
        else:
            hidden, cell = lstm_update(inputs + states, cell)
    return hidden


@pytest.mark.parametrize("bidirectional", [False, True], ids=["down", "both"])
@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_equals_the_recurrence_written_out(cell, bidirectional):
    """One step per row, all its channels together; the last state of each direction counts."""
    model = make(cell=cell, bidirectional=bidirectional)
    image = torch.randn(3, *SHAPE)
    rows = [torch.cat([image[:, 0, t], image[:, 1, t]], dim=1) for t in range(5)]
    states = [read(model, rows)]
    if bidirectional:
        states.append(read(model, rows[::-1], "_reverse"))
    wanted = torch.cat(states, dim=1) @ model.output.weight.T + model.output.bias
    torch.testing.assert_close(model(image), wanted, atol=1e-5, rtol=1e-5)


def test_layers_read_the_states_of_those_below():
    model = make(cell="gru", layers=3, bidirectional=True)
    theirs = nn.GRU(6, 6, 3, bidirectional=True)
    theirs.load_state_dict(model.recurrent.state_dict())
    image = torch.randn(2, *SHAPE)
    outputs, _ = theirs(image.permute(2, 0, 1, 3).flatten(2))
    last = torch.cat([outputs[-1, :, :6], outputs[0, :, 6:]], dim=1)
    torch.testing.assert_close(model(image), model.output(last), atol=1e-5, rtol=1e-5)


def test_the_order_of_the_rows_matters():
    """An image upside down reads differently, unless the two directions are swapped as well."""
    model = make(cell="gru", bidirectional=True)
    image = torch.randn(2, *SHAPE)
    assert (model(image) - model(image.flip(2))).abs().max() > 1e-2
    swapped = make(cell="gru", bidirectional=True)
    values = dict(model.recurrent.named_parameters())
    with torch.no_grad():
        for name, value in swapped.recurrent.named_parameters():
            backward = name.endswith("_reverse")
            other = name.removesuffix("_reverse") if backward else f"{name}_reverse"
            value.copy_(values[other])
        swapped.output.weight.copy_(model.output.weight.roll(6, dims=1))
    torch.testing.assert_close(swapped(image.flip(2)), model(image), atol=1e-5, rtol=1e-5)


def test_the_last_row_is_read_last():
    """A cell that forgets everything sees the last row alone; reading upwards, the first."""
    model = make(cell="lstm", bidirectional=True)
    with torch.no_grad():
        for name, bias in model.recurrent.named_parameters():
            if "bias_ih" in name:
                bias[6:12] = -100.0  # forget gates
            elif "weight_hh" in name:
                bias.zero_()
    image = torch.randn(1, *SHAPE)
    middle, ends = image.clone(), image.clone()
    middle[:, :, 1:4] = 7.0
    ends[:, :, 0] = 7.0
    torch.testing.assert_close(model(middle), model(image))
    assert (model(ends) - model(image)).abs().max() > 1e-2


@pytest.mark.parametrize(("cell", "gates"), [("rnn", 1), ("gru", 3), ("lstm", 4)])
def test_numbers_of_parameters_are_those_counted_by_hand(cell, gates):
    model = ImageRNN(image_shape=(1, 28, 28), num_classes=10, cell=cell, hidden_size=100)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == gates * 100 * (28 + 100 + 2) + 100 * 10 + 10
