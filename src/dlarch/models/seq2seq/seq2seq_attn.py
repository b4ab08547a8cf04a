"""Attention encoder-decoder: a translator that looks back at the source before each token."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn, optim
from torch.nn import functional as F  # noqa: N812

from dlarch.errors import check_at_least_1
from dlarch.nn import gru_update, lstm_update, make_recurrent, run_recurrent
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
    """What the decoder knows of the source; computed once per sentence.

    Attributes:
        values: (B, S, 2H), one annotation per source token, from both directions.
        keys: (B, S, A), the annotations' part of the attention energy.
        mask: (B, S), True on real tokens.
        start: (B, N), the decoder's first state.
    """

    values: Tensor
    keys: Tensor
    mask: Tensor
    start: Tensor


class State(NamedTuple):
    """The decoder's state; `cell` is None for a GRU. Each (B, K, N)."""

    hidden: Tensor
    cell: Tensor | None


class Recurrence(NamedTuple):
    """The parameters of a step, gathered once per sequence.

    Attributes:
        state: (A + 3N or 4N, N), all that is multiplied with the state: query and hidden gates.
        bias: (A + 3N or 4N,), of the product with the state.
        sizes: how its rows are split, A and 3N or 4N.
        context: (3N or 4N, 2H), what makes the context's part of the gates.
    """

    state: Tensor
    bias: Tensor
    sizes: tuple[int, int]
    context: Tensor


class Step(NamedTuple):
    """One step: the next state, the context (B, K, 2H) and the attention (B, K, S)."""

    state: State
    context: Tensor
    attention: Tensor


