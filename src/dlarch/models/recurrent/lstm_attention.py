"""LSTM with attention on texts: each word has a weight in the decision, which can be looked at."""

from __future__ import annotations

import torch
from torch import Tensor, nn, optim

from dlarch.errors import check_at_least_1
from dlarch.nn import Backend, make_recurrent, run_recurrent
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


class AttentionPooling(nn.Module):
    """A weight for each position, by how well it answers one learned question.

    Args:
        size: of a state, N.
        attention_size: width of the energy, A.
    """

    def __init__(self, size: int, attention_size: int) -> None:
        super().__init__()
        self.key = nn.Linear(size, attention_size)
        self.question = nn.Linear(attention_size, 1, bias=False)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Weights (B, T) of states (B, T, N); they add up to 1, and are 0 outside the mask."""
        energies: Tensor = self.question(self.key(states).tanh())[..., 0]
        return energies.masked_fill(~mask, -torch.inf).softmax(-1)


@register_model("lstm_attention")
class LSTMAttention(TextClassifier):
    r"""Read a text in both directions, and weigh what was read at each word for the decision.

    An LSTM in both directions gives each word a state $s_t = [\overrightarrow{h}_t;
    \overleftarrow{h}_t]$, which knows its surroundings. Additive attention asks all states one
    learned question v,

    $$u_t = \tanh(W s_t + b) \qquad \alpha_t = \frac{\exp v^\top u_t}{\sum_i \exp v^\top u_i} \qquad
      \hat y = V \Big( \sum_t \alpha_t s_t \Big) + d$$

    with sums over real words only. If all energies are equal, this is the mean of
    `lstm_classifier`; what it learns beyond that are the weights, which say where it looked.

    Shapes: tokens (B, T) -> embeddings (B, T, E) -> states (B, T, 2N) -> weights (B, T) -> sum
    (B, 2N) -> logits (B, K).

    Differences from the paper: (1) one level, words of a text, not words of sentences of a text;
    (2) an LSTM instead of a GRU; (3) Adam instead of gradient descent with momentum.

    Expected: test/accuracy 1.0 on numbers in words (seed 1), `dlarch fit --config
    recipes/lstm_attention.yaml`; see docs/models/lstm_attention.md.

    Args:
        vocab_size: number of token ids. Taken from the data when not given.
        num_classes: number of classes, K. Taken from the data when not given.
        embedding_size: E.
        hidden_size: units of each layer and direction, N.
        layers: the states of each are the inputs of the next.
        attention_size: width of the energy, A.
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
        pictures: draw weights of words, confusion matrix and features at each validation.
    """

    def __init__(
        self,
        vocab_size: int | None = None,
        num_classes: int | None = None,
        embedding_size: int = 100,
        hidden_size: int = 128,
        layers: int = 1,
        attention_size: int = 128,
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
        check_at_least_1(
            embedding_size=embedding_size,
            hidden_size=hidden_size,
            layers=layers,
            attention_size=attention_size,
        )
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
            bidirectional=True,
            dropout=options.dropout,
        )
        self.weigh_states = AttentionPooling(2 * options.hidden_size, options.attention_size)
        self.output = nn.Linear(2 * options.hidden_size, num_classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Token ids (B, T) to logits (B, K)."""
        states, weights = self.read(tokens)
        summed = (weights[:, None] @ states)[:, 0]
        logits: Tensor = self.output(self.dropout(summed))
        return logits

    def word_weights(self, tokens: Tensor) -> Tensor:
        """The weight of each token in the decision: (B, T), exactly 0 on padding."""
        return self.read(tokens)[1]

    def read(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """States (B, T, 2N) and their weights (B, T)."""
        mask = tokens != PAD
        states, _ = run_recurrent(
            self.recurrent,
            self.dropout(self.embedding(tokens)),
            mask,
            backend=self.hparams.cell_backend,
        )
        return states, self.weigh_states(states, mask)
