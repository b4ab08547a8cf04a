"""The task of a generator that makes examples, and a critic that tells them from real ones."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torchmetrics import Metric

from dlarch.batches import ImageBatch, Modes, TableBatch
from dlarch.callbacks.image_grids import ImageGrids, nearly_square
from dlarch.callbacks.made import ClassShares, PointClouds, Points
from dlarch.errors import OptionError, check_at_least_1
from dlarch.processing import ImageProcessor, TableProcessor
from dlarch.processing.base import label_of
from dlarch.spec import DataSpec
from dlarch.tasks.alternating import Alternating
from dlarch.tasks.base import InitializerCallable, OptimizerCallable, SchedulerCallable
from dlarch.tasks.image_autoencoder import as_bytes
from dlarch.tasks.judged import Judged
from dlarch.tasks.latent import generator_of, noise_of
from dlarch.tasks.made import HighQuality, ModeKL, ModesCovered, SquaredMMD
from dlarch.tasks.metrics import Ratio

COMPARED = 1000
"""Examples of a split, the first ones, whose discrepancy from made ones is measured."""

DRAWN, PER_CLASS = 64, 8
"""Images that are drawn from fixed noise: in all, or of each class."""


class Adversarial(Judged, Alternating):
    """A generator makes examples from noise; a critic learns to tell them from real ones.

    Examples are images, whose pixels both networks see on the scale -1 to 1, or rows of normalised
    numbers. In validation and test as many are made as there are real ones, each from numbers that
    belong to a place in the split, so that nothing depends on how examples are batched.

    There is no validation loss: what the critic says changes its meaning as it learns. The last
    weights are kept; `--monitor val/mmd` chooses by the discrepancy instead.

    Args:
        noise_size: numbers that an example is made from.
        optimizer: of the generator, called with its parameters.
        critic_optimizer: of the critic, likewise.
        critic_steps: of the critic, for each step of the generator.
        ema: how much an average of the generator's weights keeps of itself at each step; it is
            what makes examples outside of training. 0 for none.
        packing: examples that the critic sees at once.
        judge: run folder of a classifier of such images, which scores the images made.
        scheduler: called with each of the two optimizers.
        initializer: of all weights; that of the model when not given.
        pictures: draw examples that are made from fixed noise at each validation.
    """

    batch_type: ClassVar[type | tuple[type, ...]] = (ImageBatch, TableBatch)
    monitor = None
    headline = "test/mmd"

    def __init__(
        self,
        noise_size: int,
        optimizer: OptimizerCallable,
        critic_optimizer: OptimizerCallable,
        critic_steps: int = 1,
        ema: float = 0.0,
        packing: int = 1,
        judge: str | None = None,
        scheduler: SchedulerCallable | None = None,
        initializer: InitializerCallable | None = None,
        pictures: bool = True,
    ) -> None:
        super().__init__(
            judge=judge,
            optimizer=optimizer,
            critic_optimizer=critic_optimizer,
            critic_steps=critic_steps,
            scheduler=scheduler,
            initializer=initializer,
            pictures=pictures,
        )
        check_at_least_1(noise_size=noise_size, packing=packing)
        if not 0 <= ema < 1:
            raise OptionError(f"ema must be from 0 to below 1, not {ema}.")
        self.noise_size, self.ema, self.packing = noise_size, ema, packing
        self.average: nn.Module | None = None
        self.modes: Modes | None = None
        self._points: list[tuple[Tensor, Tensor]] = []
        self._seen = 0

    # ---- what a model defines

    def create(self, generator: nn.Module, noise: Tensor, label: Tensor) -> Tensor:  # noqa: ARG002
        """Make examples of noise (B, Z): images (B, C, H, W), -1 to 1, or rows (B, F).

        Args:
            generator: the model's, or the average of it.
            noise: standard normal numbers.
            label: (B,), the class that each is to be of.
        """
        return self.finished(generator(noise))

    def finished(self, made: Tensor) -> Tensor:
        """What a generator's last layer gives, on the scale of the examples."""
        return made.tanh() if self.makes_images else made

    def rate(self, examples: Tensor, label: Tensor) -> Tensor:  # noqa: ARG002
        """How real the critic takes examples for, (B,)."""
        ratings: Tensor = self.critic(self.packed(examples))
        return ratings.squeeze(1).float()

    @abstractmethod
    def critic_losses(self, real: Tensor, made: Tensor) -> Tensor:
        """What the critic minimises, from its ratings of real and of made examples, each (B,)."""

    @abstractmethod
    def generator_losses(self, made: Tensor) -> Tensor:
        """What the generator minimises, from the ratings of what it has made, (B,)."""

    def penalty(self, real: Tensor, made: Tensor, label: Tensor) -> Tensor | None:  # noqa: ARG002
        """What is added to the critic's loss, one number."""
        return None

    def _build(self, facts: dict[str, Any]) -> None:
        super()._build(facts)
        if self.ema > 0:
            self.average = copy.deepcopy(self.generator).requires_grad_(False)

    @classmethod
    def example(cls, size: int, seed: int) -> tuple[DataSpec, ImageBatch]:
        """A tiny spec and a batch of random images, black and white."""
        generator = torch.Generator().manual_seed(seed)
        images = (torch.rand((size, 1, 16, 24), generator=generator) > 0.5).float()
        spec = DataSpec(image_shape=(1, 16, 24), in_features=384, num_classes=3)
        return spec, ImageBatch(images, torch.arange(size) % 3, torch.arange(size))

    def forward(self, noise: Tensor, label: Tensor | None = None) -> Tensor:
        """Make examples of noise (B, Z): images (B, C, H, W), 0 to 1, or normalised rows (B, F)."""
        if label is None:
            label = torch.arange(len(noise), device=noise.device) % max(self.num_conditions, 1)
        made = self.create(self.maker, noise, label)
        return self._to_unit(made) if self.makes_images else made

    # ---- examples

    @property
    def maker(self) -> nn.Module:
        """The network that makes examples outside of training."""
        return self.generator if self.average is None else self.average

    @property
    def makes_images(self) -> bool:
        """Whether examples are images; else they are rows of numbers."""
        return self.hparams.get("image_shape") is not None

    @property
    def num_conditions(self) -> int:
        """Classes that examples may be asked of; 0 for a model that knows none."""
        return int(self.hparams.get("num_classes") or 0)

    def real_examples(self, batch: Sequence[Any]) -> Tensor:
        """Those of a batch, as the networks see them; without a processor pixels are 0 to 1."""
        examples: Tensor = batch[0]
        if not self.makes_images:
            return examples
        if isinstance(self.processor, ImageProcessor):
            examples = self.processor.to_unit(examples)
        return examples * 2 - 1

    @staticmethod
    def _to_unit(images: Tensor) -> Tensor:
        return ((images + 1) / 2).clamp(0, 1)

    def packed(self, examples: Tensor) -> Tensor:
        """Each example beside the ones after it, (B, m F) or (B, m C, H, W) (1712.04086).

        A batch is in random order, so that those that meet are independent of each other.
        """
        if self.packing == 1:
            return examples
        return torch.cat([examples.roll(-place, 0) for place in range(self.packing)], dim=1)

    def draw_noise(self, count: int) -> Tensor:
        """Standard normal numbers (B, Z), other ones in each process."""
        return self.draw_normal(count, self.noise_size)

    # ---- training

    def training_step(self, batch: Sequence[Any], _: int) -> Tensor:
        """A step of the critic and, when it is due, one of the generator; the critic's loss."""
        real, label = self.real_examples(batch), batch[1]
        loss = self.teach_critic(real, label)
        if self.generator_is_due():
            self.teach_generator(label)
        return loss

    def teach_critic(self, real: Tensor, label: Tensor) -> Tensor:
        """Let the critic tell real examples from fresh ones; gives its loss."""
        count = len(real)
        with self.without_learning():
            made = self.create(self.generator, self.draw_noise(count), label)
        loss = self.critic_losses(self.rate(real, label), self.rate(made, label)).mean()
        self.note_loss("critic_loss", loss, count)
        penalty = self.penalty(real, made, label)
        if penalty is not None:
            self.note_loss("gradient_penalty", penalty, count)
            loss = loss + penalty
        self.take_step(1, loss, count)
        return loss.detach()

    def teach_generator(self, label: Tensor) -> None:
        """Let the generator make what the critic takes for real."""
        count = len(label)
        made = self.create(self.generator, self.draw_noise(count), label)
        loss = self.generator_losses(self.rate(made, label)).mean()
        self.note_loss("generator_loss", loss, count)
        self.take_step(0, loss, count)
        if self.average is not None:
            self._update_average(self.average)

    @torch.no_grad()
    def _update_average(self, average: nn.Module) -> None:
        """Move the average towards the weights: far at first, when they say little."""
        steps = self.trainer.global_step // (self.critic_steps + 1)
        kept = min(self.ema, steps / (steps + 9))
        for own, now in zip(average.parameters(), self.generator.parameters(), strict=True):
            own.lerp_(now, 1 - kept)
        counts = zip(average.buffers(), self.generator.buffers(), strict=True)
        for mine, theirs in counts:  # means and deviations of batch normalisation
            mine.copy_(theirs)

    # ---- validation and test

    def configure_model(self) -> None:
        """Build from the data, fetch the judge, and learn where modes of the data lie."""
        super().configure_model()
        self.modes = getattr(self._trainer_data(), "modes", None)
        if not self._judges:
            self.headline = "test/mmd" if self.modes is None else "test/modes"

    def metrics(self, stage: str) -> dict[str, Metric]:  # noqa: ARG002
        """The discrepancy; coverage of known modes; what a judge says."""
        found: dict[str, Metric] = {"mmd": SquaredMMD()}
        if self.modes is not None:
            found["modes"] = ModesCovered(self.modes)
            found["high_quality"] = HighQuality(self.modes)
            found["mode_kl"] = ModeKL(self.modes)
        found |= self.judge_metrics()
        if self._judges and self.num_conditions:
            found["judge_agreement"] = Ratio()
        return found

    def on_validation_epoch_start(self) -> None:
        """Start the epoch's metrics, and what the pictures show."""
        super().on_validation_epoch_start()
        self._points, self._seen = [], 0

    def on_test_epoch_start(self) -> None:
        """Start the epoch's metrics."""
        super().on_test_epoch_start()
        self._seen = 0

    def validation_step(self, batch: Sequence[Any], _: int) -> None:
        """Make as many examples as there are in the batch, and score them."""
        real, made = self.score(batch)
        room = COMPARED - sum(len(part) for part, _ in self._points)
        if self.with_pictures and not self.makes_images and real.shape[1] == 2 and room > 0:
            self._points.append((real[:room], made[:room]))

    def test_step(self, batch: Sequence[Any], batch_index: int) -> None:  # noqa: ARG002
        """Make as many examples as there are in the batch, and score them."""
        self.score(batch)

    def score(self, batch: Sequence[Any]) -> tuple[Tensor, Tensor]:
        """Score a batch; gives its examples and as many made ones."""
        real, label, example = self.real_examples(batch), batch[1], batch[2]
        count = len(real)
        here = range(self._seen, self._seen + count)
        places = torch.tensor(here) if example is None else example.cpu()
        self._seen += count
        noise = noise_of(places.tolist(), self.noise_size).to(real.device)
        made = self.create(self.maker, noise, label).float()
        first = (places < COMPARED).to(real.device)
        if bool(first.any()):
            self._metrics["mmd"].update(real[first].flatten(1), made[first].flatten(1))
        for name in ("modes", "high_quality", "mode_kl") if self.modes is not None else ():
            self._metrics[name].update(made)
        if self._judges:
            found = self.ask_judge(self._to_unit(real), self._to_unit(made))
            if self.num_conditions:
                self._metrics["judge_agreement"].update((found == label).sum(), float(count))
        return real, made

    # ---- using a trained model

    @torch.inference_mode()
    def generate(
        self, n: int = 1, *, condition: str | None = None, seed: int | None = None
    ) -> list[Any]:
        """Make examples.

        Args:
            n: how many.
            condition: name of the class that they are of, for a model that knows classes; one
                after the other when not given.
            seed: of the draws.

        Returns:
            Of each the pixels (H, W, C), uint8, or its numbers in the units of the data.

        Raises:
            DataError: there is no such class.
            OptionError: the model knows none.
        """
        check_at_least_1(n=n)
        noise = torch.randn((n, self.noise_size), generator=generator_of(seed)).to(self.device)
        label = self._labels(n, condition)
        made = self.evaluated(lambda: self(noise, label))
        if self.makes_images:
            return as_bytes(made)
        if isinstance(self.processor, TableProcessor):
            return self.processor.denormalize(made)
        rows: list[list[float]] = made.tolist()
        return rows

    def _labels(self, count: int, condition: str | None) -> Tensor:
        if condition is None:
            return torch.arange(count, device=self.device) % max(self.num_conditions, 1)
        if not self.num_conditions:
            raise OptionError("The model knows no classes: leave out the condition.")
        names = self._class_names() or [str(label) for label in range(self.num_conditions)]
        return torch.full((count,), label_of(condition, names), device=self.device)

    # ---- what the pictures show

    def pictures(self) -> list[Callback]:
        """Images or points from fixed noise, and the classes that a judge takes them for."""
        return [ImageGrids(), PointClouds(), ClassShares()]

    def made_images(self) -> dict[str, Tensor]:
        """Images from the same noise at each call: all kinds, or a row for each class."""
        if not self.makes_images:
            return {}
        classes = self.num_conditions
        count = PER_CLASS * classes or DRAWN
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn((count, self.noise_size), generator=generator).to(self.device)
        label = torch.arange(count, device=self.device) // PER_CLASS
        images = self.evaluated(lambda: self(noise, label))
        rows = images.unflatten(0, (classes, PER_CLASS)) if classes else nearly_square(images)
        return {"images": rows}

    def made_points(self) -> Points | None:
        """The first points of the last validation, and those made in their places."""
        if not self._points:
            return None
        sets = [torch.cat(part) for part in zip(*self._points, strict=True)]
        axes = ("first number", "second number")
        if isinstance(self.processor, TableProcessor):
            processor = self.processor
            axes = (processor.columns[0], processor.columns[1])
            sets = [torch.tensor(processor.denormalize(part)) for part in sets]
        real, made = (np.asarray(part.float().cpu()) for part in sets)
        return Points(real, made, axes)
