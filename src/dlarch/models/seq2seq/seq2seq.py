"""Encoder-decoder: read a sentence into one state, and write its translation from that."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn, optim
from torch.nn import functional as F  # noqa: N812

from dlarch.decoding import map_tensors
from dlarch.errors import check_at_least_1
from dlarch.nn import RecurrentState, make_recurrent, run_recurrent, step_recurrent
from dlarch.registry import register_model
from dlarch.spec import PAD
from dlarch.tasks import (
    DecoderOutput,
    DecoderStep,
    InitializerCallable,
    LossCallable,
    OptimizerCallable,
    SchedulerCallable,
    TeacherForcing,
    Translation,
    TranslationOutput,
)


class Memory(NamedTuple):
    """All that the decoder knows of the source: the encoder's last state, (B, L, N)."""

    last: RecurrentState


@register_model("seq2seq", paper="1409.3215")
class Seq2Seq(Translation):
    r"""Read the source with one LSTM, hand its state to another, and let that write the target.

    Both have L layers. The encoder reads the source, backwards if asked for, so that its first
    words, with which the target usually begins, are read last; the decoder starts where the encoder
    has ended:

    $$(h, c)_0 = \mathrm{LSTM}(x_S, \dots, x_2, x_1) \qquad
      (h, c)_t = \mathrm{LSTM}(y_{t-1}, (h, c)_{t-1}) \qquad
      p(y_t) = \mathrm{softmax}(W_o h_t^L + b_o)$$

    All of the sentence must pass through $(h, c)_0$. Trained by maximum likelihood. With the
    reference fed, the decoder reads a whole target in one call.

    Shapes: source (B, S), target (B, T) -> logits (B, T, V).

    Differences from the paper: (1) two layers of 256 units by default instead of four of 1000;
    (2) dropout between layers; (3) Adam instead of gradient descent; (4) scheduled sampling
    (1506.03099) is an option.

    Expected: see docs/models/seq2seq.md, `dlarch fit --config recipes/seq2seq.yaml`.

    Args:
        source_vocab_size: number of source ids. Taken from the data when not given.
        target_vocab_size: number of target ids. Taken from the data when not given.
        embedding_size: E, of source and target embeddings.
        hidden_size: N, units of each layer.
        layers: L, of encoder and decoder.
        dropout: share of embeddings, and of what one layer gives to the next, set to zero in
            training.
        reverse_source: read the source from its end to its beginning.
        teacher_forcing: share of training steps fed the reference token, not the model's own.
        teacher_forcing_end: share reached, linearly, after `teacher_forcing_steps`; constant when
            not given.
        teacher_forcing_steps: optimizer steps over which the share changes.
        loss: called with logits (n, V) and targets (n,) of real tokens; a mean over them.
        optimizer: called with the parameters.
        scheduler: called with the optimizer; steps after each optimizer step.
        initializer: of the weights of all layers but embeddings; torch's own when not given.
        pictures: draw translations at each validation.
    """

    def __init__(
        self,
        source_vocab_size: int | None = None,
        target_vocab_size: int | None = None,
        embedding_size: int = 128,
        hidden_size: int = 256,
        layers: int = 2,
        dropout: float = 0.0,
        reverse_source: bool = True,
        teacher_forcing: float = 1.0,
        teacher_forcing_end: float | None = None,
        teacher_forcing_steps: int = 1000,
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
            teacher_forcing=TeacherForcing(
                teacher_forcing, teacher_forcing_end, teacher_forcing_steps
            ),
        )
        check_at_least_1(embedding_size=embedding_size, hidden_size=hidden_size, layers=layers)
        self.save_hyperparameters()
        self.build_if_known()  # else configure_model() builds, from the data's spec

    def build(self, source_vocab_size: int, target_vocab_size: int) -> None:
        """Make the layers, in the order in which data meet them."""
        options = self.hparams
        size, hidden, layers = options.embedding_size, options.hidden_size, options.layers
        dropout = options.dropout

        self.dropout = nn.Dropout(dropout)
        self.source_embedding = nn.Embedding(source_vocab_size, size, padding_idx=PAD)
        self.encoder = make_recurrent("lstm", size, hidden, layers, dropout=dropout)
        self.target_embedding = nn.Embedding(target_vocab_size, size, padding_idx=PAD)
        self.decoder = make_recurrent("lstm", size, hidden, layers, dropout=dropout)
        self.output = nn.Linear(hidden, target_vocab_size)

    def forward(self, source: Tensor, target: Tensor) -> TranslationOutput:
        """Logits of the token after each target token fed: (B, S), (B, T) -> (B, T, V)."""
        features, attention = self.decode(target, self.encode(source))
        return TranslationOutput(self.project(features), attention)

    def encode(self, source: Tensor) -> Memory:
        """Read the source, (B, S)."""
        mask = source != PAD
        if self.hparams.reverse_source:
            source = reverse(source, mask)
        embedded = self.dropout(self.source_embedding(source))
        _, last = run_recurrent(self.encoder, embedded, mask)
        return Memory(last)

    def first_state(self, memory: Memory) -> RecurrentState:
        """The state before the first token, (B, 1, L, N)."""
        return map_tensors(lambda part: part[:, None], memory.last)

    def decode(self, target: Tensor, memory: Memory, with_attention: bool = False) -> DecoderOutput:
        """Write a target whose tokens are known: (B, T) tokens fed, T predictions made."""
        embedded = self.dropout(self.target_embedding(target))
        outputs, _ = run_recurrent(self.decoder, embedded, start=memory.last)
        return DecoderOutput(outputs, attention=None)

    def advance(self, token: Tensor, state: RecurrentState, memory: Memory) -> DecoderStep:
        """Feed one token to each hypothesis, (B, K)."""
        embedded = self.dropout(self.target_embedding(token))
        outputs, state = step_recurrent(self.decoder, embedded, state)
        return DecoderStep(outputs, state, attention=None)

    def project(self, features: Tensor) -> Tensor:
        """Features (..., N) to logits (..., V)."""
        logits: Tensor = self.output(features)
        return logits


def reverse(tokens: Tensor, mask: Tensor) -> Tensor:
    """Real tokens (B, S) in reverse order; padding stays at the end."""
    places = torch.arange(tokens.shape[1], device=tokens.device)
    backwards = mask.sum(1, keepdim=True) - 1 - places
    return torch.where(mask, tokens.gather(1, backwards.clamp(min=0)), PAD)
