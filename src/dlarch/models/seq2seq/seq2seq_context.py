"""Encoder-decoder whose decoder is shown the sentence's vector at every step."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn, optim
from torch.nn import functional as F  # noqa: N812

from dlarch.errors import check_at_least_1
from dlarch.nn import gru_update, run_recurrent
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
    """What the decoder knows of the source.

    Attributes:
        context: (B, N), the encoder's last state.
        gates: (B, 3N), the context's part of the decoder's gates, the same at every step.
    """

    context: Tensor
    gates: Tensor


class State(NamedTuple):
    """The decoder's state, (B, K, N)."""

    hidden: Tensor


@register_model("seq2seq_context", paper="1406.1078")
class Seq2SeqContext(Translation):
    r"""Read the source into a vector c, and show c to the decoder and its output at every step.

    The encoder is a GRU, and c its last state. The decoder, a GRU as well, begins with it, reads it
    beside each token, and the output layer sees it beside state and token:

    $$s_0 = c \qquad s_t = \mathrm{GRU}([y_{t-1}; c], s_{t-1}) \qquad
      p(y_t) = \mathrm{softmax}(W_o [y_{t-1}; s_t; c] + b_o)$$

    So the state need not carry the whole sentence along while it writes. Trained by maximum
    likelihood.

    What does not depend on the step before stands outside the loop over steps: the tokens' part of
    the gates, that of c, which is the same at all steps, and the output layer.

    Shapes: source (B, S), target (B, T) -> logits (B, T, V).

    Differences from the paper: (1) the output layer is linear instead of a maxout layer; (2) the
    last state is used as it is, without a layer before and after; (3) the reset
    gate acts after the state's product, as in torch; (4) Adam instead of Adadelta; (5) dropout and
    scheduled sampling (1506.03099) are options.

    Expected: see docs/models/seq2seq_context.md,
    `dlarch fit --config recipes/seq2seq_context.yaml`.

    Args:
        source_vocab_size: number of source ids. Taken from the data when not given.
        target_vocab_size: number of target ids. Taken from the data when not given.
        embedding_size: E, of source and target embeddings.
        hidden_size: N, units of encoder and decoder.
        dropout: share of embeddings, and of the output layer's inputs, set to zero in training.
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
        dropout: float = 0.0,
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
        check_at_least_1(embedding_size=embedding_size, hidden_size=hidden_size)
        self.save_hyperparameters()
        self.build_if_known()  # else configure_model() builds, from the data's spec

    def build(self, source_vocab_size: int, target_vocab_size: int) -> None:
        """Make the layers, in the order in which data meet them."""
        size, hidden = self.hparams.embedding_size, self.hparams.hidden_size
        self.dropout = nn.Dropout(self.hparams.dropout)
        self.source_embedding = nn.Embedding(source_vocab_size, size, padding_idx=PAD)
        self.encoder = nn.GRU(size, hidden, batch_first=True)
        self.target_embedding = nn.Embedding(target_vocab_size, size, padding_idx=PAD)
        self.cell = nn.GRUCell(size + hidden, hidden)
        self.output = nn.Linear(size + 2 * hidden, target_vocab_size)

    def forward(self, source: Tensor, target: Tensor) -> TranslationOutput:
        """Logits of the token after each target token fed: (B, S), (B, T) -> (B, T, V)."""
        features, attention = self.decode(target, self.encode(source))
        return TranslationOutput(self.project(features), attention)

    def encode(self, source: Tensor) -> Memory:
        """Read the source, (B, S)."""
        embedded = self.dropout(self.source_embedding(source))
        _, last = run_recurrent(self.encoder, embedded, source != PAD)
        context = last.hidden[:, 0]
        context_weight = self.cell.weight_ih[:, self.hparams.embedding_size :]
        return Memory(context, F.linear(context, context_weight, self.cell.bias_ih))

    def first_state(self, memory: Memory) -> State:
        """The state before the first token, with K = 1."""
        return State(memory.context[:, None])

    def decode(self, target: Tensor, memory: Memory, with_attention: bool = False) -> DecoderOutput:
        """Write a target whose tokens are known: (B, T) tokens fed, T predictions made."""
        embedded = self.dropout(self.target_embedding(target))
        state, states = self.first_state(memory), []
        for gates in self.input_gates(embedded, memory).split(1, dim=1):
            state = self.update(gates, state)
            states.append(state.hidden)
        return DecoderOutput(self.features(embedded, torch.cat(states, dim=1), memory), None)

    def advance(self, token: Tensor, state: State, memory: Memory) -> DecoderStep:
        """Feed one token to each hypothesis, (B, K)."""
        embedded = self.dropout(self.target_embedding(token))
        state = self.update(self.input_gates(embedded, memory), state)
        return DecoderStep(self.features(embedded, state.hidden, memory), state, None)

    def input_gates(self, embedded: Tensor, memory: Memory) -> Tensor:
        """The part of the gates that tokens (B, T, E) and context have, (B, T, 3N)."""
        token_weight = self.cell.weight_ih[:, : self.hparams.embedding_size]
        return F.linear(embedded, token_weight) + memory.gates[:, None]

    def update(self, input_gates: Tensor, state: State) -> State:
        """One step of the decoder, from gates (B, K, 3N)."""
        hidden_gates = F.linear(state.hidden, self.cell.weight_hh, self.cell.bias_hh)
        return State(gru_update(input_gates, hidden_gates, state.hidden))

    def features(self, embedded: Tensor, hidden: Tensor, memory: Memory) -> Tensor:
        """What the output layer sees: token, state and context, (B, T, E + 2N)."""
        context = memory.context[:, None].expand(-1, hidden.shape[1], -1)
        return torch.cat((embedded, hidden, context), dim=-1)

    def project(self, features: Tensor) -> Tensor:
        """Features (..., E + 2N) to logits (..., V)."""
        logits: Tensor = self.output(self.dropout(features))
        return logits
