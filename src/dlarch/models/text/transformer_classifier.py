"""Transformer encoder on texts: every word looks at all others before the decision."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn, optim

from dlarch.errors import OptionError, check_at_least_1
from dlarch.nn import EncoderLayer, Glorot, SinusoidalPositions, initialize, masked_mean
from dlarch.registry import register_model
from dlarch.spec import PAD
from dlarch.tasks import (
    InitializerCallable,
    LossCallable,
    OptimizerCallable,
    SchedulerCallable,
    TextClassifier,
)


@register_model("transformer_classifier", paper="1706.03762")
class TransformerClassifier(TextClassifier):
    r"""Let every word of a text look at all others, layer by layer, then decide by what they know.

    Tokens are embedded, scaled by $\sqrt E$, and told where they stand by waves. Each layer adds to
    its input what each position finds at all real ones, then what a network of one hidden layer
    makes of each (`dlarch.nn.EncoderLayer`), here before normalisation:

    $$x' = x + \mathrm{MHA}(x, x) \qquad x'' = x' + W_2 \max(0, W_1 x' + b_1) + b_2$$

    The logits are linear in the mean over real positions z, or in the first one, which belongs to
    the sign of beginning (BOS) and is there to gather:

    $$\hat y = V \, \tfrac{1}{T} \textstyle\sum_t z_t + d \qquad \text{or} \qquad
      \hat y = V z_1 + d$$

    Shapes: tokens (B, T) -> positions (B, T, E) -> pooled (B, E) -> logits (B, K).

    Differences from the paper: (1) the encoder alone, with a linear layer for classes; (2) pre-norm
    by default; (3) 2 layers of 128 by default; (4) dropout also on hidden units, and on attention
    weights if asked for.

    Expected: test/accuracy 0.986 on numbers in words (seed 1), `dlarch fit --config
    recipes/transformer_classifier.yaml`; see docs/models/transformer_classifier.md.

    Args:
        vocab_size: number of token ids. Taken from the data when not given.
        num_classes: number of classes, K. Taken from the data when not given.
        hidden_size: dimensions of a position, E; even, and a multiple of `heads`.
        layers: of attention and network.
        heads: of each attention.
        feedforward_size: hidden units of the network at each position.
        norm: normalise what goes into each sublayer ("pre") or what comes out ("post").
        pooling: what the logits see: the "mean" of all positions, or the "first".
        dropout: share of embeddings, of what each sublayer adds, of hidden units and of the linear
            layer's inputs, set to zero in training.
        attention_dropout: share of attention weights, likewise. On a CPU it makes attention to
            long texts several times slower.
        loss: called with logits (B, K) and labels (B,); cross-entropy when not given.
        optimizer: called with the parameters.
        scheduler: called with the optimizer; steps after each optimizer step.
        initializer: of the weights of all layers but embeddings; `Glorot` when not given.
        pictures: draw weights of words, confusion matrix and features at each validation.
    """

    def __init__(
        self,
        vocab_size: int | None = None,
        num_classes: int | None = None,
        hidden_size: int = 128,
        layers: int = 2,
        heads: int = 4,
        feedforward_size: int = 256,
        norm: Literal["pre", "post"] = "pre",
        pooling: Literal["mean", "first"] = "mean",
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        loss: LossCallable | None = None,
        optimizer: OptimizerCallable = lambda parameters: optim.Adam(parameters, lr=1e-3),
        scheduler: SchedulerCallable | None = None,
        initializer: InitializerCallable | None = None,
        pictures: bool = True,
    ) -> None:
        super().__init__(
            optimizer=optimizer,
            loss=loss,
            scheduler=scheduler,
            initializer=initializer,
            pictures=pictures,
        )
        check_at_least_1(
            hidden_size=hidden_size, layers=layers, heads=heads, feedforward_size=feedforward_size
        )
        if hidden_size % 2:
            raise OptionError(f"Waves need an even hidden_size, not {hidden_size}.")
        self.save_hyperparameters()
        self.build_if_known()

    def build(self, vocab_size: int, num_classes: int) -> None:
        """Make the layers, in the order in which data meet them."""
        options = self.hparams
        size, before = options.hidden_size, options.norm == "pre"
        self.embedding = nn.Embedding(vocab_size, size, padding_idx=PAD)
        self.positions = SinusoidalPositions(size)
        self.dropout = nn.Dropout(options.dropout)
        self.encoder = nn.ModuleList(
            EncoderLayer(
                size,
                options.heads,
                options.feedforward_size,
                options.dropout,
                before,
                options.attention_dropout,
            )
            for _ in range(options.layers)
        )
        self.norm = nn.LayerNorm(size) if before else nn.Identity()
        self.output = nn.Linear(size, num_classes)
        initialize(self, Glorot())
        nn.init.normal_(self.embedding.weight, std=size**-0.5)
        nn.init.zeros_(self.embedding.weight[PAD])

    def forward(self, tokens: Tensor) -> Tensor:
        """Token ids (B, T) to logits (B, K)."""
        x, _ = self.encode(tokens)
        pooled = x[:, 0] if self.hparams.pooling == "first" else masked_mean(x, tokens != PAD)
        logits: Tensor = self.output(self.dropout(pooled))
        return logits

    def encode(self, tokens: Tensor, with_weights: bool = False) -> tuple[Tensor, list[Tensor]]:
        """Positions (B, T, E), and each layer's attention (B, heads, T, T) if asked for."""
        mask = tokens != PAD
        x = self.embedding(tokens) * math.sqrt(self.hparams.hidden_size)
        x = self.dropout(self.positions(x))
        maps: list[Tensor] = []
        for layer in self.encoder:
            x, weights = layer(x, mask, with_weights)
            maps += [] if weights is None else [weights]
        return self.norm(x), maps

    def attention_maps(self, tokens: Tensor) -> Tensor:
        """What looks at what: (B, layers, heads, T, T); rows add up to 1, padding is never seen."""
        return torch.stack(self.encode(tokens, with_weights=True)[1], dim=1)

    def word_weights(self, tokens: Tensor) -> Tensor:
        """How much each token is looked at in the last layer: (B, T), exactly 0 on padding.

        By the positions that the logits see: the first, or all real ones; mean over heads.
        """
        looks = self.encode(tokens, with_weights=True)[1][-1].mean(1)
        return looks[:, 0] if self.hparams.pooling == "first" else masked_mean(looks, tokens != PAD)
