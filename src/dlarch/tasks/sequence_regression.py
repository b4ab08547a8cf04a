"""The task of predicting numbers from sequences of numbers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torchmetrics import Metric

from dlarch.batches import SequenceBatch
from dlarch.callbacks.forecasts import Forecast, ForecastPicture
from dlarch.callbacks.numbers import NumbersPicture
from dlarch.callbacks.through_time import GradientThroughTime
from dlarch.processing import SequenceProcessor
from dlarch.spec import DataSpec
from dlarch.tasks.metrics import Ratio
from dlarch.tasks.supervised import Supervised, kept


class SequenceRegressor(Supervised):
    """Predict numbers at the end of a sequence, or after each of its steps, as the data ask.

    With as many outputs as inputs and a target after each step, which is the next input then, the
    model can also run freely: in validation and test it reads the first half of a sequence, and
    continues it by reading its own predictions. `free_mse` is the mean squared error of these.
    """

    batch_type = SequenceBatch
    reads = SequenceProcessor
    headline = "test/rmse"

    @abstractmethod
    def forward(self, sequence: Tensor) -> Tensor:
        """Sequences (B, T, F) to numbers (B, T, O) after each step."""

    @abstractmethod
    def free_run(self, sequence: Tensor, steps: int) -> Tensor:
        """Read sequences (B, T, F), and continue them: (B, steps, F)."""

    @classmethod
    def example(cls, size: int, seed: int) -> tuple[DataSpec, SequenceBatch]:
        """A tiny spec and a batch of waves, to be predicted after each step."""
        generator = torch.Generator().manual_seed(seed)
        slopes = torch.rand((size, 1, 2), generator=generator) + 0.2
        waves = (slopes * torch.arange(9.0)[:, None] + 6 * slopes.flip(-1)).sin()
        spec = DataSpec(in_features=2, out_features=2)
        return spec, SequenceBatch(waves[:, :-1], waves[:, 1:], torch.arange(size))

    def answers(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Numbers after each step or at the end, as the targets are."""
        numbers = super().answers(inputs, targets)
        return numbers if targets.dim() == 3 else numbers[:, -1]

    # ---- validation and test

    @property
    def runs_freely(self) -> bool:
        """Whether outputs may be read as inputs."""
        return bool(self.hparams.in_features == self.hparams.out_features)

    def metrics(self, stage: str) -> dict[str, Metric]:
        """Loss and errors; where outputs may be read as inputs, the error of the free run."""
        return super().metrics(stage) | ({"free_mse": Ratio()} if self.runs_freely else {})

    def _score(self, batch: Sequence[Any]) -> Tensor:
        outputs = super()._score(batch)
        sequence, targets = batch[0], batch[1]
        if self.runs_freely and targets.dim() == 3 and sequence.shape[1] > 1:
            free, truth = self._continued(sequence)
            error = (free - truth) * self._unit(free)
            self._metrics["free_mse"].update(error.square().sum(), float(error.numel()))
        return outputs

    def _continued(self, sequence: Tensor) -> tuple[Tensor, Tensor]:
        """The second half of sequences as the model continues the first, and as it is."""
        half = sequence.shape[1] // 2
        truth = sequence[:, half:]
        return self.free_run(sequence[:, :half], truth.shape[1]).float(), truth

    def _log_metrics(self, stage: str) -> None:
        if "free_mse" in self._metrics and not self._metrics["free_mse"].count:
            del self._metrics["free_mse"]  # the targets are not the next inputs
        super()._log_metrics(stage)

    def validation_step(self, batch: Sequence[Any], _: int) -> None:
        """Score a batch; keep what the pictures show of it."""
        self._score(batch)
        if self.with_pictures:
            targets = batch[1] if batch[1].dim() == 2 else batch[1][:, -1]
            self._scored = kept(self._scored, batch[0], targets)

    def predict_step(self, batch: Sequence[Any], _: int) -> list[str]:
        """The numbers at the end of each sequence, in their own units."""
        return self._as_text(self(batch[0])[:, -1])

    # ---- what the pictures show

    def pictures(self) -> list[Callback]:
        """Predictions beside the truth, free runs, and the gradient by time step."""
        return [NumbersPicture(), ForecastPicture(), GradientThroughTime()]

    @torch.no_grad()
    def _predicted(self, inputs: Tensor) -> tuple[Any, Any | None]:
        """The first number at the end of each sequence, in its own unit."""
        numbers = self(inputs)[:, -1]
        return self._in_units(numbers, torch.zeros_like(numbers))[0][:, 0], None

    def forecasts(self, count: int) -> list[Forecast]:
        """The first validation sequences, read in their first half and continued."""
        if not self._scored or not self.runs_freely:
            return []
        sequence = self._scored[0][0][:count]
        half = sequence.shape[1] // 2
        free, _ = self._continued(sequence)
        parts = (
            [self._in_units(row, torch.zeros_like(row))[0][:, 0] for row in part]
            for part in (sequence, self(sequence[:, :half]), free)
        )
        name = self._names()[0]
        return [Forecast(name, *rows) for rows in zip(*parts, strict=True)]
