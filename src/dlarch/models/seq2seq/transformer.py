"""Transformer: translation by attention alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn, optim
from torch.nn import functional as F  # noqa: N812

from dlarch.decoding import PerSentence, map_tensors
from dlarch.errors import MismatchError, OptionError, check_at_least_1
from dlarch.nn import (
    Attended,
    EncoderLayer,
    Glorot,
    LearnedPositions,
    MultiHeadAttention,
    Residual,
    SinusoidalPositions,
    initialize,
    position_network,
)
from dlarch.registry import register_model
from dlarch.spec import PAD
from dlarch.tasks import (
    DecoderOutput,
    DecoderStep,
    InitializerCallable,
    LossCallable,
    OptimizerCallable,
    SchedulerCallable,
    Translation,
    TranslationOutput,
)


class Pair(NamedTuple):
    """Keys and values that an attention looks at, each (B, heads, S, D)."""

    keys: Tensor
    values: Tensor


class Memory(NamedTuple):
    """What the decoder knows of the source; computed once per sentence.

    Attributes:
        source: keys and values for the attention of each decoder layer to the source.
        mask: (B, S), True on real tokens.
    """

    source: tuple[Pair, ...]
    mask: Tensor


class State(NamedTuple):
    """What the decoder knows of the tokens fed so far.

    Attributes:
        past: keys and values of each layer, of all P tokens that any hypothesis of the sentence
            was fed, so that none need be moved when hypotheses change places.
        seen: (B, K, P), which of them are the beginning of each hypothesis.
    """

    past: PerSentence
    seen: Tensor


class DecoderLayer(nn.Module):
    """Self-attention to earlier positions, attention to the source, a network at each position.

    Args:
        size: of a position, E.
        heads: of each attention.
        feedforward_size: hidden units of the network.
        dropout: share of what a sublayer adds, of the network's hidden units and of attention
            weights, set to zero in training.
        before: pre-norm instead of post-norm.
    """

    def __init__(
        self, size: int, heads: int, feedforward_size: int, dropout: float, before: bool
    ) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(size, heads, dropout)
        self.around_attention = Residual(size, dropout, before)
        self.cross = MultiHeadAttention(size, heads, dropout)
        self.around_cross = Residual(size, dropout, before)
        self.network = position_network(size, feedforward_size, dropout)
        self.around_network = Residual(size, dropout, before)

    def attend(self, x: Tensor) -> Tensor:
        """Self-attention of positions (B, T, E), each to those up to it."""
        found = self.attention(self.around_attention.enter(x), causal=True)
        return self.around_attention.leave(x, found.values)

    def attend_past(self, x: Tensor, past: Pair, seen: Tensor) -> tuple[Tensor, Pair]:
        """Self-attention of one new position per hypothesis, (B, K, E), to those before it.

        Args:
            x: the new positions.
            past: keys and values of the P - K positions before.
            seen: (B, K, P), where each may look; the last K are the new ones.

        Returns:
            The positions, and keys and values with theirs.
        """
        query, *new = self.attention.parts(self.around_attention.enter(x))
        past = Pair(*(torch.cat(parts, dim=2) for parts in zip(past, new, strict=True)))
        # A hypothesis alone was fed all there is.
        mask = seen if seen.shape[1] > 1 else None
        found = self.attention.attend(query, *past, mask=mask)
        return self.around_attention.leave(x, found.values), past

    def attend_source(self, x: Tensor, source: Pair, mask: Tensor, with_weights: bool) -> Attended:
        """Attention of positions (B, T, E) to the source's keys and values."""
        query = self.cross.queries(self.around_cross.enter(x))
        found = self.cross.attend(query, *source, mask, with_weights=with_weights)
        return Attended(self.around_cross.leave(x, found.values), found.weights)

    def feed_forward(self, x: Tensor) -> Tensor:
        """The network at each position, (B, T, E)."""
        return self.around_network.leave(x, self.network(self.around_network.enter(x)))


class Decoder(nn.ModuleList):
    """Layers, one after the other."""

    def __iter__(self) -> Iterator[DecoderLayer]:
        """The layers."""
        return cast(Iterator[DecoderLayer], super().__iter__())


