"""The language-modelling task: the next token of a text, from those before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torchmetrics import Metric

from dlarch.batches import TextBatch
from dlarch.callbacks.resume import gathered
from dlarch.callbacks.samples import WrittenText, WrittenTexts
from dlarch.callbacks.units import UnitActivations, UnitsOverText
from dlarch.decoding import list_tensors, map_tensors
from dlarch.spec import BOS, EOS, PAD, DataSpec
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

PASSAGE = 400
"""Tokens of the validation split over which units are drawn, at the most."""


class LanguageModel(Writer):
    """Predict each token of a text, its end too, from the tokens before it.

    Windows of a long text that go on where the batch before ended are read with the state in which
    it ended; the gradient ends there (truncated backpropagation through time).

    Args:
        loss: called with logits (n, V) and targets (n,) of real tokens; a mean over them.
        optimizer: called with the parameters.
        scheduler: called with the optimizer.
        initializer: of the weights; torch's own when not given.
        pictures: write texts at each validation.
    """

    batch_type = TextBatch
    carries_state: ClassVar[bool] = True
    """Whether a state keeps its size, so that the next window can be read from it."""

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
        # The states in which the last batches ended; windows that go on begin in them.
        self._trained_to: Any = None
        self._scored_to: Any = None
        self._saved_state: list[Tensor] | None = None
        self._passage: list[tuple[Tensor, Tensor | None]] = []  # texts, and the class of each

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
        text = TextBatch(*batch)
        logits, targets, self._trained_to = self._predict(text, self._standing())
        return self.mean_loss(self.loss(logits, targets) * len(targets), len(targets))

    def _predict(self, batch: TextBatch, before: Any) -> tuple[Tensor, Tensor, Any]:
        """Logits (n, V) and targets (n,) of the batch's n real tokens, and the state at its end.

        Args:
            batch: texts or windows.
            before: the state at the end of the batch before; None if nothing is to go on in it.
        """
        known, targets = batch.tokens[:, :-1], batch.tokens[:, 1:]
        state = self._begun_in(batch, before)
        features, last = self.read(known, state, self._given(batch.label))
        real = targets != PAD
        carried = None if self._goes_on(batch) is None else map_tensors(Tensor.detach, last)
        return self.project(features[real]), targets[real], carried

    def _begun_in(self, batch: TextBatch, before: Any) -> Any:
        """The state in which a batch begins; `before` is that at the end of the last one."""
        state = self.start(len(batch.tokens))
        goes_on = self._goes_on(batch)
        return state if goes_on is None or before is None else _where(goes_on, before, state)

    def _goes_on(self, batch: TextBatch) -> Tensor | None:
        """The rows, (B,), that go on in the state before; None if no state is carried."""
        return batch.goes_on if self.carries_state else None

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

    def _fresh_metrics(self, stage: str) -> dict[str, Metric]:
        self._scored_to, self._passage = None, []
        return super()._fresh_metrics(stage)

    def validation_step(self, batch: Sequence[Any], _: int) -> None:
        """Score a batch."""
        text = TextBatch(*batch)
        self._keep_passage(text)
        logits, targets, self._scored_to = self._predict(text, self._scored_to)
        total = F.cross_entropy(logits.float(), targets, reduction="sum")
        count = float(len(targets))
        self._metrics["loss"].update(total, count)
        self._metrics["perplexity"].update(total, count)
        self._metrics["token_accuracy"].update((logits.argmax(-1) == targets).sum(), count)

    def test_step(self, batch: Sequence[Any], batch_index: int) -> None:
        """Score a batch."""
        self.validation_step(batch, batch_index)

    # ---- checkpoints

    def setup(self, stage: str) -> None:
        """Begin anew."""
        super().setup(stage)
        if stage == "fit":
            self._trained_to = self._saved_state = None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the state in which training stands in its texts, of every process."""
        super().on_save_checkpoint(checkpoint)
        parts = [part.cpu() for part in list_tensors(self._trained_to)]
        checkpoint["dlarch"]["state"] = gathered(parts, self.trainer.world_size)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the state until training goes on."""
        super().on_load_checkpoint(checkpoint)
        states = checkpoint.get("dlarch", {}).get("state", [])
        rank = self.trainer.global_rank if self._trainer is not None else 0
        if rank < len(states) and states[rank]:
            self._saved_state = states[rank]

    def _standing(self) -> Any:
        """The state in which training stands, after a resume that of the checkpoint."""
        if self._saved_state is not None:
            parts, self._saved_state = self._saved_state, None
            tensors = [part.to(self.device) for part in parts]
            self._trained_to = _filled(self.start(len(parts[0])), tensors)
        return self._trained_to

    # ---- what the pictures show

    def pictures(self) -> list[Callback]:
        """Texts that the model writes, and its units, if it has any, over a text that it reads."""
        units: list[Callback] = [UnitActivations()] if self.learns_by == "gradients" else []
        return [*super().pictures(), WrittenTexts(), *units]

    def _keep_passage(self, batch: TextBatch) -> None:
        """Keep the first texts of a split, or the beginning of its first stream."""
        goes_on = batch.goes_on is not None and bool(batch.goes_on[0])
        for row, ids in enumerate(batch.tokens[:1] if goes_on else batch.tokens):
            if sum(len(text) for text, _ in self._passage) >= PASSAGE:
                return
            if goes_on:
                before, label = self._passage.pop()
                self._passage.append((torch.cat((before, ids[1:])), label))
            else:
                label = None if batch.label is None else batch.label[row : row + 1]
                self._passage.append((ids[ids != PAD][: self.context], label))

    def units_over_text(self) -> UnitsOverText | None:
        """The features of the passage of the split seen last."""
        if self.processor is None or not self._passage:
            return None
        training = self.training
        self.eval()
        tokens: list[str] = []
        features: list[Tensor] = []
        for ids, label in self._passage:
            text = ids[: PASSAGE - len(tokens)].to(self.device)
            label = None if label is None else label.to(self.device)
            found, _ = self.read(text[None], self.start(1), self._given(label))
            shown = text != BOS
            features.append(found[0][shown])
            tokens += [self._written(token) for token in text[shown].tolist()]
        self.train(training)
        return UnitsOverText(tokens, torch.cat(features))

    def _written(self, token: int) -> str:
        """A token as it is drawn; the end of a text as the end of a line."""
        vocabulary = self._own_processor().tokens
        text = "\n" if token == EOS else vocabulary.decode([token])
        return f"{text} " if vocabulary.level == "words" else text

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


def _where(goes_on: Tensor, before: Any, fresh: Any) -> Any:
    """The state of rows that go on, as far as there is one, and of others the fresh one."""

    def chosen(old: Tensor, new: Tensor) -> Tensor:
        old = old[: len(new)].to(new.dtype)
        rows = goes_on[: len(old)].view(-1, *(1,) * (old.dim() - 1))
        return torch.cat((torch.where(rows, old, new[: len(old)]), new[len(old) :]))

    pairs = zip(list_tensors(before), list_tensors(fresh), strict=True)
    return _filled(fresh, [chosen(old, new) for old, new in pairs])


def _filled(form: Any, tensors: list[Tensor]) -> Any:
    """Tensors in the form of a state."""
    rest = iter(tensors)
    return map_tensors(lambda _: next(rest), form)
