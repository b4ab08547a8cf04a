"""The written model against its definition: step by step, by torch, by the sums of its parts."""

import math

import pytest
import torch
from torch import nn

from dlarch import create_model
from dlarch.processing.translation import pad
from dlarch.spec import BOS, EOS, PAD
from dlarch.tasks import Given

CELLS = pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])


def make(**options):
    torch.manual_seed(0)
    facts = {"vocab_size": 12, "hidden_size": 16, "embedding_size": 6} | options
    return create_model("char_rnn", **facts).eval()


def rows():
    return pad([[BOS, 5, 6, 7, EOS], [BOS, 8, EOS], [BOS, 9, 10, 11, 4, 5, EOS]])


@CELLS
@pytest.mark.parametrize("conditions", [None, 3])
@torch.no_grad()
def test_token_by_token_is_the_whole(cell, conditions):
    model = make(cell=cell, layers=2, num_conditions=conditions)
    tokens, classes = rows(), torch.tensor([0, 2, 1])
    logits = model(tokens, classes)
    given = Given(classes if conditions else None)
    state = model.start(3)
    for place in range(tokens.shape[1]):
        output = model.step(tokens[:, place : place + 1], state, given)
        state = output.state
        real = tokens[:, place] != PAD
        torch.testing.assert_close(
            output.logits[real, 0], logits[real, place], atol=1e-5, rtol=1e-5
        )


@torch.no_grad()
def test_reading_goes_on_from_a_state():
    model = make(cell="lstm")
    tokens = rows()[2:]
    whole, last = model.read(tokens, model.start(1), Given(None))
    first, state = model.read(tokens[:, :3], model.start(1), Given(None))
    rest, end = model.read(tokens[:, 3:], state, Given(None))
    torch.testing.assert_close(torch.cat((first, rest), dim=1), whole)
    torch.testing.assert_close(end.hidden, last.hidden)


@torch.no_grad()
def test_a_later_token_leaves_earlier_logits_alone():
    model = make()
    tokens = rows()
    changed = tokens.clone()
    changed[:, 2] = 4
    torch.testing.assert_close(model(changed)[:, :2], model(tokens)[:, :2])
    assert not torch.allclose(model(changed)[:, 2], model(tokens)[:, 2])


@torch.no_grad()
def test_one_hot_inputs_are_rows_of_the_input_matrix():
    model = make(embedding_size=0, cell="rnn")
    tokens = rows()[2:]
    logits = model(tokens)
    reference = nn.RNN(12, 16, batch_first=True)
    reference.load_state_dict(model.recurrent.state_dict())
    one_hot = torch.nn.functional.one_hot(tokens, 12).float()
    torch.testing.assert_close(logits, model.output(reference(one_hot)[0]))
    assert not model.embedding.weight.requires_grad


@CELLS
def test_the_recurrence_begins_as_it_was_asked_for(cell):
    gates = {"rnn": 1, "gru": 3, "lstm": 4}[cell]
    for how in ("identity", "orthogonal", "normal"):
        model = make(cell=cell, recurrent_init=how, recurrent_std=0.5, layers=2, hidden_size=64)
        for layer in range(2):
            weight = model.recurrent.get_parameter(f"weight_hh_l{layer}").detach()
            parts = weight.split(64)
            assert len(parts) == gates
            for part in parts:
                if how == "identity":
                    assert torch.equal(part, torch.eye(64))
                elif how == "orthogonal":
                    torch.testing.assert_close(part @ part.T, torch.eye(64), atol=1e-5, rtol=0)
                else:
                    assert part.std() == pytest.approx(0.5, rel=0.05)


def test_relu_is_an_option_of_the_simple_cell():
    model = make(cell="rnn", nonlinearity="relu")
    states, _ = model.read(rows(), model.start(3), Given(None))
    assert states.min() >= 0
    assert make(cell="rnn").recurrent.nonlinearity == "tanh"


@torch.no_grad()
def test_probabilities_of_all_texts_sum_to_one():
    """Of a vocabulary of two signs, and texts of at most three: the rest has not ended yet."""
    model = make(vocab_size=6)
    banned = [0, 2]  # neither padding nor a beginning

    def log_probability(text):
        tokens = torch.tensor([[BOS, *text]])
        logits = model(tokens)[0]
        logits[:, banned] = -math.inf
        steps = logits.log_softmax(-1)
        return sum(float(steps[at, token]) for at, token in enumerate(text))

    total, unfinished = 0.0, [[]]
    for _ in range(4):
        total += sum(math.exp(log_probability([*text, EOS])) for text in unfinished)
        unfinished = [[*text, token] for text in unfinished for token in (1, 4, 5)]
    rest = sum(math.exp(log_probability(text)) for text in unfinished)
    assert total + rest == pytest.approx(1, abs=1e-5)
