"""Convolutional encoder-decoder: translation without recurrence, attention in every layer."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn, optim
from torch.nn import functional as F  # noqa: N812

from dlarch.errors import check_at_least_1
from dlarch.nn import LearnedPositions
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

HALF = math.sqrt(0.5)
"""Sums of two parts are multiplied by it, so that their variance stays that of a part."""


class Memory(NamedTuple):
    """What the decoder knows of the source; computed once per sentence.

    Attributes:
        keys: (B, S, E), the encoder's last layer.
        values: (B, S, E), the same with the embedded token added.
        mask: (B, S), True on real tokens.
    """

    keys: Tensor
    values: Tensor
    mask: Tensor


class State(NamedTuple):
    """What a step needs of the ones before.

    Attributes:
        windows: (B, K, layers, k - 1, N), the last inputs of each layer.
        position: (B, K), number of tokens fed so far.
    """

    windows: Tensor
    position: Tensor


class Attention(nn.Module):
    """Lets each position of a decoder layer look at the source.

    Args:
        embedding_size: E.
        hidden_size: N.
    """

    def __init__(self, embedding_size: int, hidden_size: int) -> None:
        super().__init__()
        self.query = nn.Linear(hidden_size, embedding_size)
        self.output = nn.Linear(embedding_size, hidden_size)

    def forward(self, x: Tensor, embedded: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """Positions (B, T, N) with their embedded tokens (B, T, E) to what they found.

        Returns:
            (B, T, N), and the weights (B, T, S).
        """
        query = (self.query(x) + embedded) * HALF
        energies = query @ memory.keys.transpose(1, 2)
        weights = energies.masked_fill(~memory.mask[:, None], -torch.inf).softmax(dim=-1)
        return self.output(weights @ memory.values), weights


@register_model("conv_seq2seq", paper="1705.03122")
class ConvSeq2Seq(Translation):
    r"""Read and write with stacks of gated convolutions, each decoder layer looking at the source.

    A layer sees the k positions around each one (in the decoder the last k), and half of its maps
    gate the other half:

    $$h^l = \sqrt{\tfrac12}\,\big(v(h^{l-1}) + h^{l-1}\big) \qquad
      v(x) = A \otimes \sigma(B) \quad [A; B] = W * x + b$$

    Positions are told apart by learned vectors. With its embedded token $g_t$ each position of a
    decoder layer asks the encoder's last layer z, and takes what the answer and the token's
    embedding e say:

    $$d_t = \sqrt{\tfrac12}\,(W_d h_t + b_d + g_t) \qquad \alpha_{tj} = \mathrm{softmax}_j(d_t \cdot
      z_j) \qquad c_t = \sum_j \alpha_{tj} \sqrt{\tfrac12}\,(z_j + e_j)$$

    (over real tokens only). Nothing waits for the step before, so a known target is written in one
    go. Trained by maximum likelihood.

    Shapes: source (B, S), target (B, T) -> logits (B, T, V), attention (B, T, S), the mean of
    all layers'.

    Differences from the paper: (1) 4 + 4 layers of 256 units by default instead of 15 + 15 of 512
    and more; (2) no weight normalisation; (3) contexts are not scaled by the length of the
    source, nor the encoder's gradients by the number of attentions; (4) Adam instead of Nesterov's
    momentum.

    Expected: see docs/models/conv_seq2seq.md, `dlarch fit --config recipes/conv_seq2seq.yaml`.

    Args:
        source_vocab_size: number of source ids. Taken from the data when not given.
        target_vocab_size: number of target ids. Taken from the data when not given.
        embedding_size: E, of tokens and positions.
        hidden_size: N, maps of each layer.
        encoder_layers: number of them.
        decoder_layers: number of them.
        kernel_size: k, positions that a layer sees.
        positions: longest sequence, as many vectors are learned for either side.
        share_attention: one attention for all decoder layers instead of one for each.
        dropout: share of embeddings, of each convolution's inputs, and of the output layer's, set
            to zero in training.
        loss: called with logits (n, V) and targets (n,) of real tokens; a mean over them.
        optimizer: called with the parameters.
        scheduler: called with the optimizer; steps after each optimizer step.
        initializer: of the weights of all layers but embeddings; the paper's when not given.
        pictures: draw attention and translations at each validation.
    """

    def __init__(
        self,
        source_vocab_size: int | None = None,
        target_vocab_size: int | None = None,
        embedding_size: int = 128,
        hidden_size: int = 256,
        encoder_layers: int = 4,
        decoder_layers: int = 4,
        kernel_size: Literal[1, 3, 5, 7] = 3,
        positions: int = 256,
        share_attention: bool = False,
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
            embedding_size=embedding_size,
            hidden_size=hidden_size,
            encoder_layers=encoder_layers,
            decoder_layers=decoder_layers,
            positions=positions,
        )
        self.longest = positions
        self.save_hyperparameters()
        self.build_if_known()  # else configure_model() builds, from the data's spec

    def build(self, source_vocab_size: int, target_vocab_size: int) -> None:
        """Make the layers, in the order in which data meet them."""
        options = self.hparams
        size, hidden, width = options.embedding_size, options.hidden_size, options.kernel_size

        def stack(layers: int) -> nn.ModuleList:
            return nn.ModuleList(nn.Conv1d(hidden, 2 * hidden, width) for _ in range(layers))

        self.dropout = nn.Dropout(options.dropout)
        self.source_embedding = nn.Embedding(source_vocab_size, size, padding_idx=PAD)
        self.source_positions = LearnedPositions(options.positions, size)
        self.encoder_input = nn.Linear(size, hidden)
        self.encoder = stack(options.encoder_layers)
        self.encoder_output = nn.Linear(hidden, size)

        self.target_embedding = nn.Embedding(target_vocab_size, size, padding_idx=PAD)
        self.target_positions = LearnedPositions(options.positions, size)
        self.decoder_input = nn.Linear(size, hidden)
        self.decoder = stack(options.decoder_layers)
        attentions = 1 if options.share_attention else options.decoder_layers
        self.attention = nn.ModuleList(Attention(size, hidden) for _ in range(attentions))
        self.decoder_output = nn.Linear(hidden, size)
        self.output = nn.Linear(size, target_vocab_size)
        self.apply(self.draw)

    @torch.no_grad()
    def draw(self, layer: nn.Module) -> None:
        """Draw a layer's first weights so that the variance stays what it is (section 3.5)."""
        kept = 1.0 - self.hparams.dropout
        if isinstance(layer, nn.Conv1d):  # of the gated half of the maps, a quarter gets through
            layer.weight.normal_(std=math.sqrt(4 * kept / layer.weight[0].numel()))
        elif isinstance(layer, nn.Linear):
            layer.weight.normal_(std=math.sqrt(kept / layer.in_features))
        elif isinstance(layer, nn.Embedding):
            layer.weight.normal_(std=0.1)
            layer.weight[PAD] = 0.0
        elif isinstance(layer, LearnedPositions):
            layer.vectors.normal_(std=0.1)
        if isinstance(layer, nn.Conv1d | nn.Linear) and layer.bias is not None:
            layer.bias.zero_()

    def forward(self, source: Tensor, target: Tensor) -> TranslationOutput:
        """Logits of the token after each target token fed: (B, S), (B, T) -> (B, T, V)."""
        features, attention = self.decode(target, self.encode(source), with_attention=True)
        return TranslationOutput(self.project(features), attention)

    def encode(self, source: Tensor) -> Memory:
        """Read the source, (B, S)."""
        mask = source != PAD
        embedded = self.dropout(self.source_positions(self.source_embedding(source)))
        x = self.encoder_input(embedded)
        around = self.hparams.kernel_size // 2
        for layer in self.encoder:
            # What stands beyond the end must be nothing, as it is for a sentence alone.
            window = F.pad(x * mask[..., None], (0, 0, around, around))
            x = (self.gated(layer, window) + x) * HALF
        keys = self.encoder_output(x)
        return Memory(keys, (keys + embedded) * HALF, mask)

    def first_state(self, memory: Memory) -> State:
        """The state before the first token, with K = 1: nothing stands before it."""
        options = self.hparams
        shape = (1, options.decoder_layers, options.kernel_size - 1, options.hidden_size)
        windows = memory.keys.new_zeros(len(memory.keys), *shape)
        return State(windows, memory.mask.new_zeros(len(memory.keys), 1, dtype=torch.long))

    def decode(self, target: Tensor, memory: Memory, with_attention: bool = False) -> DecoderOutput:
        """Write a target whose tokens are known: (B, T) tokens fed, T predictions made."""
        features, maps = self.decoded(target, memory)
        return DecoderOutput(features, torch.stack(maps).mean(0) if with_attention else None)

    def decoded(self, target: Tensor, memory: Memory) -> tuple[Tensor, list[Tensor]]:
        """Features (B, T, E), and the attention of each layer, (B, T, S)."""
        embedded = self.dropout(self.target_positions(self.target_embedding(target)))
        x, maps = self.decoder_input(embedded), []
        for place in range(len(self.decoder)):
            window = F.pad(x, (0, 0, self.hparams.kernel_size - 1, 0))
            x, weights = self.decoder_layer(place, window, x, embedded, memory)
            maps.append(weights)
        return self.decoder_output(x), maps

    def attention_maps(self, source: Tensor, target: Tensor) -> Tensor:
        """What each token of a target looked at: (B, layers, 1, T, S)."""
        _, maps = self.decoded(target, self.encode(source))
        return torch.stack(maps, dim=1)[:, :, None]

    def advance(self, token: Tensor, state: State, memory: Memory) -> DecoderStep:
        """Feed one token to each hypothesis, (B, K)."""
        embedded = self.target_embedding(token)
        embedded = self.dropout(self.target_positions(embedded, state.position))
        x, maps, windows = self.decoder_input(embedded), [], []
        for place in range(len(self.decoder)):
            window = torch.cat((state.windows[:, :, place], x[:, :, None]), dim=2)
            windows.append(window[:, :, 1:])
            x, weights = self.decoder_layer(place, window.flatten(0, 1), x, embedded, memory)
            maps.append(weights)
        return DecoderStep(
            features=self.decoder_output(x),
            state=State(torch.stack(windows, dim=2), state.position + 1),
            attention=torch.stack(maps).mean(0),
        )

    def decoder_layer(
        self, place: int, window: Tensor, x: Tensor, embedded: Tensor, memory: Memory
    ) -> tuple[Tensor, Tensor]:
        """One layer of the decoder.

        Args:
            place: of the layer.
            window: (..., T + k - 1, N), the layer's inputs from k - 1 before the first.
            x: (B, T, N), its inputs.
            embedded: (B, T, E), the tokens.
            memory: what is known of the source.

        Returns:
            Its outputs (B, T, N), and the attention (B, T, S).
        """
        gated = self.gated(self.decoder[place], window).view_as(x)
        attention = self.attention[0 if self.hparams.share_attention else place]
        found, weights = attention(gated, embedded, memory)
        return ((gated + found) * HALF + x) * HALF, weights

    def gated(self, layer: nn.Module, window: Tensor) -> Tensor:
        """A gated convolution: (..., T + k - 1, N) to (..., T, N)."""
        # One product of the windows side by side is faster than a convolution on a CPU.
        windows = self.dropout(window).unfold(1, self.hparams.kernel_size, 1).flatten(2)
        weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")
        return F.glu(F.linear(windows, weight.flatten(1), bias), dim=-1)

    def project(self, features: Tensor) -> Tensor:
        """Features (..., E) to logits (..., V)."""
        logits: Tensor = self.output(self.dropout(features))
        return logits
