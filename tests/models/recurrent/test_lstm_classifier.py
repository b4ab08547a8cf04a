"""Against torch's LSTM on packed sequences, and against a published parameter count."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from dlarch import create_model
from dlarch.errors import OptionError
from dlarch.processing.translation import pad
from dlarch.spec import BOS, EOS


def texts(count=7):
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(1, 12, (count,), generator=generator).tolist()
    draw = [torch.randint(4, 20, (n,), generator=generator).tolist() for n in lengths]
    return [[BOS, *row, EOS] for row in draw]


def pooled(pooling, outputs, hidden, lengths, directions):
    """By hand, text for text."""
    if pooling == "last":
        return torch.cat(list(hidden[-directions:]), dim=1)
    rows = [row[:length] for row, length in zip(outputs, lengths, strict=True)]
    return torch.stack([row.mean(0) if pooling == "mean" else row.amax(0) for row in rows])


@pytest.mark.parametrize("pooling", ["last", "mean", "max"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("backend", ["written", "torch"])
def test_equals_torch_on_packed_sequences(pooling, bidirectional, backend):
    torch.manual_seed(0)
    model = create_model(
        "lstm_classifier", vocab_size=20, num_classes=5, layers=2, hidden_size=9,
        pooling=pooling, bidirectional=bidirectional, cell_backend=backend,
    ).eval()  # fmt: skip
    theirs = nn.LSTM(100, 9, 2, batch_first=True, bidirectional=bidirectional)
    theirs.load_state_dict(model.recurrent.state_dict())
    rows = texts()
    lengths = torch.tensor([len(row) for row in rows])
    with torch.no_grad():
        embedded = model.embedding(pad(rows))
        packed = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
        outputs, (hidden, _) = theirs(packed)
        outputs, _ = pad_packed_sequence(outputs, batch_first=True)
        features = pooled(pooling, outputs, hidden, lengths, 1 + bidirectional)
        wanted = model.output(features)
        torch.testing.assert_close(model(pad(rows)), wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pooling", ["last", "mean", "max"])
def test_what_stands_in_the_padding_is_not_read(pooling):
    model = create_model("lstm_classifier", vocab_size=20, num_classes=3, pooling=pooling).eval()
    rows = pad(texts())
    before = model(rows)
    with torch.no_grad():
        model.embedding.weight[0] = 100.0
    assert torch.equal(model(rows), before)


def test_with_the_last_states_it_is_an_rnn_classifier():
    options = {"vocab_size": 20, "num_classes": 3, "embedding_size": 8, "hidden_size": 6}
    model = create_model("lstm_classifier", pooling="last", **options).eval()
    plain = create_model("rnn_classifier", cell="lstm", bidirectional=True, **options).eval()
    plain.load_state_dict(model.state_dict())
    assert torch.equal(model(pad(texts())), plain(pad(texts())))


def test_parameters_are_those_of_the_published_notebook():
    # bentrevett/pytorch-sentiment-analysis, "Upgraded Sentiment Analysis": 25,002 words,
    # embeddings of 100, two layers of 256 in both directions, one output
    published = 4_810_857
    model = create_model(
        "lstm_classifier", vocab_size=25_002, num_classes=2, hidden_size=256, layers=2
    )
    count = sum(p.numel() for p in model.parameters())
    assert count == published + 2 * 256 + 1  # a second output


def test_frozen_embeddings_are_not_trained():
    model = create_model("lstm_classifier", vocab_size=20, num_classes=3, freeze=True)
    model(pad(texts())).sum().backward()
    assert model.embedding.weight.grad is None
    assert model.output.weight.grad is not None


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(OptionError, match="layers must be at least 1, not 0"):
        create_model("lstm_classifier", vocab_size=20, num_classes=3, layers=0)
