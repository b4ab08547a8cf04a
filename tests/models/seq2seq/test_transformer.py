"""The Transformer against torch.nn.Transformer with the same weights."""

import pytest
import torch
from torch import nn

from dlarch.errors import DataError, MismatchError, OptionError
from dlarch.models.seq2seq.transformer import Transformer
from dlarch.nn import SinusoidalPositions
from dlarch.spec import PAD

SIZES = {"hidden_size": 16, "layers": 2, "heads": 4, "feedforward_size": 24}


def make_model(source_vocab_size=11, target_vocab_size=13, **options) -> Transformer:
    torch.manual_seed(0)
    return Transformer(source_vocab_size, target_vocab_size, **SIZES | options)


@pytest.fixture
def pairs():
    """Source (B, S) and target (B, T) of mixed lengths."""
    return Transformer.example(5, seed=1)[1][:2]


def torchs(model: Transformer) -> nn.Transformer:
    """torch's network with the model's weights."""
    before = model.hparams.norm == "pre"
    theirs = nn.Transformer(16, 4, 2, 2, 24, 0.0, batch_first=True, norm_first=before)
    if not before:  # torch normalises once more at the end, the paper does not
        theirs.encoder.norm = theirs.decoder.norm = None

    def copy(target, source):
        target.load_state_dict(source.state_dict())

    def copy_attention(target, source):
        with torch.no_grad():
            target.in_proj_weight.copy_(source.in_weight)
            target.in_proj_bias.copy_(source.in_bias)
        copy(target.out_proj, source.output)

    for stack, layers in ((theirs.encoder, model.encoder), (theirs.decoder, model.decoder)):
        for target, source in zip(stack.layers, layers, strict=True):
            copy_attention(target.self_attn, source.attention)
            copy(target.norm1, source.around_attention.norm)
            copy(target.linear1, source.network[0])
            copy(target.linear2, source.network[3])
            if stack is theirs.decoder:
                copy_attention(target.multihead_attn, source.cross)
                copy(target.norm2, source.around_cross.norm)
                copy(target.norm3, source.around_network.norm)
            else:
                copy(target.norm2, source.around_network.norm)
    if before:
        copy(theirs.encoder.norm, model.encoder_norm)
        copy(theirs.decoder.norm, model.decoder_norm)
    return theirs


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("positions", [None, 20])
def test_equals_torchs_transformer(pairs, norm, positions):
    source, target = pairs
    model = make_model(norm=norm, positions=positions)
    theirs = torchs(model)
    x = model.source_positions(model.source_embedding(source) * 4)
    y = model.target_positions(model.target_embedding(target) * 4)
    padding = source == PAD
    found = theirs(
        x,
        y,
        tgt_mask=nn.Transformer.generate_square_subsequent_mask(target.shape[1]),
        src_key_padding_mask=padding,
        memory_key_padding_mask=padding,
        tgt_is_causal=True,
    )
    expected = model.output(found)
    logits = model(source, target).logits
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)


def test_with_and_without_weights_the_features_are_the_same(pairs):
    source, target = pairs
    model = make_model()
    memory = model.encode(source)
    fast = model.decode(target, memory)
    slow = model.decode(target, memory, with_attention=True)
    assert fast.attention is None
    torch.testing.assert_close(fast.features, slow.features, atol=1e-5, rtol=1e-5)


def test_waves_are_those_of_the_paper():
    waves = SinusoidalPositions(6)(torch.zeros(1, 9, 6))[0]
    for place in range(9):
        for i in range(3):
            angle = torch.tensor(place / 10000 ** (2 * i / 6))
            torch.testing.assert_close(waves[place, 2 * i], angle.sin())
            torch.testing.assert_close(waves[place, 2 * i + 1], angle.cos())


def test_parameters_at_full_size_are_those_of_the_published_model():
    """The count of bentrevett's tutorial on Multi30k, lower-cased words of frequency 2."""
    model = Transformer(7853, 5893, norm="post", positions=100)
    assert sum(parameter.numel() for parameter in model.parameters()) == 9_038_341


def test_tied_weights_are_one_tensor(pairs):
    model = make_model(tie_weights="target")
    assert model.output.weight is model.target_embedding.weight
    assert model.source_embedding.weight is not model.target_embedding.weight
    model = make_model(13, 13, tie_weights="all")
    assert model.output.weight is model.source_embedding.weight is model.target_embedding.weight
    assert not model.output.weight[PAD].any()
    with pytest.raises(MismatchError, match="vocabularies of 11 and 13 ids cannot be tied"):
        make_model(tie_weights="all")


def test_more_tokens_than_positions_are_refused():
    model = make_model(positions=5)
    with pytest.raises(DataError, match="7 tokens is longer than the 5 positions"):
        model(torch.full((1, 7), 4), torch.full((1, 3), 4))
    assert model.search(torch.full((1, 3), 4)).tokens.shape[-1] <= 5
    assert make_model()(torch.full((1, 7), 4), torch.full((1, 300), 4)).logits.shape[1] == 300


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(OptionError, match="layers must be at least 1, not 0"):
        make_model(layers=0)
    with pytest.raises(OptionError, match="cannot be divided among 3 heads"):
        make_model(heads=3)
    with pytest.raises(OptionError, match="even"):
        make_model(hidden_size=15, heads=3)
