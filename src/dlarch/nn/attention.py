"""Multi-head attention: each position asks all others, in several ways at once."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from dlarch.errors import OptionError


class Attended(NamedTuple):
    """What attention gives back.

    Attributes:
        values: (B, T, E), one per query.
        weights: (B, heads, T, S), how much of each position went into each value; None unless
            asked for.
    """

    values: Tensor
    weights: Tensor | None


class MultiHeadAttention(nn.Module):
    r"""Mix values by how well their keys answer a query, once per head (1706.03762).

    Every head projects queries, keys and values to its own D = E / heads dimensions:

    $$\mathrm{head} = \mathrm{softmax}\Big(\frac{Q K^\top}{\sqrt{D}}\Big) V \qquad
      Q = X W_Q \quad K = M W_K \quad V = M W_V$$

    with queries from X and keys and values from the memory M, which is X itself in
    self-attention. The heads side by side pass a last linear layer. Gives what
    `torch.nn.MultiheadAttention` gives with the same weights, which lie alike.

    A decoder that writes token by token keeps `keys_and_values` and calls `attend`.

    Args:
        size: of queries, memory and output, E; a multiple of `heads`.
        heads: number of them.
        dropout: share of the weights set to zero in training.
        bias: add a bias to all four projections.

    Raises:
        OptionError: `size` is no multiple of `heads`.
    """

    def __init__(self, size: int, heads: int, dropout: float = 0.0, bias: bool = True) -> None:
        super().__init__()
        if size % heads:
            raise OptionError(
                f"{size} dimensions cannot be divided among {heads} heads: give a multiple of "
                f"{heads}, or other heads."
            )
        self.heads, self.dropout = heads, dropout
        # Queries, keys and values of self-attention are one product.
        self.in_weight = nn.Parameter(torch.empty(3 * size, size))
        self.in_bias = nn.Parameter(torch.zeros(3 * size)) if bias else None
        self.output = nn.Linear(size, size, bias=bias)
        for part in self.in_parts():
            nn.init.xavier_uniform_(part)
        if bias:
            nn.init.zeros_(self.output.bias)

    def in_parts(self) -> tuple[Tensor, ...]:
        """The weights of queries, keys and values, each (E, E)."""
        return self.in_weight.chunk(3)

    def forward(
        self,
        queries: Tensor,
        memory: Tensor | None = None,
        mask: Tensor | None = None,
        causal: bool = False,
        with_weights: bool = False,
    ) -> Attended:
        """Let each query look at the memory.

        Args:
            queries: (B, T, E).
            memory: (B, S, E); the queries themselves when not given.
            mask: True where a query may look, at one position at least: (B, S), real positions
                of the memory, or (B, T, S).
            causal: let query t look at positions up to t alone.
            with_weights: give the weights back too.
        """
        if memory is None:
            query, keys, values = self.parts(queries)
        else:
            query, (keys, values) = self.queries(queries), self.keys_and_values(memory)
        return self.attend(query, keys, values, mask, causal, with_weights)

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of self-attention, (B, T, E) to (B, heads, T, D) each."""
        parts = F.linear(x, self.in_weight, self.in_bias).chunk(3, dim=-1)
        query, keys, values = (self._per_head(part) for part in parts)
        return query, keys, values

    def queries(self, queries: Tensor) -> Tensor:
        """Queries (B, T, E) per head, (B, heads, T, D)."""
        size = queries.shape[-1]
        bias = self.in_bias[:size] if self.in_bias is not None else None
        return self._per_head(F.linear(queries, self.in_weight[:size], bias))

    def keys_and_values(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of a memory (B, S, E) per head, each (B, heads, S, D)."""
        size = memory.shape[-1]
        bias = self.in_bias[size:] if self.in_bias is not None else None
        keys, values = F.linear(memory, self.in_weight[size:], bias).chunk(2, dim=-1)
        return self._per_head(keys), self._per_head(values)

    def attend(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor,
        mask: Tensor | None = None,
        causal: bool = False,
        with_weights: bool = False,
    ) -> Attended:
        """The same as `forward`, with queries (B, heads, T, D), keys and values (B, heads, S, D).

        With `causal` the queries are the last T of the S positions.
        """
        dropout = self.dropout if self.training else 0.0
        # Said in words, "causal" is faster than as a mask.
        in_words = causal and mask is None and query.shape == keys.shape and not with_weights
        allowed = _allowed(query, keys, mask, causal and not in_words)
        weights = None
        if with_weights:
            weights = attention_weights(query, keys, allowed)
            found = F.dropout(weights, dropout) @ values
        else:
            found = F.scaled_dot_product_attention(
                query, keys, values, attn_mask=allowed, dropout_p=dropout, is_causal=in_words
            )
        return Attended(self.output(found.transpose(1, 2).flatten(2)), weights)

    def _per_head(self, inputs: Tensor) -> Tensor:
        """(B, S, E) to (B, heads, S, D)."""
        heads: Tensor = inputs.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return heads


def attention_weights(query: Tensor, keys: Tensor, allowed: Tensor | None = None) -> Tensor:
    """Shares (..., T, S) that add up to 1 over the keys; exactly 0 where `allowed` is False."""
    energies = query @ keys.transpose(-2, -1) / math.sqrt(query.shape[-1])
    if allowed is not None:
        energies = energies.masked_fill(~allowed, -torch.inf)
    return energies.softmax(dim=-1)


def _allowed(query: Tensor, keys: Tensor, mask: Tensor | None, causal: bool) -> Tensor | None:
    """Both masks as one that broadcasts to (B, heads, T, S); None if all may see all."""
    count, positions = query.shape[-2], keys.shape[-2]
    allowed = None
    if mask is not None:
        allowed = mask[:, None, None] if mask.dim() == 2 else mask[:, None]
    if causal and count > 1:  # the last position sees all
        past = torch.ones(count, positions, dtype=torch.bool, device=query.device)
        past = past.tril(positions - count)
        allowed = past if allowed is None else allowed & past
    return allowed
