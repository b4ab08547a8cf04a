"""The task of sorting texts into classes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torchmetrics import Metric

from dlarch.batches import TextBatch
from dlarch.callbacks.classes import ConfusionMatrix
from dlarch.callbacks.features import FeatureProjector
from dlarch.callbacks.through_time import GradientThroughTime
from dlarch.processing import LabelledTextProcessor
from dlarch.spec import DataSpec
from dlarch.tasks.examples import random_texts
from dlarch.tasks.metrics import MacroRecall
from dlarch.tasks.supervised import Supervised


class TextClassifier(Supervised):
    """Sort texts of different lengths into classes.

    Scored by cross-entropy in nats, accuracy, and macro recall: the mean over the classes of the
    share that is found, in which a rare class counts as much as a frequent one.
    """

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

    def pictures(self) -> list[Callback]:
        """Confusion matrix, projector, and the gradient by time step of a recurrent network."""
        return [ConfusionMatrix(), FeatureProjector(), GradientThroughTime()]
