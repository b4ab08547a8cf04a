"""The task of sorting texts into classes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torchmetrics import Metric

from dlarch.batches import TextBatch
from dlarch.callbacks.classes import ConfusionMatrix
from dlarch.callbacks.features import FeatureProjector
from dlarch.callbacks.protocols import WeighedText, WeighsWords
from dlarch.callbacks.through_time import GradientThroughTime
from dlarch.callbacks.tokens import TokenProjector
from dlarch.callbacks.weighed_texts import WeighedTexts
from dlarch.errors import MismatchError
from dlarch.processing import LabelledTextProcessor
from dlarch.spec import DataSpec
from dlarch.tasks.examples import random_texts
from dlarch.tasks.metrics import MacroRecall
from dlarch.tasks.supervised import Supervised
from dlarch.tasks.vectors import WordEmbedding, start_from_vectors

SHOWN_PER_CLASS = 4
"""Validation texts that are kept of each class, for the pictures."""


class WordWeight(NamedTuple):
    """A token as it is written, and its weight in a decision."""

    word: str
    weight: float


class _Shown(NamedTuple):
    """A validation text: its place in the split, its label, what is written."""

    example: int
    label: int
    text: str


class TextClassifier(Supervised):
    """Sort texts of different lengths into classes.

    Scored by cross-entropy in nats, accuracy, and macro recall: the mean over the classes of the
    share that is found, in which a rare class counts as much as a frequent one.
    """

    processor: LabelledTextProcessor | None
    batch_type = TextBatch
    reads = LabelledTextProcessor

    @abstractmethod
    def forward(self, tokens: Tensor) -> Tensor:
        """Token ids (B, T), padded with PAD on the right, to logits (B, K)."""

    @classmethod
    def example(cls, size: int, seed: int) -> tuple[DataSpec, TextBatch]:
        """A tiny spec and a batch of random texts of mixed lengths."""
        return DataSpec(vocab_size=11, num_classes=3), random_texts(size, seed)

    def metrics(self, stage: str) -> dict[str, Metric]:
        """Loss, accuracy and macro recall."""
        classes = int(self.hparams.num_classes)
        return super().metrics(stage) | {"macro_recall": MacroRecall(classes)}

    def _score(self, batch: Sequence[Any]) -> Tensor:
        outputs = super()._score(batch)
        self._metrics["macro_recall"].update(outputs.argmax(1), batch[1])
        return outputs

    def on_fit_start(self) -> None:
        """Start from pretrained word vectors, if the model was asked to.

        Raises:
            OptionError: the vectors are of another size than the embeddings.
            DataError: their file cannot be read, or has none of the words.
        """
        super().on_fit_start()
        if isinstance(getattr(self, "embedding", None), WordEmbedding):
            start_from_vectors(self)

    # ---- what the pictures show

    def pictures(self) -> list[Callback]:
        """Confusion matrix, projectors, gradient by time step; of some the weights of words."""
        found: list[Callback] = [ConfusionMatrix(), FeatureProjector(), TokenProjector()]
        found.append(GradientThroughTime())
        return found + ([WeighedTexts()] if isinstance(self, WeighsWords) else [])

    def vocabularies(self) -> dict[str, Sequence[str]]:
        """The tokens, when they are known."""
        return {} if self.processor is None else {"": self.processor.tokens.readable()}

    def on_validation_epoch_start(self) -> None:
        """Start the epoch's metrics, and choose texts anew: the same ones as before."""
        super().on_validation_epoch_start()
        self._shown: dict[int, list[_Shown]] = {}

    def validation_step(self, batch: Sequence[Any], batch_index: int) -> None:
        """Score a batch; keep the first texts of each class, whatever order they come in."""
        super().validation_step(batch, batch_index)
        texts = TextBatch(*batch)
        if not isinstance(self, WeighsWords) or texts.text is None or texts.example is None:
            return
        assert texts.label is not None
        for row in zip(texts.example.tolist(), texts.label.tolist(), texts.text, strict=True):
            kept = self._shown.setdefault(row[1], [])
            kept.append(_Shown(*row))
            self._shown[row[1]] = sorted(kept)[:SHOWN_PER_CLASS]

    def weighed_texts(self, count: int) -> list[WeighedText]:
        """The first validation texts of each class in turn, as they are read now."""
        ranked = [(rank, text) for kept in self._shown.values() for rank, text in enumerate(kept)]
        shown = [text for _, text in sorted(ranked, key=lambda pair: (pair[0], pair[1].label))]
        if self.processor is None or not shown[:count]:
            return []
        texts = [each.text for each in shown[:count]]
        names = self.class_names()
        return [
            WeighedText(
                pieces=[word for word, _ in words],
                weights=[weight for _, weight in words],
                label=names[each.label],
                predicted=best.name,
                probability=best.probability,
            )
            for each, words, (best,) in zip(
                shown, self.weigh(texts), self.classify(texts), strict=False
            )
        ]

    # ---- using a trained model

    @torch.inference_mode()
    def weigh(self, texts: Sequence[str]) -> list[list[WordWeight]]:
        """How much the model looks at each token of raw texts, those of begin and end included.

        Raises:
            MismatchError: the model does not weigh words, or has no processor to read texts with.
            DataError: there is no text, or an empty one.
        """
        if not isinstance(self, WeighsWords):
            raise MismatchError("This model does not weigh words: lstm_attention does.")
        if not isinstance(self.processor, LabelledTextProcessor):
            raise MismatchError("This model has no processor to read texts with.")
        training = self.training
        self.eval()
        found = []
        for text in texts:  # one by one: the weights of a transformer take much memory
            tokens = self.processor.encode([text]).tokens.to(self.device)
            (weights,) = self.word_weights(tokens).float().tolist()
            pairs = zip(self.processor.pieces(text), weights, strict=True)
            found.append([WordWeight(*pair) for pair in pairs])
        self.train(training)
        return found
