"""The autoencoder against torch's own layers, and what it makes of texts."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from dlarch import create_model
from dlarch.errors import DataError, MismatchError, OptionError
from dlarch.processing import LabelledTextProcessor, TextProcessor
from dlarch.processing.translation import pad
from dlarch.spec import BOS, EOS
from dlarch.tasks import Given

KINDS = pytest.mark.parametrize("kind", ["lstm", "cnn_lstm"])


def make(name="lstm_autoencoder", **options):
    torch.manual_seed(0)
    sizes = {"vocab_size": 9, "embedding_size": 5, "hidden_size": 8, "code_size": 6}
    model = create_model(name, **sizes | options).eval()
    letters = TextProcessor.from_tokens("abcde", "characters")
    model.processor = LabelledTextProcessor(letters, longest=8)
    return model


def rows():
    return pad([[BOS, 5, 6, 7, EOS], [BOS, 8, EOS], [BOS, 4, 4, 7, 4, 5, EOS]])


@KINDS
@torch.no_grad()
def test_codes_are_those_of_torchs_layers_on_the_bare_sentence(kind):
    model = make(encoder=kind)
    encoder = model.encoder
    network = nn.LSTM(5 if kind == "lstm" else 8, 8, batch_first=True, bidirectional=True)
    network.load_state_dict(encoder.recurrent.state_dict())
    codes = model.encode(rows())
    for row, code in zip(rows(), codes, strict=True):
        inputs = F.embedding(row[row != 0][None], encoder.embedding.weight)
        if kind == "cnn_lstm":
            weight, bias = encoder.convolution.weight, encoder.convolution.bias
            inputs = F.conv1d(inputs.mT, weight, bias, padding=1).relu().mT
        _, (hidden, _) = network(inputs)
        ends = torch.cat(
            (hidden[0], hidden[1]), dim=-1
        )  # forward at the end, backward at the start
        torch.testing.assert_close(model.code(ends)[0], code, atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_the_decoder_begins_with_the_code_and_reads_it_at_each_step():
    model = make()
    tokens, decoder = rows(), model.decoder
    code = model.encode(tokens)
    network = nn.LSTM(5 + 6, 8, batch_first=True)
    network.load_state_dict(decoder.recurrent.state_dict())
    inputs = torch.cat(
        (decoder.embedding(tokens[:, :-1]), code[:, None].expand(-1, tokens.shape[1] - 1, -1)), -1
    )
    first = decoder.first(code).tanh()[None]
    states, _ = network(inputs, (first, torch.zeros_like(first)))
    expected, found = decoder.output(states), model(tokens)
    real = tokens[:, 1:] != 0
    torch.testing.assert_close(found[real], expected[real], atol=1e-6, rtol=1e-5)
    nats = F.cross_entropy(expected.mT, tokens[:, 1:], ignore_index=0, reduction="none").sum(1)
    torch.testing.assert_close(model.nats(tokens, code), nats)


@KINDS
@torch.no_grad()
def test_token_by_token_is_the_whole(kind):
    model = make(encoder=kind)
    tokens = rows()
    logits = model(tokens)
    state = model.decoder.start(model.encode(tokens))
    for place in range(tokens.shape[1] - 1):
        output = model.step(tokens[:, place : place + 1], state, Given(None))
        state = output.state
        real = tokens[:, place + 1] != 0
        torch.testing.assert_close(
            output.logits[real, 0], logits[real, place], atol=1e-6, rtol=1e-5
        )


@torch.no_grad()
def test_all_that_the_decoder_knows_of_a_sentence_is_its_code():
    """Fed another sentence with this code, it cannot tell."""
    model = make()
    one, other = rows()[:1, :5], torch.tensor([[BOS, 5, 6, 4, EOS]])
    code = model.encode(one)
    torch.testing.assert_close(
        model.predict_tokens(other, code)[:3], model.predict_tokens(one, code)[:3]
    )
    assert not torch.allclose(model(other)[:, 0], model(one)[:, 0])


def test_reconstructions_and_interpolations_are_texts():
    model = make()
    texts = ["abc", "e", "aab"]
    written = model.reconstruct(texts)
    assert written == [model.reconstruct([text])[0] for text in texts]
    between = model.interpolate("abc", "e", 5)
    assert len(between) == 5
    assert [between[0], between[-1]] == model.reconstruct(["abc", "e"])
    codes = model.encode(model.processor.encode(["abc", "e"]).tokens)
    middle = model.processor.decode(model.decode(codes.mean(0, keepdim=True)))
    assert between[2] == middle[0]
    assert not model.training


def test_a_step_that_falls_on_a_mistake():
    model = make()
    with pytest.raises(OptionError, match="at least 2"):
        model.interpolate("a", "b", 1)
    with pytest.raises(DataError, match="Text 2 is empty"):
        model.reconstruct(["a", " "])
    with pytest.raises(MismatchError, match="no distribution of codes"):
        model.generate(2)
    with pytest.raises(MismatchError, match="no distribution of codes"):
        list(model.stream())


def test_greedy_scores_count_whole_texts_and_their_tokens(monkeypatch):
    model = make()
    tokens = rows()
    written = pad([[5, 6, 7, EOS], [4, 8, EOS], [4, 4, 7, EOS]])
    monkeypatch.setattr(model, "decode", lambda code: written)
    model._metrics = model.metrics("val")
    model._score_free(tokens)
    assert model._metrics["exact_match"].compute().item() == pytest.approx(1 / 3)
    # 4 of "567.", none of "8.", 3 of "44745."; an end that comes late is no match.
    assert model._metrics["greedy_accuracy"].compute().item() == pytest.approx(7 / 12)
