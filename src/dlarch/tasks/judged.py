"""What tasks that make images share: a trained classifier may judge them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from dlarch.callbacks.made import Shares
from dlarch.errors import OptionError
from dlarch.tasks.base import Task
from dlarch.tasks.judge import Judge
from dlarch.tasks.made import ClassifierFrechet, RarestClass
from dlarch.tasks.metrics import Ratio


class Judged(Task):
    """Lets a classifier of such images score those that were made beside real ones.

    Args:
        judge: run folder of the classifier.
        options: of the other task.
    """

    def __init__(self, judge: str | None, **options: Any) -> None:
        super().__init__(**options)
        self.judge_of = judge
        self._judges: list[Judge] = []  # in a list, to be no part of the network
        self._classes: list[Tensor] = []

    def configure_model(self) -> None:
        """Build from the data, and fetch the judge, whose distance then stands in tables.

        Raises:
            OptionError: there are no images to judge.
        """
        super().configure_model()
        if self.judge_of is None or self._judges:
            return
        if self.hparams.get("image_shape") is None:
            raise OptionError("A judge looks at images, the data have none: leave out judge.")
        shape = tuple(self.hparams.image_shape)
        self._judges = [Judge(self.judge_of, shape, self._class_names())]
        self.headline = "test/frechet_classifier"

    def judge_metrics(self) -> dict[str, Metric]:
        """What the judge says; nothing without one."""
        if not self._judges:
            return {}
        return {
            "frechet_classifier": ClassifierFrechet(),
            "judge_confidence": Ratio(),
            "rarest_class": RarestClass(len(self._judges[0].class_names)),
        }

    def on_validation_epoch_start(self) -> None:
        """Start the epoch's metrics, and the shares of classes."""
        super().on_validation_epoch_start()
        classes = len(self._judges[0].class_names) if self._judges else 0
        self._classes = [torch.zeros(2, classes, device=self.device)] if classes else []

    def on_test_epoch_start(self) -> None:
        """Start the epoch's metrics."""
        super().on_test_epoch_start()
        self._classes = []

    def ask_judge(self, real: Tensor, made: Tensor) -> Tensor:
        """Score made images beside real ones, each (B, C, H, W), 0 to 1.

        Returns:
            (B,), the classes that made ones are taken for.
        """
        judge = self._judges[0]
        true, fake = judge.see(real), judge.see(made)
        sure, found = fake.probabilities.max(1)
        self._metrics["frechet_classifier"].update(true.features, fake.features)
        self._metrics["judge_confidence"].update(sure.sum(), float(len(found)))
        self._metrics["rarest_class"].update(found)
        for place, labels in enumerate((true.probabilities.argmax(1), found)):
            for counts in self._classes:
                counts[place] += labels.bincount(minlength=counts.shape[1])
        return found

    def class_shares(self) -> Shares | None:
        """What the judge took real and made images of the last validation for."""
        if not self._classes:
            return None
        counts = self._classes[0]
        real, made = (counts / counts.sum(1, keepdim=True)).tolist()
        return Shares(real, made, self._judges[0].class_names)

    def _class_names(self) -> list[str]:
        return list(getattr(self.processor, "class_names", None) or [])
