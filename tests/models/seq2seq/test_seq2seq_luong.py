"""Luong's attention against the paper's formulas, one sentence and one token at a time."""

import pytest
import torch
from torch import nn

from dlarch.errors import OptionError
from dlarch.models.seq2seq.seq2seq_luong import Seq2SeqLuong
from dlarch.spec import PAD

SIZES = {"embedding_size": 6, "hidden_size": 8}
SCORES = pytest.mark.parametrize("score", ["dot", "general", "concat"])


def make_model(**options) -> Seq2SeqLuong:
    torch.manual_seed(0)
    return Seq2SeqLuong(11, 13, **SIZES | options)


@pytest.fixture
def pairs():
    """Source (B, S) and target (B, T) of mixed lengths."""
    return Seq2SeqLuong.example(5, seed=1)[1][:2]


def by_hand(model, source, target):
    """Logits (T, V) and attention (T, S) of one sentence, by the formulas of the paper."""
    options = model.hparams
    annotations, last = model.encoder(model.source_embedding(source)[None])
    states = last if isinstance(last, tuple) else (last,)
    if options.bidirectional:  # layer by layer, its two directions side by side
        states = tuple(torch.cat((part[0::2], part[1::2]), dim=-1) for part in states)
    state = states if isinstance(model.decoder, nn.LSTM) else states[0]
    fed_back = torch.zeros(options.hidden_size)
    logits, attention = [], []
    for token in target:
        embedded = model.target_embedding(token)
        if options.input_feeding:
            embedded = torch.cat((embedded, fed_back))
        found, state = model.decoder(embedded[None, None], state)
        s = found[0, 0]
        scores = []
        for h in annotations[0]:
            if options.score == "dot":
                scores.append(torch.dot(s, h))
            elif options.score == "general":
                scores.append(torch.dot(s, model.key.weight @ h))
            else:
                both = torch.cat((model.query.weight, model.key.weight), dim=1)
                hidden = torch.tanh(both @ torch.cat((s, h)))
                scores.append(torch.dot(model.energy.weight[0], hidden))
        alpha = torch.stack(scores).softmax(0)
        context = (alpha[:, None] * annotations[0]).sum(0)
        fed_back = torch.tanh(model.combine.weight @ torch.cat((context, s)))
        logits.append(model.output(fed_back))
        attention.append(alpha)
    return torch.stack(logits), torch.stack(attention)


@SCORES
@pytest.mark.parametrize(
    "options",
    [{}, {"input_feeding": True}, {"layers": 2, "cell": "gru"}, {"bidirectional": False}],
    ids=["plain", "input_feeding", "stacked", "forwards"],
)
def test_equals_the_formulas_with_their_gradients(pairs, score, options):
    source, target = pairs
    model = make_model(score=score, **options)
    output = model(source, target)
    total = expected_total = 0.0
    for row in range(len(source)):
        words, fed = source[row][source[row] != PAD], target[row][target[row] != PAD]
        logits, attention = by_hand(model, words, fed)
        ours = output.logits[row, : len(fed)]
        torch.testing.assert_close(ours, logits, atol=1e-5, rtol=1e-5)
        looks = output.attention[row, : len(fed), : len(words)]
        torch.testing.assert_close(looks, attention, atol=1e-5, rtol=1e-5)
        total = total + ours.square().sum()
        expected_total = expected_total + logits.square().sum()
    parameters = list(model.parameters())
    found = torch.autograd.grad(total, parameters)
    theirs = torch.autograd.grad(expected_total, parameters)
    for one, other in zip(found, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_without_input_feeding_a_target_is_one_call_of_the_decoder(pairs, monkeypatch):
    model = make_model()
    monkeypatch.setattr(model, "read", None)  # a step by itself
    assert model(*pairs).logits.shape == (*pairs[1].shape, 13)


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(OptionError, match="layers must be at least 1, not 0"):
        make_model(layers=0)
    with pytest.raises(OptionError, match="must be even, not 7"):
        make_model(hidden_size=7)
    assert make_model(hidden_size=7, bidirectional=False)
