"""The encoder-decoder with context against torch's GRU, one sentence and one token at a time."""

import pytest
import torch

from dlarch.errors import OptionError
from dlarch.models.seq2seq.seq2seq_context import Seq2SeqContext
from dlarch.spec import PAD

SIZES = {"embedding_size": 6, "hidden_size": 7}


def make_model(**options) -> Seq2SeqContext:
    torch.manual_seed(0)
    return Seq2SeqContext(11, 13, **SIZES | options)


@pytest.fixture
def pairs():
    """Source (B, S) and target (B, T) of mixed lengths."""
    return Seq2SeqContext.example(5, seed=1)[1][:2]


def by_torch(model, source, target):
    """Logits (T, V) of one sentence, all that is shown to a step put side by side before it."""
    _, last = model.encoder(model.source_embedding(source)[None])
    context = state = last[0]
    logits = []
    for token in target:
        embedded = model.target_embedding(token)[None]
        state = model.cell(torch.cat((embedded, context), dim=-1), state)
        logits.append(model.output(torch.cat((embedded, state, context), dim=-1)))
    return torch.cat(logits)


def test_equals_torchs_gru_with_its_gradients(pairs):
    source, target = pairs
    model = make_model()
    logits = model(source, target).logits
    total = expected_total = 0.0
    for row in range(len(source)):
        words, fed = source[row][source[row] != PAD], target[row][target[row] != PAD]
        expected = by_torch(model, words, fed)
        torch.testing.assert_close(logits[row, : len(fed)], expected, atol=1e-5, rtol=1e-5)
        total = total + logits[row, : len(fed)].square().sum()
        expected_total = expected_total + expected.square().sum()
    parameters = list(model.parameters())
    ours = torch.autograd.grad(total, parameters)
    theirs = torch.autograd.grad(expected_total, parameters)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_parameters_at_full_size_are_those_of_the_published_model():
    """The count of bentrevett's tutorial on Multi30k, lower-cased words of frequency 2."""
    model = Seq2SeqContext(7853, 5893, embedding_size=256, hidden_size=512)
    assert sum(parameter.numel() for parameter in model.parameters()) == 14_219_781


def test_sizes_below_one_are_refused():
    with pytest.raises(OptionError, match="hidden_size must be at least 1, not 0"):
        make_model(hidden_size=0)
