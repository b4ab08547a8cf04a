"""What transformers are made of besides attention: sums, normalisation, a network per position."""

from __future__ import annotations

from torch import Tensor, nn

from dlarch.nn.attention import Attended, MultiHeadAttention


class Residual(nn.Module):
    """Adds what a sublayer makes of its input to the input, with layer normalisation.

    Args:
        size: of a position, E.
        dropout: share of what is added set to zero in training.
        before: normalise the sublayer's input (pre-norm) instead of the sum (post-norm).
    """

    def __init__(self, size: int, dropout: float, before: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(size)
        self.dropout = nn.Dropout(dropout)
        self.before = before

    def enter(self, x: Tensor) -> Tensor:
        """What the sublayer reads."""
        return self.norm(x) if self.before else x

    def leave(self, x: Tensor, found: Tensor) -> Tensor:
        """What goes on, from the input and what the sublayer has found."""
        x = x + self.dropout(found)
        return x if self.before else self.norm(x)


def position_network(size: int, hidden_size: int, dropout: float) -> nn.Sequential:
    """The network of one hidden layer that each position passes, (..., E) to (..., E)."""
    return nn.Sequential(
        nn.Linear(size, hidden_size),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(hidden_size, size),
    )


class EncoderLayer(nn.Module):
    r"""Self-attention, then a network at each position; both are added to what they read.

    $$x' = x + \mathrm{MHA}(x, x) \qquad x'' = x' + W_2 \max(0, W_1 x' + b_1) + b_2$$

    What goes into each of the two (pre-norm) or each sum (post-norm) is normalised. Gives what
    `torch.nn.TransformerEncoderLayer` gives with the same weights.

    Args:
        size: of a position, E.
        heads: of the attention.
        feedforward_size: hidden units of the network.
        dropout: share of what a sublayer adds and of the network's hidden units, set to zero in
            training.
        before: pre-norm instead of post-norm.
        attention_dropout: share of attention weights, likewise; `dropout` when not given.
    """

    def __init__(
        self,
        size: int,
        heads: int,
        feedforward_size: int,
        dropout: float,
        before: bool,
        attention_dropout: float | None = None,
    ) -> None:
        super().__init__()
        of_weights = dropout if attention_dropout is None else attention_dropout
        self.attention = MultiHeadAttention(size, heads, of_weights)
        self.around_attention = Residual(size, dropout, before)
        self.network = position_network(size, feedforward_size, dropout)
        self.around_network = Residual(size, dropout, before)

    def forward(
        self, x: Tensor, mask: Tensor | None = None, with_weights: bool = False
    ) -> Attended:
        """Positions (B, T, E) to new ones, and the attention's weights if asked for.

        Args:
            x: the positions.
            mask: (B, T), True on real ones, to which alone attention looks.
            with_weights: give the weights (B, heads, T, T) back too.
        """
        entered = self.around_attention.enter(x)
        found = self.attention(entered, mask=mask, with_weights=with_weights)
        x = self.around_attention.leave(x, found.values)
        x = self.around_network.leave(x, self.network(self.around_network.enter(x)))
        return Attended(x, found.weights)
