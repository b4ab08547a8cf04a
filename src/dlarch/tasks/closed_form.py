"""The task of models that compute their weights from sums over the rows, without gradients."""

from __future__ import annotations

import functools
import operator
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import asdict
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.distributions import Normal
from torchmetrics import Metric

from dlarch.batches import TableBatch
from dlarch.callbacks.numbers import NumbersPicture
from dlarch.errors import NonFiniteLossError
from dlarch.spec import DataSpec
from dlarch.tasks.base import OptimizerCallable
from dlarch.tasks.metrics import Ratio
from dlarch.tasks.moments import Moments
from dlarch.tasks.supervised import Rows, Supervised, kept
from dlarch.tasks.without_gradients import WithoutGradients, never_used

BANDS = {"coverage_50": 0.5, "coverage_90": 0.9, "coverage_95": 0.95}
"""Metric to the share of targets that its band should hold."""


class ClosedForm(WithoutGradients, Supervised):
    """Predict numbers with weights that solve a system of equations.

    Each batch is added to the moments of the rows seen so far in the epoch; from these `learn`
    computes the weights, so that they are always those of all rows so far. One epoch is enough,
    however it is cut into batches or divided among processes; a further one starts anew. The
    moments are a part of each checkpoint. There is no gradient to clip or to accumulate.

    `train/loss` is the loss of a batch under weights that have just learnt it.

    Args:
        optimizer: trains the model by gradients instead, as other tasks do.
        pictures: draw predictions at each validation.
    """

    batch_type = TableBatch
    headline = "test/rmse"

    def __init__(self, optimizer: OptimizerCallable | None = None, pictures: bool = True) -> None:
        super().__init__(optimizer=optimizer or never_used, pictures=pictures)
        if optimizer is not None:
            self.learns_by = "gradients"
        self.moments: Moments | None = None
        self._seen: Rows = []

    # ---- what a model defines

    @abstractmethod
    def learn(self, seen: Moments, batch: Moments) -> None:
        """Set the weights.

        Args:
            seen: moments of the features and targets of all rows so far in the epoch.
            batch: those of this batch, over all processes.
        """

    def features(self, inputs: Tensor) -> Tensor:
        """What the weights are multiplied with, (B, F): the inputs, or functions of them."""
        return inputs.flatten(1)

    def predictive(self, inputs: Tensor) -> Normal | None:  # noqa: ARG002
        """The distribution of the targets, event shape (O,), of a model that knows it."""
        return None

    # ---- examples

    @classmethod
    def example(cls, size: int, seed: int) -> tuple[DataSpec, Any]:
        """A tiny spec and a batch of rows whose two numbers depend on the first two of five."""
        generator = torch.Generator().manual_seed(seed)
        scale = torch.tensor([1.0, 0.7, 0.02, 0.02, 0.02])
        rows = torch.randn((size, 5), generator=generator) * scale
        targets = rows[:, :2] @ torch.tensor([[1.0, 0.5], [-0.5, 1.0]]) + 0.3
        spec = DataSpec(in_features=5, out_features=2)
        return spec, TableBatch(rows, targets, torch.arange(size))

    # ---- training

    def training_step(self, batch: Sequence[Any], index: int) -> Tensor:
        """Learn a batch; its mean loss afterwards."""
        inputs, targets = batch[0], batch[1]
        if self.with_pictures:
            self._seen = kept([] if index == 0 else self._seen, inputs, targets)
        if self.learns_by == "gradients":
            return super().training_step(batch, index)
        with torch.no_grad():
            here = self._of_all_ranks(Moments.of(self.features(inputs), targets))
            if not here.scatter.isfinite().all():
                raise NonFiniteLossError(
                    f"Batch {index} of the training rows holds a number that is not finite."
                )
            before = None if index == 0 else self.moments
            self.moments = here if before is None else before + here
            self.learn(self.moments, here)
            return super().training_step(batch, index)

    def _of_all_ranks(self, moments: Moments) -> Moments:
        if self.trainer.world_size == 1:
            return moments
        parts: list[Moments] = [moments] * self.trainer.world_size
        torch.distributed.all_gather_object(parts, moments)
        return functools.reduce(operator.add, parts)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the moments of the rows so far in the epoch."""
        super().on_save_checkpoint(checkpoint)
        moments = None if self.moments is None else asdict(self.moments)
        checkpoint["dlarch"]["moments"] = moments

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the moments back in a resumed fit."""
        super().on_load_checkpoint(checkpoint)
        resumed = self._trainer is not None and self.trainer.state.fn == TrainerFn.FITTING
        moments = checkpoint.get("dlarch", {}).get("moments")
        if resumed and moments is not None:
            self.moments = Moments(**moments)

    # ---- validation and test

    def metrics(self, stage: str) -> dict[str, Metric]:
        """Loss and errors; with a predictive distribution its score and its bands."""
        found = super().metrics(stage)
        if type(self).predictive is not ClosedForm.predictive:
            found |= {name: Ratio() for name in ("nll", *BANDS)}
        return found

    def _score(self, batch: Sequence[Any]) -> Tensor:
        outputs = super()._score(batch)
        predictive = self.predictive(batch[0])
        if predictive is not None:
            unit = torch.as_tensor(self._unit(outputs), device=outputs.device)
            nll = -predictive.log_prob(batch[1]) + unit.log()
            self._metrics["nll"].update(nll.sum(), float(len(outputs)))
            distance = (batch[1] - predictive.mean).abs() / predictive.stddev
            for name, share in BANDS.items():
                inside = distance <= NormalDist().inv_cdf((1 + share) / 2)
                self._metrics[name].update(inside.sum(), float(inside.numel()))
        return outputs

    def predict_step(self, batch: Sequence[Any], index: int) -> list[str]:
        """The numbers of each row in their own units, each with its deviation if it is known."""
        predictive = self.predictive(batch[0])
        if predictive is None:
            return super().predict_step(batch, index)
        means, deviations = self._in_units(predictive.mean, predictive.stddev)
        both = np.stack((means, deviations), axis=2).reshape(len(means), -1)
        return ["\t".join(f"{value:.6g}" for value in row) for row in both]

    # ---- what the pictures show

    def pictures(self) -> list[Callback]:
        """Those of numbers."""
        return [NumbersPicture()]

    @torch.no_grad()
    def _predicted(self, inputs: Tensor) -> tuple[Any, Any | None]:
        """Means and deviations of the first target in its own unit."""
        predictive, mean = self.predictive(inputs), self(inputs)
        deviation = torch.zeros_like(mean) if predictive is None else predictive.stddev
        means, deviations = self._in_units(mean, deviation)
        return means[:, 0], None if predictive is None else deviations[:, 0]

    def curve_rows(self) -> tuple[str, Rows]:
        """The training rows of the epoch, which the weights are computed from."""
        return "training rows", self._seen
