"""The convolutional encoder-decoder against torch's convolutions, one sentence at a time."""

import math

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from dlarch.errors import DataError, OptionError
from dlarch.models.seq2seq.conv_seq2seq import ConvSeq2Seq
from dlarch.spec import PAD

SIZES = {"embedding_size": 6, "hidden_size": 8, "encoder_layers": 2, "decoder_layers": 3}
HALF = math.sqrt(0.5)


def make_model(**options) -> ConvSeq2Seq:
    torch.manual_seed(0)
    return ConvSeq2Seq(11, 13, **SIZES | options)


@pytest.fixture
def pairs():
    """Source (B, S) and target (B, T) of mixed lengths."""
    return ConvSeq2Seq.example(5, seed=1)[1][:2]


def by_torch(model, source, target):
    """Logits (T, V) of one sentence, with torch's own padding and gated linear units."""
    width = model.hparams.kernel_size

    def gated(layer, x, before, after):
        maps = F.conv1d(F.pad(x.T, (before, after))[None], layer.weight, layer.bias)[0]
        value, gate = maps.T.chunk(2, dim=-1)
        return value * torch.sigmoid(gate)

    embedded = model.source_embedding(source) + model.source_positions.vectors[: len(source)]
    x = model.encoder_input(embedded)
    for layer in model.encoder:
        x = HALF * (gated(layer, x, width // 2, width // 2) + x)
    keys = model.encoder_output(x)
    values = HALF * (keys + embedded)
    embedded = model.target_embedding(target) + model.target_positions.vectors[: len(target)]
    x = model.decoder_input(embedded)
    for place, layer in enumerate(model.decoder):
        attention = model.attention[place % len(model.attention)]
        h = gated(layer, x, width - 1, 0)
        weights = (HALF * (attention.query(h) + embedded) @ keys.T).softmax(-1)
        x = HALF * (HALF * (h + attention.output(weights @ values)) + x)
    return model.output(model.decoder_output(x))


@pytest.mark.parametrize("options", [{}, {"share_attention": True}, {"kernel_size": 5}])
def test_equals_torchs_convolutions(pairs, options):
    source, target = pairs
    model = make_model(**options)
    logits = model(source, target).logits
    for row in range(len(source)):
        words, fed = source[row][source[row] != PAD], target[row][target[row] != PAD]
        expected = by_torch(model, words, fed)
        torch.testing.assert_close(logits[row, : len(fed)], expected, atol=1e-5, rtol=1e-5)


def test_a_position_sees_as_far_as_its_layers_reach():
    """Three layers of width 3: the six tokens before, and no further."""
    model = make_model().eval()
    source = torch.randint(4, 11, (1, 5))
    target = torch.randint(4, 13, (1, 12))
    memory = model.encode(source)
    before = model.decode(target, memory).features
    for place in range(12):
        changed = target.clone()
        changed[0, place] = 4 + (changed[0, place] - 3) % 9
        differs = (model.decode(changed, memory).features != before).any(-1)[0]
        seen = [place <= at <= place + 6 for at in range(12)]
        assert differs.tolist() == seen


def test_parameters_at_full_size_are_those_of_the_published_model():
    """The count of bentrevett's tutorial on Multi30k, lower-cased words of frequency 2."""
    model = ConvSeq2Seq(
        7853,
        5893,
        embedding_size=256,
        hidden_size=512,
        encoder_layers=10,
        decoder_layers=10,
        positions=100,
        share_attention=True,
    )
    assert sum(parameter.numel() for parameter in model.parameters()) == 37_351_173


def test_more_tokens_than_positions_are_refused(pairs):
    model = make_model(positions=5)
    with pytest.raises(DataError, match="7 tokens is longer than the 5 positions"):
        model(torch.full((1, 7), 4), torch.full((1, 3), 4))
    with pytest.raises(OptionError, match="at most 5 tokens, max_length is 6"):
        model.search(torch.full((1, 3), 4), max_length=6)
    assert model.search(torch.full((1, 3), 4)).tokens.shape[-1] <= 5


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(OptionError, match="encoder_layers must be at least 1, not 0"):
        make_model(encoder_layers=0)
