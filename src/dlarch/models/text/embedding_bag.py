"""fastText: embeddings of a text's words and n-grams, averaged, into a linear layer."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn, optim
from torch.nn import functional as F  # noqa: N812

from dlarch.errors import check_at_least_1
from dlarch.nn.bags import distinct, log_count_ratios, words_and_ngrams
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


@register_model("embedding_bag", paper="1607.01759")
class EmbeddingBag(TextClassifier):
    r"""Throw all words of a text into a bag, and say what class most of them speak for.

    With $J$ the words of a text and its n-grams (runs of 2 to n words), in any order,

    $$\hat y = V \bar e + d \qquad \bar e = \frac{1}{|J|} \sum_{j \in J} e_j$$

    A word has an embedding of its own. There are too many n-grams for that: a hash of its words
    puts each into one of a fixed number of buckets, whose embedding it shares.

    With `nb_weights` a feature has no embedding, but a single number $w_j$ that multiplies what
    naive Bayes says of it (S. Wang and C. Manning 2012), the log of how much more often it occurs
    in the training texts of a class than in those of the others (`log_count_ratios`):

    $$\hat y_k = d_k + \sum_{j \in J} w_j r_{jk}$$

    With all w equal this is naive Bayes; gradient descent finds w from 0. The ratios are counted
    before the first step, and travel with the weights.

    Shapes: tokens (B, T) -> words and n-grams (B, n T) -> mean (B, E) -> logits (B, K).

    Differences from the paper: (1) Adam with early stopping instead of gradient descent with a
    learning rate that falls linearly; (2) softmax over all classes, no tree; (3) n-grams do not run
    over unknown words or the ends of a text; (4) the sum instead of the mean, each feature once
    per text, and naive Bayes weights are options.

    Expected: test/accuracy 0.919 (3 seeds) on reviews of films with naive Bayes ratios of up to
    three words, 2 minutes on one CPU core,
    `dlarch fit --config recipes/embedding_bag_nb_imdb.yaml`; see docs/models/embedding_bag.md.

    Args:
        vocab_size: number of token ids, V. Taken from the data when not given.
        num_classes: number of classes, K. Taken from the data when not given.
        ngrams: longest run of words that is a feature, n.
        buckets: number of embeddings that all runs share.
        embedding_size: E; of no use with `nb_weights`.
        mode: "mean" or "sum" over the features of a text.
        once: count a feature that a text has several times once.
        nb_weights: weigh log-count ratios instead of embeddings; best with "sum" and `once`.
        loss: called with logits (B, K) and labels (B,); cross-entropy when not given.
        optimizer: called with the parameters.
        scheduler: called with the optimizer; steps after each optimizer step.
        initializer: of the linear layer; torch's own when not given.
        pictures: draw confusion matrix and features at each validation.
    """

    ratios: Tensor
    counted: Tensor

    def __init__(
        self,
        vocab_size: int | None = None,
        num_classes: int | None = None,
        ngrams: int = 1,
        buckets: int = 200_000,
        embedding_size: int = 10,
        mode: Literal["mean", "sum"] = "mean",
        once: bool = False,
        nb_weights: bool = False,
        loss: LossCallable | None = None,
        optimizer: OptimizerCallable = lambda parameters: optim.Adam(parameters, lr=5e-3),
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
        check_at_least_1(ngrams=ngrams, buckets=buckets, embedding_size=embedding_size)
        self.save_hyperparameters()
        self.build_if_known()

    def build(self, vocab_size: int, num_classes: int) -> None:
        """Make the layers, in the order in which data meet them."""
        options = self.hparams
        features = vocab_size + (options.buckets if options.ngrams > 1 else 0)
        if options.nb_weights:
            self.register_buffer("ratios", torch.zeros(features, num_classes))
            self.register_buffer("counted", torch.tensor(False))
            self.trust = nn.Embedding(features, 1, padding_idx=PAD)
            nn.init.zeros_(self.trust.weight)
            self.bias = nn.Parameter(torch.zeros(num_classes))
        else:
            size = options.embedding_size
            self.embedding = nn.EmbeddingBag(features, size, mode="sum", padding_idx=PAD)
            nn.init.uniform_(self.embedding.weight, -1 / size, 1 / size)
            with torch.no_grad():
                self.embedding.weight[PAD] = 0
            self.output = nn.Linear(size, num_classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Token ids (B, T) to logits (B, K)."""
        features = self.features(tokens)
        if self.hparams.nb_weights:
            trust = self.trust(features)[..., 0].to(self.ratios.dtype)
            # In float32 also where the Trainer wants less: sums of thousands of small numbers.
            with torch.autocast(features.device.type, enabled=False):
                bag = F.embedding_bag(
                    features, self.ratios, mode="sum", per_sample_weights=trust, padding_idx=PAD
                )
        else:
            bag = self.embedding(features)
        if self.hparams.mode == "mean":
            bag = bag / (features != PAD).sum(1, keepdim=True).clamp_min(1)  # there may be none
        return bag + self.bias if self.hparams.nb_weights else self.output(bag)

    def features(self, tokens: Tensor) -> Tensor:
        """Token ids (B, T) to those of words and n-grams (B, n T), PAD where there is none."""
        options = self.hparams
        words = known_words(tokens)
        found = words_and_ngrams(words, options.ngrams, options.vocab_size, options.buckets)
        return distinct(found) if options.once else found

    def on_train_start(self) -> None:
        """Count the training texts for naive Bayes, unless that is done."""
        super().on_train_start()
        if not self.hparams.nb_weights or bool(self.counted):
            return
        counts = count_training_texts(self.trainer, self.features, *self.ratios.shape)
        self.ratios.copy_(log_count_ratios(counts.features))
        self.counted.fill_(True)
