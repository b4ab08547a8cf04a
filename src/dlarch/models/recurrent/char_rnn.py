"""Recurrent network that writes: each character is predicted from all that came before."""

from __future__ import annotations

import torch
from torch import Tensor, nn, optim
from torch.nn import functional as F  # noqa: N812

from dlarch.nn import (
    Backend,
    Cell,
    Nonlinearity,
    RecurrentInit,
    RecurrentState,
    init_recurrence,
    make_recurrent,
    run_recurrent,
    step_recurrent,
)
from dlarch.registry import register_model
from dlarch.spec import PAD
from dlarch.tasks import (
    Given,
    InitializerCallable,
    LanguageModel,
    LossCallable,
    OptimizerCallable,
    SchedulerCallable,
)


@register_model("char_rnn", paper="1308.0850")
class CharRNN(LanguageModel):
    r"""Read a text token by token, and say after each which one comes next.

    Token $x_t$, as an embedding or one-hot, meets what the network remembers:

    $$h_t = \tanh(W x_t + b + U h_{t-1} + c) \qquad
      p(x_{t+1} \mid x_1 \dots x_t) = \mathrm{softmax}(V h_t + d)$$

    while the cells "gru" and "lstm" have gates that decide what is kept. A text is written by
    drawing from p, and reading what was drawn. The end of a text is a token too, so the model
    knows how long texts are. With classes, an embedding of the class is read beside each token, and
    texts of a class can be asked for.

    Shapes: tokens (B, T), class (B,) -> states (B, T, N) -> logits (B, T, V).

    Differences from the paper: (1) one layer of gated units by default, where the paper stacks
    several and connects each to inputs and outputs; (2) Adam instead of RMSprop; (3) the gradient
    is clipped as a whole, not where it enters each cell; (4) dropout.

    Expected: see docs/models/char_rnn.md, `dlarch fit --config recipes/char_rnn.yaml`.

    Args:
        vocab_size: number of token ids, V. Taken from the data when not given.
        num_conditions: number of classes that a text may be of; none when not given, and the data
            have none.
        cell: "rnn", "gru" or "lstm".
        embedding_size: E; one-hot inputs when 0.
        hidden_size: units of each layer, N.
        layers: the states of each are the inputs of the next.
        condition_size: numbers in the embedding of a class.
        dropout: share of what a layer gives to the next and to the output, set to zero in training.
        nonlinearity: of the cell "rnn": "tanh" or "relu".
        recurrent_init: how the matrices U begin: as torch draws them, as the identity (1504.00941),
            as a random orthogonal matrix, or normal with deviation `recurrent_std`.
        recurrent_std: deviation of normal ones.
        cell_backend: who computes the steps, the lines "written" in `dlarch.nn` or "torch"; torch
            on a GPU, else written, when not given.
        loss: called with logits (n, V) and targets (n,) of real tokens; a mean over them.
        optimizer: called with the parameters.
        scheduler: called with the optimizer; steps after each optimizer step.
        initializer: of all weights but the embeddings; torch's own when not given.
        pictures: write texts at each validation.
    """

    def __init__(
        self,
        vocab_size: int | None = None,
        num_conditions: int | None = None,
        cell: Cell = "gru",
        embedding_size: int = 64,
        hidden_size: int = 256,
        layers: int = 1,
        condition_size: int = 16,
        dropout: float = 0.0,
        nonlinearity: Nonlinearity = "tanh",
        recurrent_init: RecurrentInit = "torch",
        recurrent_std: float = 0.01,
        cell_backend: Backend | None = None,
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
        self.save_hyperparameters()
        self.build_if_known()

    def build(self, vocab_size: int, num_conditions: int | None = None) -> None:
        """Make the layers, in the order in which data meet them."""
        options = self.hparams
        size = options.embedding_size or vocab_size
        self.embedding = nn.Embedding(vocab_size, size, padding_idx=PAD)
        if not options.embedding_size:
            self.embedding.weight = nn.Parameter(torch.eye(vocab_size), requires_grad=False)
        if num_conditions:
            self.condition = nn.Embedding(num_conditions, options.condition_size)
            size += options.condition_size
        self.dropout = nn.Dropout(options.dropout)
        self.recurrent = make_recurrent(
            options.cell,
            size,
            options.hidden_size,
            options.layers,
            dropout=options.dropout,
            nonlinearity=options.nonlinearity,
        )
        self.output = nn.Linear(options.hidden_size, vocab_size)
        init_recurrence(self.recurrent, options.recurrent_init, options.recurrent_std)

    def start(self, count: int) -> RecurrentState:
        """Zeros (B, 1, L, N)."""
        shape = (count, 1, self.hparams.layers, self.hparams.hidden_size)
        zeros = self.output.weight.new_zeros(shape)
        return RecurrentState(zeros, zeros.clone() if self.hparams.cell == "lstm" else None)

    def read(
        self, tokens: Tensor, state: RecurrentState, given: Given
    ) -> tuple[Tensor, RecurrentState]:
        """States (B, T, N) after each token, and (B, 1, L, N) after the last real one."""
        hidden, cell = state
        states, last = run_recurrent(
            self.recurrent,
            self._inputs(tokens, given),
            tokens != PAD,
            RecurrentState(hidden[:, 0], None if cell is None else cell[:, 0]),
            backend=self.hparams.cell_backend,
        )
        cell = None if last.cell is None else last.cell[:, None]
        return self.dropout(states), RecurrentState(last.hidden[:, None], cell)

    def advance(
        self, token: Tensor, state: RecurrentState, given: Given
    ) -> tuple[Tensor, RecurrentState]:
        """State (B, K, N) after one more token of each hypothesis."""
        return step_recurrent(self.recurrent, self._inputs(token, given), state)

    def _inputs(self, tokens: Tensor, given: Given) -> Tensor:
        """What is read: tokens (B, T) as (B, T, E), and beside each the class of its text."""
        embedded: Tensor = self.embedding(tokens)
        if given.condition is None:
            return embedded
        condition = self.condition(given.condition)[:, None]
        return torch.cat((embedded, condition.expand(-1, tokens.shape[1], -1)), dim=-1)

    def project(self, features: Tensor) -> Tensor:
        """States (..., N) to logits (..., V)."""
        logits: Tensor = self.output(features)
        return logits