@register_model("seq2seq_attn", paper="1409.0473")
class Seq2SeqAttn(Translation):
    r"""Read the source in both directions, then write the target with a look back at each step.

    A bidirectional recurrent encoder turns the source into annotations $h_1 \dots h_S$. Before
    writing token t the decoder, in state $s_{t-1}$, weighs the annotations,

    $$e_{tj} = v^\top \tanh(W_q s_{t-1} + W_k h_j + b) \qquad
      \alpha_{tj} = \frac{\exp e_{tj}}{\sum_{i} \exp e_{ti}} \qquad
      c_t = \sum_j \alpha_{tj} h_j$$

    (sums over real tokens only), reads the token before and the context $c_t$ into its state,
    $s_t = \mathrm{cell}([y_{t-1}; c_t], s_{t-1})$, and predicts
    $p(y_t) = \mathrm{softmax}(W_o [s_t; c_t; y_{t-1}] + b_o)$. Trained by maximum likelihood.

    Products that do not depend on the step before stand outside the loop over steps: the keys
    $W_k h_j$, the gates' part of the embedded tokens, and the output layer.

    Shapes: source (B, S), target (B, T) -> logits (B, T, V), attention (B, T, S).

    Differences from the paper: (1) the output layer is linear instead of a maxout layer; (2) the
    first state is computed from the last states of both directions instead of the backward one's
    alone; (3) Adam for Adadelta; (4) an LSTM, dropout, several encoder layers, tied weights and
    scheduled sampling (1506.03099) are options.

    Expected: test/exact_match 0.9997 on held-out dates (3 seeds), `dlarch fit --config
    recipes/seq2seq_attn.yaml`; other results in docs/models/seq2seq_attn.md.

    Args:
        source_vocab_size: number of source ids. Taken from the data when not given.
        target_vocab_size: number of target ids. Taken from the data when not given.
        embedding_size: E, of source and target embeddings.
        encoder_size: H, units of the encoder per direction.
        hidden_size: N, units of the decoder.
        attention_size: A, width of the energy; N when not given.
        encoder_layers: number of stacked bidirectional layers.
        cell: recurrent cell of encoder and decoder.
        dropout: share of embedding, encoder-layer and output-layer inputs set to zero in training.
        tie_weights: use the target embedding as the last layer (through a projection to E).
        teacher_forcing: share of training steps fed the reference token, not the model's own.
        teacher_forcing_end: share reached, linearly, after `teacher_forcing_steps`; constant when
            not given.
        teacher_forcing_steps: optimizer steps over which the share changes.
        loss: called with logits (n, V) and targets (n,) of real tokens; a mean over them.
        optimizer: called with the parameters.
        scheduler: called with the optimizer; steps after each optimizer step.
        initializer: of the weights of all layers but embeddings; torch's own when not given.
        pictures: draw attention and translations at each validation.
    """

    def __init__(
        self,
        source_vocab_size: int | None = None,
        target_vocab_size: int | None = None,
        embedding_size: int = 64,
        encoder_size: int = 128,
        hidden_size: int = 128,
        attention_size: int | None = None,
        encoder_layers: int = 1,
        cell: Literal["gru", "lstm"] = "gru",
        dropout: float = 0.0,
        tie_weights: bool = False,
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
        check_at_least_1(
            embedding_size=embedding_size,
            encoder_size=encoder_size,
            hidden_size=hidden_size,
            encoder_layers=encoder_layers,
            attention_size=attention_size,
        )
        self.save_hyperparameters()
        self.build_if_known()  # else configure_model() builds, from the data's spec

    def build(self, source_vocab_size: int, target_vocab_size: int) -> None:
        """Make the layers, in the order in which data meet them."""
        options = self.hparams
        embedding, width, hidden = options.embedding_size, options.encoder_size, options.hidden_size
        attention = options.attention_size or hidden
        gru = options.cell == "gru"

        self.dropout = nn.Dropout(options.dropout)
        self.source_embedding = nn.Embedding(source_vocab_size, embedding, padding_idx=PAD)
        self.encoder = make_recurrent(
            options.cell,
            embedding,
            width,
            options.encoder_layers,
            bidirectional=True,
            dropout=options.dropout,
        )
        self.start = nn.Linear(2 * width, hidden)

        self.key = nn.Linear(2 * width, attention)
        self.query = nn.Linear(hidden, attention, bias=False)
        self.energy = nn.Linear(attention, 1, bias=False)

        self.target_embedding = nn.Embedding(target_vocab_size, embedding, padding_idx=PAD)
        self.cell = (nn.GRUCell if gru else nn.LSTMCell)(embedding + 2 * width, hidden)
        features = hidden + 2 * width + embedding
        self.bridge = nn.Linear(features, embedding) if options.tie_weights else nn.Identity()
        self.output = nn.Linear(embedding if options.tie_weights else features, target_vocab_size)
        if options.tie_weights:
            self.output.weight = self.target_embedding.weight

    def forward(self, source: Tensor, target: Tensor) -> TranslationOutput:
        """Logits of the token after each target token fed: (B, S), (B, T) -> (B, T, V)."""
        features, attention = self.decode(target, self.encode(source), with_attention=True)
        return TranslationOutput(self.project(features), attention)

    def encode(self, source: Tensor) -> Memory:
        """Read the source, (B, S)."""
        mask = source != PAD
        embedded = self.dropout(self.source_embedding(source))
        values, last = run_recurrent(self.encoder, embedded, mask)
        both_ends = last.hidden[:, -2:].flatten(1)
        return Memory(
            values=values,
            keys=self.key(values),
            mask=mask,
            start=self.start(both_ends).tanh(),
        )

    def first_state(self, memory: Memory) -> State:
        """The state before the first token, with K = 1."""
        hidden = memory.start[:, None]
        return State(hidden, torch.zeros_like(hidden) if self.hparams.cell == "lstm" else None)

    def decode(self, target: Tensor, memory: Memory, with_attention: bool = False) -> DecoderOutput:
        """Write a target whose tokens are known: (B, T) tokens fed, T predictions made."""
        state, recurrence = self.first_state(memory), self.recurrence()
        embedded = self.dropout(self.target_embedding(target))
        steps: list[Step] = []
        for gates in self.input_gates(embedded).split(1, dim=1):
            steps.append(self.attend_and_update(gates, state, memory, recurrence))
            state = steps[-1].state
        hidden = torch.cat([step.state.hidden for step in steps], dim=1)
        context = torch.cat([step.context for step in steps], dim=1)
        attention = torch.cat([step.attention for step in steps], dim=1) if with_attention else None
        return DecoderOutput(torch.cat((hidden, context, embedded), dim=-1), attention)

    def advance(self, token: Tensor, state: State, memory: Memory) -> DecoderStep:
        """Feed one token to each hypothesis, (B, K)."""
        embedded = self.dropout(self.target_embedding(token))
        gates = self.input_gates(embedded)
        state, context, attention = self.attend_and_update(gates, state, memory, self.recurrence())
        features = torch.cat((state.hidden, context, embedded), dim=-1)
        return DecoderStep(features, state, attention)

    def attend_and_update(
        self, input_gates: Tensor, state: State, memory: Memory, recurrence: Recurrence
    ) -> Step:
        """One step of the decoder: attend, then update the state.

        Args:
            input_gates: (B, K, 3N or 4N), the fed token's part of the gates.
            state: the state after the step before.
            memory: what is known of the source.
            recurrence: the parameters of a step.
        """
        query, hidden_gates = F.linear(state.hidden, recurrence.state, recurrence.bias).split(
            recurrence.sizes, dim=-1
        )
        attention = self.attend(query, memory)
        context = attention @ memory.values
        input_gates = input_gates + F.linear(context, recurrence.context)
        if state.cell is None:
            following = State(gru_update(input_gates, hidden_gates, state.hidden), None)
        else:
            following = State(*lstm_update(input_gates + hidden_gates, state.cell))
        return Step(following, context, attention)

    def recurrence(self) -> Recurrence:
        """Gather the parameters of a step."""
        sizes = (len(self.query.weight), len(self.cell.weight_hh))
        return Recurrence(
            state=torch.cat((self.query.weight, self.cell.weight_hh)),
            bias=F.pad(self.cell.bias_hh, (sizes[0], 0)),
            sizes=sizes,
            context=self.cell.weight_ih[:, self.hparams.embedding_size :],
        )

    def attend(self, query: Tensor, memory: Memory) -> Tensor:
        """Additive attention: queries (B, K, A) to weights (B, K, S), zero on padding."""
        energy = (query[:, :, None] + memory.keys[:, None]).tanh() @ self.energy.weight[0]
        return energy.masked_fill(~memory.mask[:, None], float("-inf")).softmax(dim=-1)

    def input_gates(self, embedded: Tensor) -> Tensor:
        """The fed tokens' part of the gates, (..., E) -> (..., 3N or 4N)."""
        token_weight = self.cell.weight_ih[:, : self.hparams.embedding_size]
        return F.linear(embedded, token_weight, self.cell.bias_ih)

    def project(self, features: Tensor) -> Tensor:
        """Features (..., N + 2H + E) to logits (..., V)."""
        logits: Tensor = self.output(self.bridge(self.dropout(features)))
        return logits
