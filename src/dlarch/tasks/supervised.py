"""The supervised task: inputs of one size to a class or to numbers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.optim import Optimizer
from torchmetrics import Metric

from dlarch.batches import ImageBatch, TableBatch
from dlarch.callbacks.classes import ConfusionMatrix, Mistakes
from dlarch.callbacks.features import FeatureProjector, FilterImages
from dlarch.callbacks.numbers import Curve, NumbersPicture, Predicted
from dlarch.callbacks.plane import DecisionSurface
from dlarch.callbacks.protocols import Mistake
from dlarch.errors import DataError, MismatchError
from dlarch.processing import ImageProcessor, Processor, TableProcessor
from dlarch.spec import DataSpec
from dlarch.tasks.base import (
    InitializerCallable,
    LossCallable,
    OptimizerCallable,
    SchedulerCallable,
    Task,
)
from dlarch.tasks.losses import check_loss
from dlarch.tasks.metrics import Confusion, Ratio

MOST_MISTAKES = 16
"""Validation images that are shown of those taken for another class."""

MOST_ROWS = 1000
"""Rows that are kept for the pictures of numbers."""

Rows = list[tuple[Tensor, Tensor]]
"""Inputs and targets of batches."""


class Prediction(NamedTuple):
    """A class and the probability that the model gives it."""

    name: str
    probability: float


class Supervised(Task):
    """Sort inputs into classes, or predict numbers: what a model does is decided by the data.

    With `num_classes` the model gives logits (B, K), and is scored by accuracy; with `out_features`
    it gives numbers (B, O), and is scored by the root of the mean squared error.

    Args:
        optimizer: called with the parameters.
        loss: called with outputs and targets, a mean over the batch; when not given the
            cross-entropy of classes, the mean squared error of numbers.
        scheduler: called with the optimizer.
        initializer: of all weights; that of the model when not given.
        pictures: draw mistakes, filters and what else the task has to show.
    """

    batch_type: ClassVar[type | tuple[type, ...]] = ImageBatch
    reads: ClassVar[type[Processor] | tuple[type[Processor], ...]] = (
        ImageProcessor,
        TableProcessor,
    )
    """Processors of raw inputs."""

    monitor = ("val/loss", "min")
    headline = "test/accuracy"

    def __init__(
        self,
        optimizer: OptimizerCallable,
        loss: LossCallable | None = None,
        scheduler: SchedulerCallable | None = None,
        initializer: InitializerCallable | None = None,
        pictures: bool = True,
    ) -> None:
        super().__init__(
            optimizer=optimizer, scheduler=scheduler, pictures=pictures, initializer=initializer
        )
        self.loss = loss
        self._counts: list[Confusion] = []  # in a list, to be no part of the network
        self.confusion: Tensor | None = None
        self.mistakes: list[Mistake] = []
        self._scored: Rows = []

    # ---- what a model defines

    @abstractmethod
    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs (B, ...) to logits (B, K) or numbers (B, O)."""

    def answers(self, inputs: Tensor, targets: Tensor) -> Tensor:  # noqa: ARG002
        """The outputs in the shape in which they are compared with the targets."""
        outputs: Tensor = self(inputs)
        return outputs

    def penalty(self) -> Tensor | None:
        """What the weights themselves add to the loss."""
        return None

    def constrain(self) -> None:
        """Bring the weights back to where they may be, after each optimizer step."""

    # ---- examples

    @property
    def classifies(self) -> bool:
        """Whether the outputs are classes."""
        return self.hparams.get("num_classes") is not None

    @classmethod
    def example(cls, size: int, seed: int) -> tuple[DataSpec, Any]:
        """A tiny spec and a batch of random images, or of rows for a model that takes rows."""
        generator = torch.Generator().manual_seed(seed)
        labels = torch.arange(size) % 3
        if cls.takes(ImageBatch):
            spec = DataSpec(image_shape=(1, 16, 24), in_features=384, num_classes=3)
            images = torch.randn((size, 1, 16, 24), generator=generator)
            return spec, ImageBatch(images, labels, torch.arange(size))
        rows = torch.randn((size, 5), generator=generator)
        spec = DataSpec(in_features=5, num_classes=3)
        return spec, TableBatch(rows, labels, torch.arange(size))

    @classmethod
    def takes(cls, kind: type) -> bool:
        """Whether the model takes a kind of batch."""
        kinds = cls.batch_type if isinstance(cls.batch_type, tuple) else (cls.batch_type,)
        return kind in kinds

    # ---- training

    def training_step(self, batch: Sequence[Any], _: int) -> Tensor:
        """Mean loss of the batch."""
        inputs, targets = batch[0], batch[1]
        loss = self._loss(self.answers(inputs, targets), targets)
        penalty = self.penalty()
        if penalty is not None:
            loss = loss + penalty
        return self.mean_loss(loss * len(inputs), len(inputs))

    def _loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if self.loss is not None:
            return self.loss(outputs, targets)  # type: ignore[no-any-return]
        if self.classifies:
            return F.cross_entropy(outputs, targets)
        return F.mse_loss(outputs, targets)

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer | Any,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Take a step, then keep to the constraints."""
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        with torch.no_grad():
            self.constrain()

    # ---- validation and test

    def metrics(self, stage: str) -> dict[str, Metric]:  # noqa: ARG002
        """Loss and accuracy of classes; loss and errors of numbers, in their own units."""
        if self.classifies:
            return {"loss": Ratio(), "accuracy": Ratio()}
        return {"loss": Ratio(), "rmse": Ratio(root=True), "mae": Ratio()}

    def setup(self, stage: str) -> None:
        """Let tables show what is scored."""
        super().setup(stage)
        self.headline = "test/accuracy" if self.classifies else "test/rmse"

    def on_fit_start(self) -> None:
        """Try the loss that was asked for.

        Raises:
            OptionError: it is no mean over such outputs and targets.
        """
        super().on_fit_start()
        if self.loss is None:
            return
        generator = torch.Generator().manual_seed(0)
        size = int(self.hparams.num_classes if self.classifies else self.hparams.out_features)
        outputs = torch.randn((size, size), generator=generator)
        numbers = torch.randn((size, size), generator=generator)
        check_loss(self.loss, outputs, torch.arange(size) if self.classifies else numbers)

    def on_validation_epoch_start(self) -> None:
        """Start the epoch's metrics."""
        super().on_validation_epoch_start()
        self.mistakes, self._scored = [], []
        if self.classifies:
            self._counts = [Confusion(int(self.hparams.num_classes)).to(self.device)]

    def validation_step(self, batch: Sequence[Any], _: int) -> None:
        """Score a batch; keep what the pictures show of it."""
        outputs = self._score(batch)
        if self.classifies:
            self._counts[0].update(outputs.argmax(1), batch[1])
            if self.with_pictures:
                self._keep_mistakes(batch, outputs)
        elif self.with_pictures:
            self._scored = kept(self._scored, batch[0], batch[1])

    def on_validation_epoch_end(self) -> None:
        """Log the epoch's metrics; gather the confusion matrix of all ranks."""
        super().on_validation_epoch_end()
        if self.classifies:
            self.confusion = self._counts[0].compute()

    def test_step(self, batch: Sequence[Any], batch_index: int) -> None:  # noqa: ARG002
        """Score a batch."""
        self._score(batch)

    def _score(self, batch: Sequence[Any]) -> Tensor:
        inputs, targets = batch[0], batch[1]
        outputs: Tensor = self.answers(inputs, targets).float()
        count = float(len(inputs))
        self._metrics["loss"].update(self._loss(outputs, targets).float() * count, count)
        if self.classifies:
            self._metrics["accuracy"].update((outputs.argmax(1) == targets).sum(), count)
        else:
            error = (outputs - targets) * self._unit(outputs)
            self._metrics["rmse"].update(error.square().sum(), float(error.numel()))
            self._metrics["mae"].update(error.abs().sum(), float(error.numel()))
        return outputs

    def _unit(self, outputs: Tensor) -> Tensor | float:
        """What one of the normalised targets is in its own unit."""
        if not isinstance(self.processor, TableProcessor):
            return 1.0
        return torch.tensor(self.processor.target_std, device=outputs.device)

    def predict_step(self, batch: Sequence[Any], _: int) -> list[str]:
        """The class of each example, or its numbers in their own units."""
        outputs = self(batch[0])
        if self.classifies:
            names = self.class_names()
            return [names[label] for label in outputs.argmax(1).tolist()]
        return self._as_text(outputs)

    def _as_text(self, outputs: Tensor) -> list[str]:
        """Numbers (B, O) in their own units, as they are printed."""
        rows = self.processor.decode(outputs) if self.processor is not None else outputs.tolist()
        return ["\t".join(f"{value:.6g}" for value in row) for row in rows]

    # ---- what the pictures show

    def pictures(self) -> list[Callback]:
        """Those of classes or of numbers, and of whatever kind of input the model takes."""
        found: list[Callback] = [ConfusionMatrix(), Mistakes(), FeatureProjector()]
        found += [FilterImages()] if self.takes(ImageBatch) else []
        return found + ([DecisionSurface(), NumbersPicture()] if self.takes(TableBatch) else [])

    def predicted(self) -> Predicted | None:
        """The validation rows scored last, and the numbers predicted for them."""
        if not self._scored:
            return None
        inputs, targets = (torch.cat(part) for part in zip(*self._scored, strict=True))
        truth, _ = self._in_units(targets, torch.zeros_like(targets))
        return Predicted(self._names()[1], truth[:, 0], *self._predicted(inputs))

    def curve_rows(self) -> tuple[str, Rows]:
        """Which rows the curve is drawn among."""
        return "validation rows", self._scored

    def curve(self) -> Curve | None:
        """The number predicted over a single input."""
        name, rows = self.curve_rows()
        if not rows or rows[0][0].shape[1:] != (1,):
            return None
        inputs, targets = (torch.cat(part) for part in zip(*rows, strict=True))
        low, high = float(inputs.min()), float(inputs.max())
        margin = 0.2 * (high - low)
        places = torch.linspace(low - margin, high + margin, 200)[:, None]
        grid = places.to(device=inputs.device, dtype=inputs.dtype)
        truth, _ = self._in_units(targets, torch.zeros_like(targets))
        found = self._predicted(grid)
        return Curve(self._names(), name, self._raw(inputs), truth[:, 0], self._raw(grid), *found)

    @torch.no_grad()
    def _predicted(self, inputs: Tensor) -> tuple[Any, Any | None]:
        """Means of the first target in its own unit, and deviations where they are known."""
        mean = self(inputs)
        return self._in_units(mean, torch.zeros_like(mean))[0][:, 0], None

    def _in_units(self, mean: Tensor, deviation: Tensor) -> tuple[Any, Any]:
        """Means and deviations (B, O) of normalised targets in the targets' own units."""
        mean, deviation = mean.float().cpu(), deviation.float().cpu()
        decoded = mean.tolist() if self.processor is None else self.processor.decode(mean)
        return np.array(decoded), (deviation * self._unit(deviation)).numpy()

    def _raw(self, inputs: Tensor) -> Any:
        """A single input, (B, 1), in its own unit: (B,)."""
        numbers = inputs[:, 0].float().cpu().numpy()
        if not isinstance(self.processor, TableProcessor):
            return numbers
        return numbers * self.processor.std[0] + self.processor.mean[0]

    def _names(self) -> tuple[str, str]:
        """Of the first input and of the first target."""
        if not isinstance(self.processor, TableProcessor):
            return "input", "target"
        return self.processor.columns[0], self.processor.targets[0]

    def class_names(self) -> list[str]:
        """Names of the classes in the order of the labels."""
        names = getattr(self.processor, "class_names", None)
        return names or [str(label) for label in range(int(self.hparams.num_classes))]

    def _keep_mistakes(self, batch: Sequence[Any], outputs: Tensor) -> None:
        """Keep the surest mistakes among the images so far."""
        if not isinstance(self.processor, ImageProcessor) or batch[0].dim() != 4:
            return
        sure, found = outputs.softmax(1).max(1)
        wrong = (found != batch[1]).nonzero()[:, 0]
        wrong = wrong[sure[wrong].argsort(descending=True)[:MOST_MISTAKES]]
        names = self.class_names()
        pixels = self.processor.decode(batch[0][wrong])
        fresh = [
            Mistake(image, names[int(batch[1][row])], names[int(found[row])], float(sure[row]))
            for row, image in zip(wrong.tolist(), pixels, strict=True)
        ]
        ordered = sorted([*self.mistakes, *fresh], key=lambda mistake: -mistake.probability)
        self.mistakes = ordered[:MOST_MISTAKES]

    # ---- using a trained model

    @torch.inference_mode()
    def classify(self, inputs: Sequence[Any], *, top: int = 1) -> list[list[Prediction]]:
        """The most probable classes of raw inputs.

        Args:
            inputs: images (files, pictures of Pillow's, pixels), rows of numbers, or texts.
            top: classes per input.

        Returns:
            For each input its classes, the most probable first.

        Raises:
            MismatchError: the model predicts numbers, or has no processor to read inputs with.
            DataError: an input cannot be read.
        """
        if not self.classifies:
            raise MismatchError("This model predicts numbers, not classes.")
        if not isinstance(self.processor, self.reads):
            raise MismatchError(
                "This model has no processor to read inputs with: train it on a dlarch data "
                "module, or set model.processor."
            )
        if not inputs:
            raise DataError("There is nothing to classify: give at least one input.")
        training = self.training
        self.eval()
        tensor = self.processor.encode(inputs)[0].to(self.device)
        found = self(tensor).float().softmax(1).topk(min(top, int(self.hparams.num_classes)))
        self.train(training)
        names = self.class_names()
        return [
            [Prediction(names[label], sure) for label, sure in zip(labels, sures, strict=True)]
            for labels, sures in zip(found.indices.tolist(), found.values.tolist(), strict=True)
        ]


def kept(rows: Rows, inputs: Tensor, targets: Tensor) -> Rows:
    """The rows so far and, as long as there is room, those of a batch."""
    room = MOST_ROWS - sum(len(part) for part, _ in rows)
    return [*rows, (inputs[:room].detach(), targets[:room].detach())] if room > 0 else rows
