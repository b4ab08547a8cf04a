import pytest
import torch
from torch import nn

from dlarch.errors import OptionError
from dlarch.nn import Constant, Glorot, MultiHeadAttention, initialize

B, T, S, E, HEADS = 3, 4, 6, 8, 2
LENGTHS = torch.tensor([6, 1, 3])
REAL = torch.arange(S) < LENGTHS[:, None]


def pair(bias=True):
    """Our attention and torch's with the same weights."""
    torch.manual_seed(0)
    ours = MultiHeadAttention(E, HEADS, bias=bias).eval()
    theirs = nn.MultiheadAttention(E, HEADS, bias=bias, batch_first=True).eval()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.in_weight)
        theirs.out_proj.weight.copy_(ours.output.weight)
        if bias:
            theirs.in_proj_bias.copy_(nn.init.normal_(ours.in_bias))
            theirs.out_proj.bias.copy_(nn.init.normal_(ours.output.bias))
    return ours, theirs


@pytest.mark.parametrize("with_weights", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_self_attention_equals_torchs(bias, masked, causal, with_weights):
    ours, theirs = pair(bias)
    x = torch.randn(B, S, E)
    found = ours(x, mask=REAL if masked else None, causal=causal, with_weights=with_weights)
    wanted, weights = theirs(
        x, x, x,
        key_padding_mask=~REAL if masked else None,
        attn_mask=torch.ones(S, S, dtype=torch.bool).triu(1) if causal else None,
        average_attn_weights=False,
    )  # fmt: skip
    torch.testing.assert_close(found.values, wanted, atol=1e-6, rtol=1e-5)
    if with_weights:
        torch.testing.assert_close(found.weights, weights, atol=1e-6, rtol=1e-5)
    else:
        assert found.weights is None


@pytest.mark.parametrize("with_weights", [False, True])
@pytest.mark.parametrize("shape", [(B, S), (B, T, S)])
def test_cross_attention_equals_torchs(shape, with_weights):
    ours, theirs = pair()
    x, memory = torch.randn(B, T, E), torch.randn(B, S, E)
    mask = REAL if len(shape) == 2 else torch.rand(shape) < 0.6
    mask[..., 0] = True
    found = ours(x, memory, mask, with_weights=with_weights)
    per_head = mask.expand(T, B, S).transpose(0, 1) if len(shape) == 2 else mask
    wanted, weights = theirs(
        x, memory, memory, attn_mask=~per_head.repeat_interleave(HEADS, 0),
        average_attn_weights=False,
    )  # fmt: skip
    torch.testing.assert_close(found.values, wanted, atol=1e-6, rtol=1e-5)
    if with_weights:
        torch.testing.assert_close(found.weights, weights, atol=1e-6, rtol=1e-5)
        hidden = ~per_head[:, None].expand_as(found.weights)
        assert found.weights[hidden].eq(0).all()


def test_padding_changes_nothing():
    ours, _ = pair()
    x = torch.randn(B, S, E)
    other = torch.where(REAL[..., None], x, torch.full_like(x, 9.0))
    for row, length in enumerate(LENGTHS):
        alone = ours(x[row : row + 1, :length]).values[0]
        torch.testing.assert_close(ours(x, mask=REAL).values[row, :length], alone)
        torch.testing.assert_close(ours(other, mask=REAL).values[row, :length], alone)


def test_the_future_changes_nothing():
    ours, _ = pair()
    x = torch.randn(B, S, E)
    later = x.clone()
    later[:, 4:] = 5.0
    one, other = ours(x, causal=True).values, ours(later, causal=True).values
    torch.testing.assert_close(one[:, :4], other[:, :4])
    assert (one[:, 4:] - other[:, 4:]).abs().amin((0, 2)).min() > 0


@pytest.mark.parametrize("with_weights", [False, True])
def test_position_by_position_with_kept_keys_is_the_same(with_weights):
    """What a decoder does: two positions at once, then one after the other."""
    ours, _ = pair()
    x = torch.randn(B, S, E)
    whole = ours(x, causal=True).values
    keys, values = ours.keys_and_values(x[:, :0])
    for begin, end in ((0, 2), (2, 3), (3, 5), (5, 6)):
        new_keys, new_values = ours.keys_and_values(x[:, begin:end])
        keys, values = torch.cat([keys, new_keys], 2), torch.cat([values, new_values], 2)
        query = ours.queries(x[:, begin:end])
        step = ours.attend(query, keys, values, causal=True, with_weights=with_weights)
        torch.testing.assert_close(step.values, whole[:, begin:end], atol=1e-6, rtol=1e-5)


def test_dropout_sets_weights_to_zero_in_training_alone():
    torch.manual_seed(0)
    attention = MultiHeadAttention(E, HEADS, dropout=0.5)
    x = torch.randn(B, S, E)
    assert not torch.equal(attention(x).values, attention(x).values)
    attention.eval()
    assert torch.equal(attention(x).values, attention(x).values)


def test_an_initializer_draws_queries_keys_and_values_one_by_one():
    """As for gates: else the fan-out would be that of all three together."""
    attention = MultiHeadAttention(240, 4)
    initialize(attention, Glorot())
    for part in (*attention.in_parts(), attention.output.weight):
        assert part.std().item() == pytest.approx((2 / 480) ** 0.5, rel=0.02)
    initialize(attention, Constant(0.5))
    assert attention.in_weight.std().item() == pytest.approx(0.5, rel=0.02)


def test_heads_must_divide_the_size():
    with pytest.raises(OptionError, match="8 dimensions cannot be divided among 3 heads"):
        MultiHeadAttention(8, 3)
