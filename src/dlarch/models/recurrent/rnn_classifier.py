"""Recurrent network on texts: read to the end, then say what kind of text it was."""

from __future__ import annotations

from torch import Tensor, nn, optim

from dlarch.nn import Backend, Cell, make_recurrent, run_recurrent
from dlarch.registry import register_model
from dlarch.spec import PAD
from dlarch.tasks import (
    InitializerCallable,
    LossCallable,
    OptimizerCallable,
    SchedulerCallable,
    TextClassifier,
)


@register_model("rnn_classifier")
class RNNClassifier(TextClassifier):
    r"""Read a text token by token, and say at its end which class it is of.

    The embedding $e_t$ of token t meets what the network remembers of the tokens before it. With
    the cell "rnn",

    $$h_t = \tanh(W e_t + b + U h_{t-1} + c) \qquad \hat y = V h_T + d$$

    while "gru" and "lstm" have gates that decide what is kept; all three are written out in
    `dlarch.nn` (`rnn_update`, `gru_update`, `lstm_update`). The logits see the state after the last
    real token: padding is never read. In both directions, a second network reads from the end, and
    the logits see the last state of each.

    Shapes: tokens (B, T) -> embeddings (B, T, E) -> last state (B, N) -> logits (B, K).

    Differences from the paper: (1) Adam instead of gradient descent; (2) embeddings instead of
    one-hot inputs; (3) gates, several layers, two directions and dropout are options.

    Expected: see docs/models/rnn_classifier.md, `dlarch fit --config recipes/rnn_classifier.yaml`.

    Args:
        vocab_size: number of token ids. Taken from the data when not given.
        num_classes: number of classes, K. Taken from the data when not given.
        cell: "rnn", "gru" or "lstm".
        embedding_size: E.
        hidden_size: units of each layer and direction, N.
        layers: the states of each are the inputs of the next.
        bidirectional: read from the end too.
        dropout: share of embeddings, of the inputs of the second and further layers, and of the
            linear layer, set to zero in training.
        cell_backend: who computes the steps, the lines "written" in `dlarch.nn` or "torch"; torch
            on a GPU, else written, when not given.
        loss: called with logits (B, K) and labels (B,); cross-entropy when not given.
        optimizer: called with the parameters.
        scheduler: called with the optimizer; steps after each optimizer step.
        initializer: of all weights but the embeddings; torch's own when not given.
        pictures: draw confusion matrix and features at each validation.
    """

    def __init__(
        self,
        vocab_size: int | None = None,
        num_classes: int | None = None,
        cell: Cell = "gru",
        embedding_size: int = 64,
        hidden_size: int = 128,
        layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        cell_backend: Backend | None = None,
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
        self.save_hyperparameters()
        self.build_if_known()

    def build(self, vocab_size: int, num_classes: int) -> None:
        """Make the layers, in the order in which data meet them."""
        options = self.hparams
        self.embedding = nn.Embedding(vocab_size, options.embedding_size, padding_idx=PAD)
        self.dropout = nn.Dropout(options.dropout)
        self.recurrent = make_recurrent(
            options.cell,
            options.embedding_size,
            options.hidden_size,
            options.layers,
            bidirectional=options.bidirectional,
            dropout=options.dropout,
        )
        directions = 2 if options.bidirectional else 1
        self.output = nn.Linear(directions * options.hidden_size, num_classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Token ids (B, T) to logits (B, K)."""
        embedded = self.dropout(self.embedding(tokens))
        _, last = run_recurrent(
            self.recurrent, embedded, tokens != PAD, backend=self.hparams.cell_backend
        )
        directions = 2 if self.hparams.bidirectional else 1
        features = last.hidden[:, -directions:].flatten(1)
        logits: Tensor = self.output(self.dropout(features))
        return logits
