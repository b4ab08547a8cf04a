"""Bidirectional LSTM on texts: read in both directions, then decide by what was kept."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn, optim

from dlarch.errors import check_at_least_1
from dlarch.nn import Backend, make_recurrent, masked_max, masked_mean, run_recurrent
from dlarch.registry import register_model
from dlarch.spec import PAD
from dlarch.tasks import (
    InitializerCallable,
    LossCallable,
    OptimizerCallable,
    SchedulerCallable,
    TextClassifier,
)
from dlarch.tasks.vectors import WordEmbedding


@register_model("lstm_classifier")
class LSTMClassifier(TextClassifier):
    r"""Read a long text word by word in both directions, and say which class it is of.

    The cell $c_t$ of a long short-term memory keeps what its gates let it keep:

    $$c_t = \sigma(f_t) c_{t-1} + \sigma(i_t) \tanh(g_t) \qquad h_t = \sigma(o_t) \tanh(c_t) \qquad
      [i_t; f_t; g_t; o_t] = W e_t + b + U h_{t-1} + c$$

    (`dlarch.nn.lstm_update`; `run_recurrent` runs it over real words alone). A second network reads
    from the end; further layers read the states of both. With the states side by side,
    $s_t = [\overrightarrow{h}_t; \overleftarrow{h}_t]$, the logits are linear in one of

    $$\text{last: } [\overrightarrow{h}_T; \overleftarrow{h}_1] \qquad
      \text{mean: } \tfrac{1}{T} \textstyle\sum_t s_t \qquad \text{max: } \max_t s_t$$

    With the last states this is `rnn_classifier` with the cell "lstm", `bidirectional`, and other
    sizes. What is new is the pooling of all states, through which the gradient reaches each word
    directly, and pretrained word vectors.

    Shapes: tokens (B, T) -> embeddings (B, T, E) -> states (B, T, 2N) -> pooled (B, 2N) -> logits
    (B, K).

    Differences from the paper: (1) forget gates (Gers et al., 2000), two directions and Adam, as
    everywhere today; (2) pooling, dropout, pretrained vectors and several layers are options.

    Expected: test/accuracy 1.0 on numbers in words (seed 1), `dlarch fit --config
    recipes/lstm_classifier.yaml`, 0.893 on reviews; see docs/models/lstm_classifier.md.

    Args:
        vocab_size: number of token ids. Taken from the data when not given.
        num_classes: number of classes, K. Taken from the data when not given.
        embedding_size: E.
        hidden_size: units of each layer and direction, N.
        layers: the states of each are the inputs of the next.
        bidirectional: read from the end too.
        pooling: what the logits see: the "last" states, or "mean" or "max" of all.
        vectors: file of pretrained word vectors that training starts from; random when not given.
        freeze: leave the embeddings as they are.
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
        embedding_size: int = 100,
        hidden_size: int = 128,
        layers: int = 1,
        bidirectional: bool = True,
        pooling: Literal["last", "mean", "max"] = "max",
        vectors: str | None = None,
        freeze: bool = False,
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
        check_at_least_1(embedding_size=embedding_size, hidden_size=hidden_size, layers=layers)
        self.save_hyperparameters()
        self.build_if_known()

    def build(self, vocab_size: int, num_classes: int) -> None:
        """Make the layers, in the order in which data meet them."""
        options = self.hparams
        self.embedding = WordEmbedding(
            vocab_size, options.embedding_size, options.vectors, options.freeze, spread=0.05
        )
        self.dropout = nn.Dropout(options.dropout)
        self.recurrent = make_recurrent(
            "lstm",
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
        logits: Tensor = self.output(self.dropout(self.pooled(tokens)))
        return logits

    def pooled(self, tokens: Tensor) -> Tensor:
        """What the logits see of a text: (B, T) to (B, 2N), of one direction (B, N)."""
        mask = tokens != PAD
        states, last = run_recurrent(
            self.recurrent,
            self.dropout(self.embedding(tokens)),
            mask,
            backend=self.hparams.cell_backend,
        )
        if self.hparams.pooling == "mean":
            return masked_mean(states, mask)
        if self.hparams.pooling == "max":
            return masked_max(states, mask)
        directions = 2 if self.hparams.bidirectional else 1
        return last.hidden[:, -directions:].flatten(1)
