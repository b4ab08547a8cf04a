"""The language-modelling task: the next token of a text, from those before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torchmetrics import Metric

from dlarch.batches import TextBatch
from dlarch.callbacks.samples import WrittenText, WrittenTexts
from dlarch.spec import PAD, DataSpec
from dlarch.tasks.base import (
    InitializerCallable,
    LossCallable,
    OptimizerCallable,
    SchedulerCallable,
)
from dlarch.tasks.examples import random_texts
from dlarch.tasks.losses import check_loss
from dlarch.tasks.metrics import Ratio
from dlarch.tasks.writer import Writer


class LanguageModel(Writer):
    """Predict each token of a text, its end too, from the tokens before it.

    Args:
        loss: called with logits (n, V) and targets (n,) of real tokens; a mean over them.
        optimizer: called with the parameters.
        scheduler: called with the optimizer.
        initializer: of the weights; torch's own when not given.
        pictures: write texts at each validation.
    """

    batch_type = TextBatch
    monitor = ("val/loss", "min")
    headline = "test/loss"

    def __init__(
        self,
        loss: LossCallable,
        optimizer: OptimizerCallable,
        scheduler: SchedulerCallable | None = None,
        initializer: InitializerCallable | None = None,
        pictures: bool = True,
    ) -> None:
        super().__init__(
            optimizer=optimizer, scheduler=scheduler, pictures=pictures, initializer=initializer
        )
        self.loss = loss

    @classmethod
    def example(cls, size: int, seed: int) -> tuple[DataSpec, TextBatch]:
        """A tiny spec and a batch of random texts of mixed lengths."""
        return DataSpec(vocab_size=11, num_conditions=3), random_texts(size, seed)

    def forward(self, tokens: Tensor, condition: Tensor | None = None) -> Tensor:
        """Logits (B, T, V) of what follows each of the tokens (B, T).

        Args:
            tokens: ids, the first of each row BOS.
            condition: (B,) class of each text, for a model that knows classes.
        """
        features, _ = self.read(tokens, self.start(len(tokens)), self._given(condition))
        return self.project(features)

    # ---- training

    def training_step(self, batch: Sequence[Any], _: int) -> Tensor:
        """Mean loss of the batch's real tokens."""
        logits, targets = self._predict(TextBatch(*batch))
        return self.mean_loss(self.loss(logits, targets) * len(targets), len(targets))

    def _predict(self, batch: TextBatch) -> tuple[Tensor, Tensor]:
        """Logits (n, V) and targets (n,) of the batch's n real tokens."""
        known, targets = batch.tokens[:, :-1], batch.tokens[:, 1:]
        features, _ = self.read(known, self.start(len(known)), self._given(batch.label))
        real = targets != PAD
        return self.project(features[real]), targets[real]

    def on_fit_start(self) -> None:
        """Try the loss that was asked for.

        Raises:
            OptionError: it is no mean over logits (n, V) and targets (n,).
        """
        super().on_fit_start()
        logits = torch.randn((3, 5), generator=torch.Generator().manual_seed(0))
        check_loss(self.loss, logits, torch.tensor([4, 1, 2]))

    # ---- validation and test

    def metrics(self, stage: str) -> dict[str, Metric]:  # noqa: ARG002
        """Nats per token, its exponential, and the share of tokens that are the likeliest."""
        return {
            "loss": Ratio(),
            "perplexity": Ratio(exponential=True),
            "token_accuracy": Ratio(),
        }

    def validation_step(self, batch: Sequence[Any], _: int) -> None:
        """Score a batch."""
        logits, targets = self._predict(TextBatch(*batch))
        total = F.cross_entropy(logits.float(), targets, reduction="sum")
        count = float(len(targets))
        self._metrics["loss"].update(total, count)
        self._metrics["perplexity"].update(total, count)
        self._metrics["token_accuracy"].update((logits.argmax(-1) == targets).sum(), count)

    def test_step(self, batch: Sequence[Any], batch_index: int) -> None:
        """Score a batch."""
        self.validation_step(batch, batch_index)

    # ---- what the pictures show

    def pictures(self) -> list[Callback]:
        """Texts that the model writes."""
        return [WrittenTexts()]

    def written_texts(self, count: int) -> list[WrittenText]:
        """Texts from a fixed seed; of a model that knows classes, of each class in turn."""
        if self.processor is None:
            return []
        if not self.num_conditions:
            return [WrittenText(text) for text in self.generate(count, seed=0)]
        names = self.condition_names()[:count]
        parts = [len(part) for part in torch.arange(count).tensor_split(len(names))]
        return [
            WrittenText(text, name)
            for name, part in zip(names, parts, strict=True)
            for text in self.generate(part, condition=name, seed=0)
        ]