@register_model("transformer", paper="1706.03762")
class Transformer(Translation):
    r"""Let every position look at all others, layer by layer, instead of reading in order.

    Tokens are embedded, scaled by $\sqrt E$, and told where they stand by waves or learned vectors.
    A layer of the encoder adds to its input what each position finds at all of them, then what a
    network of one hidden layer makes of each; with $\mathrm{MHA}(Q, M)$ the attention of several
    heads from Q to M (`dlarch.nn.MultiHeadAttention`), before normalisation:

    $$x' = x + \mathrm{MHA}(x, x) \qquad x'' = x' + W_2 \max(0, W_1 x' + b_1) + b_2$$

    A layer of the decoder looks at the tokens before it alone, and between the two at the encoder's
    output z, $y'' = y' + \mathrm{MHA}(y', z)$. Each sum (post-norm) or what goes into each sublayer
    (pre-norm) is normalised. Nothing waits for the step before: a known target is written in one
    go. Token by token, the keys and values of those before are kept.

    Shapes: source (B, S), target (B, T) -> logits (B, T, V), attention (B, T, S), the mean of the
    last layer's heads.

    Differences from the paper: (1) pre-norm by default, which trains without a careful warm-up;
    (2) 3 + 3 layers of 256 by default; (3) dropout also on attention weights and hidden
    units; (4) the output layer has a bias and is the target embedding only if asked for.

    Expected: see docs/models/transformer.md, `dlarch fit --config recipes/transformer.yaml`.

    Args:
        source_vocab_size: number of source ids. Taken from the data when not given.
        target_vocab_size: number of target ids. Taken from the data when not given.
        hidden_size: dimensions of a position, E; a multiple of `heads`.
        layers: of encoder and decoder each.
        heads: of each attention.
        feedforward_size: hidden units of the network at each position.
        norm: normalise what goes into each sublayer ("pre") or what comes out ("post").
        positions: longest sequence, as many vectors are learned for either side; waves, for any
            length, when not given.
        tie_weights: use the target embedding as the output layer ("target"), and as the source
            embedding too ("all", with one vocabulary for both sides).
        dropout: share of embeddings, of what each sublayer adds, of hidden units and of attention
            weights, set to zero in training.
        loss: called with logits (n, V) and targets (n,) of real tokens; a mean over them.
        optimizer: called with the parameters.
        scheduler: called with the optimizer; steps after each optimizer step.
        initializer: of the weights of all layers but embeddings; `Glorot` when not given.
        pictures: draw attention and translations at each validation.
    """

    def __init__(
        self,
        source_vocab_size: int | None = None,
        target_vocab_size: int | None = None,
        hidden_size: int = 256,
        layers: int = 3,
        heads: int = 8,
        feedforward_size: int = 512,
        norm: Literal["pre", "post"] = "pre",
        positions: int | None = None,
        tie_weights: Literal["target", "all"] | None = None,
        dropout: float = 0.0,
        loss: LossCallable = F.cross_entropy,
        optimizer: OptimizerCallable = lambda parameters: optim.Adam(parameters, lr=1e-3),
        scheduler: SchedulerCallable | None = None,
        initializer: InitializerCallable | None = None,
        pictures: bool = True,
    ) -> None:
        super().__init__(
            loss=loss,
            optimizer=optimizer,
            scheduler=scheduler,
            initializer=initializer,
            pictures=pictures,
        )
        check_at_least_1(
            hidden_size=hidden_size,
            layers=layers,
            heads=heads,
            feedforward_size=feedforward_size,
            positions=positions,
        )
        if positions is None and hidden_size % 2:
            raise OptionError(f"Waves need an even hidden_size, not {hidden_size}.")
        self.longest = positions
        self.save_hyperparameters()
        self.build_if_known()  # else configure_model() builds, from the data's spec

    def build(self, source_vocab_size: int, target_vocab_size: int) -> None:
        """Make the layers, in the order in which data meet them."""
        options = self.hparams
        size, before = options.hidden_size, options.norm == "pre"

        def positions() -> LearnedPositions | SinusoidalPositions:
            learned = options.positions
            return LearnedPositions(learned, size) if learned else SinusoidalPositions(size)

        sizes = (size, options.heads, options.feedforward_size, options.dropout, before)

        def last_norm() -> nn.Module:
            return nn.LayerNorm(size) if before else nn.Identity()

        self.dropout = nn.Dropout(options.dropout)
        self.source_embedding = nn.Embedding(source_vocab_size, size, padding_idx=PAD)
        self.source_positions = positions()
        self.encoder = nn.ModuleList(EncoderLayer(*sizes) for _ in range(options.layers))
        self.encoder_norm = last_norm()
        self.target_embedding = nn.Embedding(target_vocab_size, size, padding_idx=PAD)
        self.target_positions = positions()
        self.decoder = Decoder(DecoderLayer(*sizes) for _ in range(options.layers))
        self.decoder_norm = last_norm()
        self.output = nn.Linear(size, target_vocab_size)
        initialize(self, Glorot())
        for embedding in (self.source_embedding, self.target_embedding):
            nn.init.normal_(embedding.weight, std=size**-0.5)
            nn.init.zeros_(embedding.weight[PAD])
        if options.tie_weights is not None:
            self.output.weight = self.target_embedding.weight
        if options.tie_weights == "all":
            if source_vocab_size != target_vocab_size:
                raise MismatchError(
                    f"The vocabularies of {source_vocab_size} and {target_vocab_size} ids cannot "
                    "be tied: set --data.share_vocabulary true, or --model.tie_weights target."
                )
            self.source_embedding.weight = self.target_embedding.weight

    def forward(self, source: Tensor, target: Tensor) -> TranslationOutput:
        """Logits of the token after each target token fed: (B, S), (B, T) -> (B, T, V)."""
        features, attention = self.decode(target, self.encode(source), with_attention=True)
        return TranslationOutput(self.project(features), attention)

    def encode(self, source: Tensor) -> Memory:
        """Read the source, (B, S)."""
        mask = source != PAD
        x = self.source_embedding(source) * math.sqrt(self.hparams.hidden_size)
        x = self.dropout(self.source_positions(x))
        for layer in self.encoder:
            x = layer(x, mask).values
        x = self.encoder_norm(x)
        pairs = (layer.cross.keys_and_values(x) for layer in self.decoder)
        # Whole in memory, for the many steps that look at them.
        whole = tuple(Pair(keys.contiguous(), values.contiguous()) for keys, values in pairs)
        return Memory(whole, mask)

    def first_state(self, memory: Memory) -> State:
        """The state before the first token, with K = 1: nothing stands before it."""
        nothing = map_tensors(lambda part: part[:, :, :0], memory.source)
        return State(PerSentence(nothing), memory.mask.new_zeros(len(memory.mask), 1, 0))

    def decode(self, target: Tensor, memory: Memory, with_attention: bool = False) -> DecoderOutput:
        """Write a target whose tokens are known: (B, T) tokens fed, T predictions made."""
        features, maps = self.decoded(target, memory, with_attention)
        return DecoderOutput(features, maps[-1].mean(1) if with_attention else None)

    def decoded(
        self, target: Tensor, memory: Memory, with_attention: bool
    ) -> tuple[Tensor, list[Tensor]]:
        """Features (B, T, E), and each layer's attention (B, heads, T, S) if asked for."""
        x = self.embed_target(target)
        maps: list[Tensor] = []
        # Padding stands at the end, where earlier positions do not look.
        for layer, source in zip(self.decoder, memory.source, strict=True):
            x = layer.attend(x)
            x, weights = layer.attend_source(x, source, memory.mask, with_attention)
            x = layer.feed_forward(x)
            maps += [] if weights is None else [weights]
        return self.decoder_norm(x), maps

    def advance(self, token: Tensor, state: State, memory: Memory) -> DecoderStep:
        """Feed one token to each hypothesis, (B, K)."""
        own = torch.eye(token.shape[1], dtype=torch.bool, device=token.device)
        seen = torch.cat((state.seen, own.expand(len(token), -1, -1)), dim=2)
        x = self.embed_target(token, state.seen.sum(-1))
        past: list[Pair] = []
        weights = None
        layers = zip(self.decoder, state.past.shared, memory.source, strict=True)
        for place, (layer, before, source) in enumerate(layers, start=1):
            x, pair = layer.attend_past(x, before, seen)
            past.append(pair)
            # The hypotheses of a sentence ask its source together.
            last = place == len(self.decoder)
            x, weights = layer.attend_source(x, source, memory.mask, with_weights=last)
            x = layer.feed_forward(x)
        assert weights is not None
        return DecoderStep(
            self.decoder_norm(x), State(PerSentence(tuple(past)), seen), weights.mean(1)
        )

    def attention_maps(self, source: Tensor, target: Tensor) -> Tensor:
        """What each token of a target looked at: (B, layers, heads, T, S)."""
        _, maps = self.decoded(target, self.encode(source), with_attention=True)
        return torch.stack(maps, dim=1)

    def embed_target(self, token: Tensor, at: Tensor | None = None) -> Tensor:
        """Tokens (B, T) at positions 0 to T - 1, or at those given, as vectors (B, T, E)."""
        x = self.target_embedding(token) * math.sqrt(self.hparams.hidden_size)
        embedded: Tensor = self.dropout(self.target_positions(x, at))
        return embedded

    def project(self, features: Tensor) -> Tensor:
        """Features (..., E) to logits (..., V)."""
        logits: Tensor = self.output(features)
        return logits
