"""The encoder against torch.nn.TransformerEncoder with copied weights; where it looks."""

import math

import pytest
import torch
from torch import nn

from dlarch import create_model
from dlarch.errors import OptionError
from dlarch.nn import EncoderLayer
from dlarch.spec import PAD

TOKENS = torch.tensor([[2, 5, 6, 7, 8, 3], [2, 9, 10, 3, 0, 0], [2, 4, 3, 0, 0, 0]])


def copied(ours: EncoderLayer, theirs: nn.TransformerEncoderLayer) -> None:
    theirs.self_attn.in_proj_weight.data = ours.attention.in_weight.data
    theirs.self_attn.in_proj_bias.data = ours.attention.in_bias.data
    theirs.self_attn.out_proj.load_state_dict(ours.attention.output.state_dict())
    theirs.linear1.load_state_dict(ours.network[0].state_dict())
    theirs.linear2.load_state_dict(ours.network[-1].state_dict())
    theirs.norm1.load_state_dict(ours.around_attention.norm.state_dict())
    theirs.norm2.load_state_dict(ours.around_network.norm.state_dict())


def make(**options):
    torch.manual_seed(0)
    options = {"hidden_size": 16, "heads": 4, "feedforward_size": 24, "layers": 3} | options
    model = create_model("transformer_classifier", vocab_size=11, num_classes=3, **options)
    with torch.no_grad():  # biases and norms that are not 0 and 1
        for parameter in model.encoder.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return model.eval()


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_encoder_equals_torchs(norm):
    model, mask = make(norm=norm), TOKENS != PAD
    layer = nn.TransformerEncoderLayer(
        16, 4, 24, dropout=0.0, batch_first=True, norm_first=norm == "pre"
    )
    last = nn.LayerNorm(16) if norm == "pre" else None
    theirs = nn.TransformerEncoder(layer, 3, norm=last, enable_nested_tensor=False)
    for one, other in zip(model.encoder, theirs.layers, strict=True):
        copied(one, other)
    with torch.no_grad():
        x = model.positions(model.embedding(TOKENS) * math.sqrt(16))
        wanted = theirs.train()(x, src_key_padding_mask=~mask)  # without its fused form
        found, _ = model.encode(TOKENS)
    torch.testing.assert_close(found[mask], wanted[mask], atol=1e-5, rtol=1e-5)
    mean = torch.stack([row[real].mean(0) for row, real in zip(wanted, mask, strict=True)])
    with torch.no_grad():
        torch.testing.assert_close(model(TOKENS), model.output(mean), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_weights_of_words_are_those_of_the_positions_that_are_read(pooling):
    model, mask = make(pooling=pooling), TOKENS != PAD
    with torch.no_grad():
        weights, maps = model.word_weights(TOKENS), model.attention_maps(TOKENS)
    assert maps.shape == (3, 3, 4, 6, 6)
    assert weights[~mask].eq(0).all()
    assert maps.masked_select(~mask[:, None, None, None]).eq(0).all()
    torch.testing.assert_close(weights.sum(1), torch.ones(3))
    last = maps[:, -1].mean(1)
    for row, real in enumerate(mask):
        looks = last[row, 0] if pooling == "first" else last[row][real].mean(0)
        torch.testing.assert_close(weights[row], looks)


def test_the_order_of_words_matters():
    model = make()
    one = model(torch.tensor([[2, 5, 6, 7, 3]]))
    assert not torch.allclose(one, model(torch.tensor([[2, 7, 6, 5, 3]])), atol=1e-4)


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(OptionError, match="even hidden_size"):
        create_model("transformer_classifier", vocab_size=11, num_classes=3, hidden_size=15)
    with pytest.raises(OptionError, match="heads"):
        create_model("transformer_classifier", vocab_size=11, num_classes=3, heads=5)
