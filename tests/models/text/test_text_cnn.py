"""Against a plain Conv1d for each text alone, and against a published parameter count."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from dlarch import create_model
from dlarch.errors import OptionError
from dlarch.processing.translation import pad
from dlarch.spec import BOS, EOS


def texts(count=7):
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(1, 12, (count,), generator=generator).tolist()
    draw = [torch.randint(4, 20, (n,), generator=generator).tolist() for n in lengths]
    return [[BOS, *row, EOS] for row in draw]


def test_equals_a_convolution_of_each_text_alone():
    torch.manual_seed(0)
    model = create_model("text_cnn", vocab_size=20, num_classes=3, widths=[2, 3, 5]).eval()
    rows = texts()
    with torch.no_grad():
        found = model(pad(rows))
        for row, logits in zip(rows, found, strict=True):
            x = model.embedding.weight[row].T[None]
            maxima = []
            for width, layer in zip([2, 3, 5], model.convolutions, strict=True):
                plain = nn.Conv1d(100, 100, width, padding=width - 1)
                plain.load_state_dict(layer.state_dict())
                scores = plain(x)[..., width - 1 :]  # those that begin at a word
                assert scores.shape[-1] == len(row)
                maxima.append(F.relu(scores).amax(2))
            torch.testing.assert_close(model.output(torch.cat(maxima, 1))[0], logits)


@pytest.mark.parametrize("recurrent_size", [0, 6])
def test_what_stands_in_the_padding_is_not_read(recurrent_size):
    options = {"recurrent_size": recurrent_size, "widths": [2, 4]}
    model = create_model("text_cnn", vocab_size=20, num_classes=3, **options).eval()
    rows = pad(texts())
    before = model(rows)
    with torch.no_grad():
        model.embedding.weight[0] = 100.0
    assert torch.equal(model(rows), before)


def test_cnn_and_lstm_equal_a_text_alone_by_torch():
    torch.manual_seed(0)
    model = create_model("text_cnn", vocab_size=20, num_classes=3, recurrent_size=6).eval()
    rows = texts()
    with torch.no_grad():
        for row, logits in zip(rows, model(pad(rows)), strict=True):
            x = model.embedding.weight[row].T[None]
            scores = [
                layer(F.pad(x, (0, layer.kernel_size[0] - 1))) for layer in model.convolutions
            ]
            blocks = F.max_pool1d(torch.cat(scores, 1).relu(), 4, ceil_mode=True)
            _, (hidden, _) = model.recurrent(blocks.transpose(1, 2))
            torch.testing.assert_close(model.output(torch.cat([*hidden], 1))[0], logits)


def test_parameters_are_those_of_the_published_notebook():
    # bentrevett/pytorch-sentiment-analysis, "Convolutional Sentiment Analysis": 25,002 words,
    # embeddings of 100, 100 filters of each of 3, 4, 5, one output
    published = 2_620_801
    model = create_model("text_cnn", vocab_size=25_002, num_classes=2)
    count = sum(p.numel() for p in model.parameters())
    assert count == published + 300 + 1  # a second output


def test_widths_that_are_none_are_refused():
    with pytest.raises(OptionError, match="widths must be numbers of words"):
        create_model("text_cnn", vocab_size=20, num_classes=3, widths=[])
