"""The model against torch's own networks, and against its definition step by step."""

import pytest
import torch
from torch import nn

from dlarch import create_model
from dlarch.errors import OptionError

CELLS = pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])


def make(**options):
    torch.manual_seed(0)
    facts = {"in_features": 3, "out_features": 2, "hidden_size": 8} | options
    return create_model("rnn_regressor", **facts).eval()


def sequences(features=3, steps=7):
    return torch.randn(5, steps, features, generator=torch.Generator().manual_seed(1))


@CELLS
@pytest.mark.parametrize("backend", ["written", "torch"])
@pytest.mark.parametrize("layers", [1, 2])
@torch.no_grad()
def test_the_model_is_torchs_network_and_a_linear_layer(cell, backend, layers):
    model = make(cell=cell, cell_backend=backend, layers=layers)
    kind = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}[cell]
    reference = kind(3, 8, layers, batch_first=True)
    reference.load_state_dict(model.recurrent.state_dict())
    linear = nn.Linear(8, 2)
    linear.load_state_dict(model.output.state_dict())
    wanted = linear(reference(sequences())[0])
    torch.testing.assert_close(model(sequences()), wanted, atol=1e-5, rtol=1e-5)


def test_the_simple_cell_may_be_of_rectified_linear_units():
    model = make(cell="rnn", nonlinearity="relu")
    with torch.no_grad():
        states = model.read(sequences())[1].hidden
    assert states.ge(0).all()
    assert states.max() > 1e-3


@CELLS
@torch.no_grad()
def test_reading_goes_on_from_a_state(cell):
    model = make(cell=cell, layers=2)
    whole, last = model.read(sequences())
    first, state = model.read(sequences()[:, :4])
    rest, end = model.read(sequences()[:, 4:], state)
    torch.testing.assert_close(torch.cat((first, rest), dim=1), whole)
    torch.testing.assert_close(end.hidden, last.hidden)


@CELLS
def test_a_free_run_reads_its_own_predictions(cell):
    """Once more the definition: with all that was said so far as the sequence, from the start."""
    model = make(cell=cell, in_features=2)
    known = sequences(features=2)
    free = model.free_run(known, 6)
    assert free.shape == (5, 6, 2)
    with torch.no_grad():
        for step in range(6):
            told = model(torch.cat((known, free[:, :step]), dim=1))[:, -1]
            torch.testing.assert_close(free[:, step], told, atol=1e-5, rtol=1e-5)


def test_the_last_steps_of_training_are_read_from_predictions():
    torch.manual_seed(0)
    model = create_model("rnn_regressor", in_features=1, out_features=1, free_steps=3).train()
    waves = torch.randn(2, 8, 1)
    found = model.answers(waves, waves)
    read = model(waves[:, :5])
    torch.testing.assert_close(found[:, :5], read)
    known = waves[:, :5]
    for step in range(3):
        known = torch.cat((known, model(known)[:, -1:]), dim=1)
        torch.testing.assert_close(found[:, 5 + step], model(known)[:, -1])
    found[:, -1].sum().backward()  # through all that was read before
    assert model.recurrent.weight_ih_l0.grad.abs().sum() > 0
    model.eval()
    torch.testing.assert_close(model.answers(waves, waves), model(waves))


def test_free_steps_that_cannot_be_taken():
    with pytest.raises(OptionError, match="must not be negative"):
        create_model("rnn_regressor", in_features=1, out_features=1, free_steps=-1)
    model = create_model("rnn_regressor", in_features=1, out_features=1, free_steps=5).train()
    with pytest.raises(OptionError, match="only 5 steps"):
        model.answers(torch.randn(2, 5, 1), torch.randn(2, 5, 1))
    with pytest.raises(OptionError, match="targets that are the next inputs"):
        model.answers(torch.randn(2, 9, 1), torch.randn(2, 1))
