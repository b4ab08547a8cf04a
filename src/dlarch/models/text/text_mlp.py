"""Feed-forward network on one vector of a text: its words, weighed and added up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn, optim
from torch.nn import functional as F  # noqa: N812

from dlarch.errors import OptionError
from dlarch.nn.bags import inverse_frequencies, occurrences
from dlarch.registry import register_model
from dlarch.spec import PAD
from dlarch.tasks import (
    InitializerCallable,
    LossCallable,
    OptimizerCallable,
    SchedulerCallable,
    TextClassifier,
)
from dlarch.tasks.counts import count_training_texts, known_words
from dlarch.tasks.vectors import WordEmbedding


@register_model("text_mlp")
class TextMLP(TextClassifier):
    r"""Make one vector of a text, whatever its length, and sort it with a feed-forward network.

    The words $t_1 \dots t_T$ of a text are looked up in a table, weighed, and added up:

    $$x = \sum_{i=1}^{T} a_i W_{t_i} \qquad h_l = \max(0, V_l h_{l-1} + b_l) \qquad
    \hat y = V_L h_{L-1} + b_L$$

    - bag: $a_i = 1$. With the counts c of all words of the vocabulary, $x = W^\top c$: the table is
      the first layer of a network whose input is the bag of words, $h_1 = \max(0, x + b_1)$.
    - tfidf: $a_i = s_{t_i} / \sqrt{\sum_w (c_w s_w)^2}$ with $s_w = \log \frac{1 + n}{1 + n_w} + 1$
      for a word in $n_w$ of the n training texts (G. Salton and C. Buckley 1988); else the same.
    - mean: $a_i = 1 / T$. The table holds embeddings, $h_0 = x$ is their mean.
    - tfidf_mean: $a_i = s_{t_i} / \sum_j s_{t_j}$, a mean in which rare words count more.

    Embeddings may start from pretrained vectors, and may be frozen. Unknown words are left out.

    Shapes: tokens (B, T) -> text (B, E), or (B, N) after the first layer -> logits (B, K).

    Differences from the paper: (1) ReLU, Adam and dropout; (2) the layers after the sum, which the
    vector space model does not have.

    Expected: see docs/models/text_mlp.md, `dlarch fit --config recipes/text_mlp.yaml`.

    Args:
        vocab_size: number of token ids, V. Taken from the data when not given.
        num_classes: number of classes, K. Taken from the data when not given.
        inputs: "bag", "tfidf", "mean" or "tfidf_mean".
        hidden_sizes: units of the hidden layers; without any it is logistic regression.
        embedding_size: E, of means.
        vectors: file of pretrained vectors that a fit starts from; for means.
        freeze: do not train the embeddings; for means.
        dropout: share of the units of each hidden layer set to zero in training.
        loss: called with logits (B, K) and labels (B,); cross-entropy when not given.
        optimizer: called with the parameters.
        scheduler: called with the optimizer; steps after each optimizer step.
        initializer: of the weights but for the table; torch's own when not given.
        pictures: draw confusion matrix and features at each validation.
    """

    rarity: Tensor
    counted: Tensor

    def __init__(
        self,
        vocab_size: int | None = None,
        num_classes: int | None = None,
        inputs: Literal["bag", "tfidf", "mean", "tfidf_mean"] = "mean",
        hidden_sizes: Sequence[int] = (100,),
        embedding_size: int = 100,
        vectors: str | None = None,
        freeze: bool = False,
        dropout: float = 0.0,
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
        if inputs in ("bag", "tfidf") and (vectors is not None or freeze):
            raise OptionError(
                f"vectors and freeze are for means of embeddings, but inputs is {inputs}: give "
                "--model.inputs mean or tfidf_mean."
            )
        self.save_hyperparameters()
        self.build_if_known()

    def build(self, vocab_size: int, num_classes: int) -> None:
        """Make the layers, in the order in which data meet them."""
        options = self.hparams
        sizes = [*options.hidden_sizes, num_classes]
        self.network = nn.Sequential()
        if options.inputs.endswith("mean"):
            width = options.embedding_size
            self.embedding = WordEmbedding(vocab_size, width, options.vectors, options.freeze)
        else:
            width = sizes.pop(0)
            # As torch draws a linear layer on counts.
            self.embedding = WordEmbedding(vocab_size, width, spread=vocab_size**-0.5)
            self.bias = nn.Parameter(torch.zeros(width))
            if sizes:
                self.network.extend([nn.ReLU(), nn.Dropout(options.dropout)])
        for place, size in enumerate(sizes, start=1):
            self.network.append(nn.Linear(width, size))
            if place < len(sizes):
                self.network.extend([nn.ReLU(), nn.Dropout(options.dropout)])
            width = size
        if options.inputs.startswith("tfidf"):
            self.register_buffer("rarity", torch.ones(vocab_size))
            self.register_buffer("counted", torch.tensor(False))

    def forward(self, tokens: Tensor) -> Tensor:
        """Token ids (B, T) to logits (B, K)."""
        words = known_words(tokens)
        table = self.embedding.weight
        weights = self.importance(words).to(table.dtype)
        text = F.embedding_bag(
            words, table, mode="sum", per_sample_weights=weights, padding_idx=PAD
        )
        if not self.hparams.inputs.endswith("mean"):
            text = text + self.bias
        logits: Tensor = self.network(text)
        return logits

    def importance(self, words: Tensor) -> Tensor:
        """What each word of texts (B, T) counts, a; 0 for PAD. Without a word all are 0."""
        inputs = self.hparams.inputs
        known = words != PAD
        weights = known.float()
        if inputs.startswith("tfidf"):
            weights = weights * self.rarity[words]
        if inputs == "tfidf":  # a word that comes c times adds c of its c squared each time
            squares = (weights.square() * occurrences(words)).sum(1, keepdim=True)
            return weights / squares.sqrt().clamp_min(1e-12)
        if inputs == "bag":
            return weights
        return weights / weights.sum(1, keepdim=True).clamp_min(1e-12)

    # ---- before the first gradient step

    def on_train_start(self) -> None:
        """Count in how many training texts words are, if it matters and is not done yet."""
        super().on_train_start()
        if not self.hparams.inputs.startswith("tfidf") or bool(self.counted):
            return
        sizes = self.hparams.vocab_size, self.hparams.num_classes
        counts = count_training_texts(self.trainer, known_words, *sizes)
        found = inverse_frequencies(counts.features.sum(1), int(counts.texts.sum()))
        self.rarity.copy_(found)
        self.counted.fill_(True)
