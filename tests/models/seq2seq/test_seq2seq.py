"""The encoder-decoder against torch's LSTM, one sentence and one token at a time."""

import pytest
import torch
from torch import nn

from dlarch.errors import OptionError
from dlarch.models.seq2seq.seq2seq import Seq2Seq, reverse
from dlarch.spec import PAD

SIZES = {"embedding_size": 6, "hidden_size": 7}


def make_model(**options) -> Seq2Seq:
    torch.manual_seed(0)
    return Seq2Seq(11, 13, **SIZES | options)


@pytest.fixture
def pairs():
    """Source (B, S) and target (B, T) of mixed lengths."""
    return Seq2Seq.example(5, seed=1)[1][:2]


@pytest.mark.parametrize("backwards", [True, False])
@pytest.mark.parametrize("layers", [1, 3])
def test_equals_torchs_lstm_step_by_step(pairs, backwards, layers):
    source, target = pairs
    model = make_model(reverse_source=backwards, layers=layers)
    logits = model(source, target).logits
    for row in range(len(source)):
        words, fed = source[row][source[row] != PAD], target[row][target[row] != PAD]
        words = words.flip(0) if backwards else words
        _, state = model.encoder(model.source_embedding(words)[None])
        for place, token in enumerate(fed):
            found, state = model.decoder(model.target_embedding(token)[None, None], state)
            expected = model.output(found[0, 0])
            torch.testing.assert_close(logits[row, place], expected, atol=1e-5, rtol=1e-5)


def test_gradients_equal_those_of_torchs_lstm(pairs):
    source, target = pairs
    source = source[source.ne(PAD).all(1)]  # one length, so that nothing need be packed
    target = target[: len(source)]
    model = make_model(reverse_source=False)
    parameters = list(model.parameters())
    ours = torch.autograd.grad(model(source, target).logits.square().sum(), parameters)
    _, state = model.encoder(model.source_embedding(source))
    found, _ = model.decoder(model.target_embedding(target), state)
    theirs = torch.autograd.grad(model.output(found).square().sum(), parameters)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_real_tokens_are_reversed_and_padding_stays():
    tokens = torch.tensor([[4, 5, 6, 3], [7, 3, PAD, PAD]])
    expected = torch.tensor([[3, 6, 5, 4], [3, 7, PAD, PAD]])
    assert torch.equal(reverse(tokens, tokens != PAD), expected)


def test_parameters_at_full_size_are_those_of_the_published_model():
    """The count of bentrevett's tutorial on Multi30k, lower-cased words of frequency 2."""
    model = Seq2Seq(7853, 5893, embedding_size=256, hidden_size=512, layers=2)
    assert sum(parameter.numel() for parameter in model.parameters()) == 13_898_501


def test_dropout_acts_between_layers_in_training_alone(pairs):
    model = make_model(dropout=0.5)
    model.dropout = nn.Identity()  # what is left acts between the layers
    one, other = model(*pairs).logits, model(*pairs).logits
    assert not torch.equal(one, other)
    model.eval()
    assert torch.equal(model(*pairs).logits, model(*pairs).logits)


def test_sizes_below_one_are_refused():
    with pytest.raises(OptionError, match="layers must be at least 1, not 0"):
        make_model(layers=0)
