"""Convolutional network on texts: which phrases stand in it, wherever they stand."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn, optim
from torch.nn import functional as F  # noqa: N812

from dlarch.errors import OptionError
from dlarch.nn import masked_max, run_recurrent
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

BLOCK = 4
"""Neighbouring positions of which the recurrent layer reads the maximum."""


@register_model("text_cnn", paper="1408.5882")
class TextCNN(TextClassifier):
    r"""Look for short phrases anywhere in a text, and decide by which of them were found.

    A filter of width k scores every k neighbouring words, from their embeddings side by side. Of
    each filter the highest score in the text is kept, and the logits are linear in these:

    $$m_{tf} = w_f \cdot [e_t; \dots; e_{t+k-1}] + b_f \qquad
      c_f = \max\big(0, \max_{t} m_{tf}\big) \qquad \hat y = V c + d$$

    t runs over real words; beyond the end of the text stand zeros. What the highest score does not
    see, such as padding, gets no gradient and changes nothing.

    With `recurrent_size` the order of the phrases counts too: instead of the maximum over the text,
    the maxima over blocks of 4 words are read by an LSTM in both directions, and the logits see its
    last states (CNN + LSTM).

    Shapes: tokens (B, T) -> embeddings (B, T, E) -> scores (B, T, C) of all C filters -> maxima
    (B, C) -> logits (B, K).

    Differences from the paper: (1) one table of embeddings, random or pretrained, adapted or
    frozen, no two of them side by side; (2) AdamW or Adam instead of Adadelta with bounded norms;
    (3) the words have dropout too; (4) a recurrent layer is an option.

    Expected: test/accuracy 0.8927 on IMDB (seed 1), `dlarch fit --config
    recipes/text_cnn_imdb.yaml`; see docs/models/text_cnn.md.

    Args:
        vocab_size: number of token ids. Taken from the data when not given.
        num_classes: number of classes, K. Taken from the data when not given.
        embedding_size: E.
        widths: words that a filter sees, for each group of filters.
        filters: number of each width.
        recurrent_size: units, in each direction, of an LSTM that reads what was found where; 0
            takes the maximum over the text.
        vectors: file of pretrained word vectors that training starts from; random when not given.
        freeze: leave the embeddings as they are.
        dropout: share of embeddings, and of the linear layer's inputs, set to zero in training.
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
        widths: Sequence[int] = (3, 4, 5),
        filters: int = 100,
        recurrent_size: int = 0,
        vectors: str | None = None,
        freeze: bool = False,
        dropout: float = 0.5,
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
        if not widths or min(widths) < 1:
            raise OptionError(f"widths must be numbers of words, such as [3, 4, 5], not {widths}.")
        self.save_hyperparameters()
        self.build_if_known()

    def build(self, vocab_size: int, num_classes: int) -> None:
        """Make the layers, in the order in which data meet them."""
        options = self.hparams
        size, units = options.embedding_size, options.recurrent_size
        self.embedding = WordEmbedding(
            vocab_size, size, options.vectors, options.freeze, spread=0.05
        )
        self.dropout = nn.Dropout(options.dropout)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(size, options.filters, width) for width in options.widths
        )
        features = len(options.widths) * options.filters
        if units:
            self.recurrent = nn.LSTM(features, units, batch_first=True, bidirectional=True)
            features = 2 * units
        self.output = nn.Linear(features, num_classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Token ids (B, T) to logits (B, K)."""
        mask = tokens != PAD
        scores = self.convolve(self.dropout(self.embedding(tokens)), mask)
        if self.hparams.recurrent_size:
            features = self.read(scores, mask)
        else:
            features = masked_max(scores, mask).relu()
        logits: Tensor = self.output(self.dropout(features))
        return logits

    def convolve(self, embedded: Tensor, mask: Tensor) -> Tensor:
        """The score of each filter for the words from each position on: (B, T, E) to (B, T, C)."""
        signal = embedded.masked_fill(~mask[..., None], 0.0).transpose(1, 2)
        scores = [
            layer(F.pad(signal, (0, width - 1)))
            for layer, width in zip(self.convolutions, self.hparams.widths, strict=True)
        ]
        return torch.cat(scores, dim=1).transpose(1, 2)

    def read(self, scores: Tensor, mask: Tensor) -> Tensor:
        """The last states of the LSTM, (B, 2N), over the maxima of blocks of scores (B, T, C)."""
        extra = -mask.shape[1] % BLOCK
        blocks = F.pad(mask, (0, extra)).unflatten(1, (-1, BLOCK))
        inside = F.pad(scores, (0, 0, 0, extra)).unflatten(1, (-1, BLOCK))
        # Scores below zero do not count, so a zero in the padding is never the maximum alone.
        found = (inside.relu() * blocks[..., None]).amax(2)
        _, last = run_recurrent(self.recurrent, found, blocks.any(2))
        return last.hidden.flatten(1)
