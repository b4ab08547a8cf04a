"""The task of images with a latent code: a prior, a posterior, and a bound on the likelihood."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from dlarch.batches import ImageBatch
from dlarch.callbacks.image_grids import nearly_square
from dlarch.errors import OptionError, check_at_least_1
from dlarch.nn import (
    Likelihood,
    as_pixels,
    bernoulli_nll,
    gaussian_kl,
    gaussian_nll,
    importance_nll,
    squared_error,
)
from dlarch.tasks.annealing import Annealing
from dlarch.tasks.base import InitializerCallable, OptimizerCallable, SchedulerCallable
from dlarch.tasks.disentanglement import MutualInformationGap
from dlarch.tasks.examples import training_batches
from dlarch.tasks.image_autoencoder import SHOWN, ImageAutoencoder, as_bytes, lines
from dlarch.tasks.latent import Bound, Posterior, generator_of, noise_of, walked
from dlarch.tasks.metrics import ActiveUnits, Ratio

SMALLEST = 1e-3
"""Mean of a pixel that training begins with, at least, and at most below 1."""

DRAWN = 64
"""Images that are drawn from the prior."""

AT_ONCE, AT_ONCE_ON_DEVICE = 2**20, 2**26
"""Pixels that are scored at a time by importance sampling: as many as a CPU's cache holds."""

MOST_CLASSES = 10
"""Classes of which images are drawn, the first ones."""

TRAVERSED, REACH = 10, 3.0
"""Dimensions of the code that are traversed, and how far, in standard deviations of the prior."""


class LatentImages(ImageAutoencoder):
    """Images whose codes have a standard normal prior, by the evidence lower bound.

    All is in nats per image. Validation and test draw the code of each image from numbers that
    belong to its place in the split, so that nothing depends on how images are batched.

    A model may be told the class of an image (`label`); it then is one of p(image | class).

    Args:
        likelihood: of pixels, `bernoulli` or `gaussian` with one learned variance.
        importance_samples: codes that are drawn for each image of the test.
        annealing: how the weight of the divergence rises in training.
        optimizer: called with the parameters.
        scheduler: called with the optimizer.
        initializer: of the weights; that of the model when not given.
        pictures: draw reconstructions, samples, traversals, interpolations and codes.
    """

    pixel_log_variance: Tensor
    """Of a Gaussian likelihood; the model makes it."""

    def __init__(
        self,
        likelihood: Likelihood,
        importance_samples: int,
        optimizer: OptimizerCallable,
        annealing: Annealing | None = None,
        scheduler: SchedulerCallable | None = None,
        initializer: InitializerCallable | None = None,
        pictures: bool = True,
    ) -> None:
        super().__init__(
            optimizer=optimizer, scheduler=scheduler, pictures=pictures, initializer=initializer
        )
        check_at_least_1(importance_samples=importance_samples)
        self.likelihood: Likelihood = likelihood
        self.importance_samples = importance_samples
        self.annealing = (annealing or Annealing()).checked()
        self.knows_factors = False
        self.headline = f"test/nll_is{importance_samples}"

    def setup(self, stage: str) -> None:
        """Ask the data whether the factors behind their images are known."""
        super().setup(stage)
        self.knows_factors = bool(getattr(self._trainer_data(), "factor_names", ()))

    # ---- what a model defines

    @abstractmethod
    def posterior(self, image: Tensor, label: Tensor | None = None) -> Posterior:
        """What is thought of the codes of images (B, C, H, W), 0 to 1, of classes (B,)."""

    @abstractmethod
    def output(self, code: Tensor, label: Tensor | None = None) -> Tensor:
        """What the decoder says of each pixel, (B, C, H, W): logits, or means."""

    def objective(self, bound: Bound) -> Tensor:
        """What is minimised of each image, (B,): the bound, its divergence weighted."""
        return bound.reconstruction + self.kl_weight() * bound.kl.sum(1)

    def output_bias(self) -> Tensor | None:
        """What is added to `output`, (C H W) or (C,); None if nothing is to begin at the mean."""
        return None

    # ---- the mean image, where training begins

    def on_train_start(self) -> None:
        """Let a decoder that has not been trained begin at the mean image.

        Else hundreds of steps would teach it that, and the code to be silent meanwhile.
        """
        super().on_train_start()
        bias = self.output_bias()
        if bias is not None and not bias.any():
            mean = self._mean_image()
            mean = mean.flatten() if len(bias) == mean.numel() else mean.mean((1, 2))
            mean = mean.clamp(SMALLEST, 1 - SMALLEST)
            with torch.no_grad():
                bias.copy_(mean.logit() if self.likelihood == "bernoulli" else mean)

    @torch.no_grad()
    def _mean_image(self) -> Tensor:
        """Of all training images, (C, H, W), 0 to 1."""
        total, count = torch.zeros((), device=self.device), torch.zeros((), device=self.device)
        for batch in training_batches(self.trainer):
            images = self.as_unit(batch).image
            total, count = total + images.sum(0), count + len(images)
        reduce = self.trainer.strategy.reduce
        mean: Tensor = reduce(total, reduce_op="sum") / reduce(count, reduce_op="sum")
        return mean

    # ---- classes that the model is told

    @property
    def told_classes(self) -> int:
        """How many classes the model is told apart; 0 if it is told none."""
        return 0

    def labels_of(self, batch: ImageBatch) -> Tensor | None:
        """The classes (B,) of a batch, where the model is told them."""
        return batch.label if self.told_classes else None

    # ---- the bound

    @property
    def code_size(self) -> int:
        """Dimensions of the code, D."""
        return int(self.hparams.code_size)

    def encode(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        """The mean codes (B, D) of images (B, C, H, W), 0 to 1."""
        return self.posterior(image, label).mean

    def decode(self, code: Tensor, label: Tensor | None = None) -> Tensor:
        """Images (B, C, H, W), 0 to 1, from codes (B, D): probabilities of white, or means."""
        return as_pixels(self.output(code, label), self.likelihood).clamp(0, 1)

    def nats(self, image: Tensor, code: Tensor, label: Tensor | None = None) -> Tensor:
        """-log p(image | code) of each image, (B,), summed over its pixels."""
        output = self.output(code, label).float()
        if self.likelihood == "bernoulli":
            return bernoulli_nll(output, image)
        return gaussian_nll(output, image, self.pixel_log_variance)

    def bound(self, image: Tensor, noise: Tensor, label: Tensor | None = None) -> Bound:
        """The terms of the bound of images (B, C, H, W), codes drawn by normal noise (B, D)."""
        posterior = self.posterior(image, label)
        nats = self.nats(image, posterior.code(noise), label)
        return Bound(nats, gaussian_kl(*posterior), posterior)

    # ---- training

    def losses(self, batch: ImageBatch) -> Tensor:
        """The objective of each image, (B,)."""
        image = batch.image
        noise = torch.randn(len(image), self.code_size, device=image.device)
        return self.objective(self.bound(image, noise, self.labels_of(batch)))

    def kl_weight(self) -> float:
        """What the divergence counts at this step."""
        step = self.trainer.global_step if self._trainer is not None else 0
        return self.annealing.weight(step)

    def on_train_batch_end(self, *arguments: Any) -> None:
        """Log the weight of the divergence beside the loss, where it is not always the same."""
        due = self._log_is_due() and self.annealing.schedule != "none"
        super().on_train_batch_end(*arguments)
        if due:
            weight = self.annealing.weight(self.trainer.global_step - 1)  # of the step just taken
            for logger in self.loggers:
                logger.log_metrics({"train/kl_weight": weight}, step=self.trainer.global_step)

    # ---- validation and test

    def metrics(self, stage: str) -> dict[str, Metric]:
        """The negative bound and its terms; in the test the likelihood by importance sampling.

        Where the factors behind the images are known, also how far the code tells them apart.
        """
        found: dict[str, Metric] = {
            "loss": Ratio(),
            "reconstruction": Ratio(),
            "kl": Ratio(),
            "active_units": ActiveUnits(self.code_size),
            "sse": Ratio(),
        }
        if self.knows_factors:
            found["mig"] = MutualInformationGap()
        if stage == "test":
            found[f"nll_is{self.importance_samples}"] = Ratio()
        return found

    def score(self, batch: ImageBatch) -> Tensor:
        """Score a batch by the bound, and in the test by importance sampling; gives mean codes."""
        image, label = batch.image, self.labels_of(batch)
        count = float(len(image))
        name = f"nll_is{self.importance_samples}"
        samples = self.importance_samples if name in self._metrics else 0
        noise = self._noise(batch, 1 + samples)
        bound = self.bound(image, noise[:, 0], label)
        reconstruction, kl, posterior = bound
        self._metrics["loss"].update(self.negative_bounds(batch, bound).sum(), count)
        self._metrics["reconstruction"].update(reconstruction.sum(), count)
        self._metrics["kl"].update(kl.sum(), count)
        self._metrics["active_units"].update(posterior.mean)
        drawn = self.decode(posterior.mean, label)
        self._metrics["sse"].update(squared_error(drawn, image).sum(), count)
        if samples:
            nats = self.importance_nll(image, posterior, noise[:, 1:], label)
            self._metrics[name].update(nats.sum(), count)
        if "mig" in self._metrics and batch.factors is not None:
            self._metrics["mig"].update(posterior.mean, batch.factors)
        return posterior.mean

    def negative_bounds(self, batch: ImageBatch, bound: Bound) -> Tensor:  # noqa: ARG002
        """The negative bound of each image, (B,): what `val/loss` is the mean of."""
        return bound.reconstruction + bound.kl.sum(1)

    def importance_nll(
        self, image: Tensor, posterior: Posterior, noise: Tensor, label: Tensor | None = None
    ) -> Tensor:
        """Estimates (B,) of -log p(image) by K codes of each, from standard normal (B, K, D)."""
        mean, log_variance = posterior
        each = Posterior(mean[:, None], log_variance[:, None])
        pixels = AT_ONCE if image.device.type == "cpu" else AT_ONCE_ON_DEVICE
        sums = []  # -log of the summed weights of some codes
        for draws in noise.split(max(1, pixels // image.numel()), dim=1):
            code, count = each.code(draws), draws.shape[1]
            repeated = image.repeat_interleave(count, 0)
            labels = None if label is None else label.repeat_interleave(count, 0)
            nats = self.nats(repeated, code.flatten(0, 1), labels).unflatten(0, (-1, count))
            sums.append(importance_nll(-nats, code, mean, log_variance) - math.log(count))
        return math.log(noise.shape[1]) - torch.stack(sums, 1).neg().logsumexp(1)

    def _noise(self, batch: ImageBatch, count: int) -> Tensor:
        size = len(batch.image)
        places = range(size) if batch.example is None else batch.example.tolist()
        return noise_of(places, count, self.code_size).to(batch.image.device)

    # ---- images from the prior

    @torch.inference_mode()
    def generate(
        self, n: int = 1, *, condition: str | None = None, seed: int | None = None
    ) -> list[Any]:
        """Draw images from codes of the prior.

        Args:
            n: how many.
            condition: name of the class that they are of, for a model that is told classes; drawn
                for each when not given.
            seed: of the draws.

        Returns:
            Pixels (H, W, C), uint8, of each.

        Raises:
            OptionError: the model is told no classes, or `n` is below 1.
            DataError: there is no such class.
        """
        check_at_least_1(n=n)
        generator = generator_of(seed)
        codes = torch.randn((n, self.code_size), generator=generator)
        return self._pixels(codes, self._labels(n, condition, generator))

    @torch.inference_mode()
    def walk(
        self,
        stops: int = 8,
        *,
        steps: int = 16,
        condition: str | None = None,
        seed: int | None = None,
    ) -> list[Any]:
        """Draw images on the way through codes of the prior, and back to the first.

        Args:
            stops: codes that are passed.
            steps: images from each to the next one.
            condition: name of the class, as for `generate`; one for all images.
            seed: of the codes.

        Returns:
            Pixels (H, W, C), uint8, of `stops * steps` images.

        Raises:
            OptionError: the model is told no classes, or a number is below 1.
            DataError: there is no such class.
        """
        check_at_least_1(stops=stops, steps=steps)
        generator = generator_of(seed)
        codes = walked(torch.randn((stops, self.code_size), generator=generator), steps)
        label = self._labels(1, condition, generator)
        return self._pixels(codes, None if label is None else label.expand(len(codes)))

    def _labels(
        self, count: int, condition: str | None, generator: torch.Generator
    ) -> Tensor | None:
        """The classes of images that are to be drawn."""
        if not self.told_classes:
            if condition is not None:
                raise OptionError("The model knows no classes: leave out the condition.")
            return None
        if condition is None:
            return torch.randint(0, self.told_classes, (count,), generator=generator)
        return torch.full((count,), self._own_processor().label(condition))

    def _pixels(self, codes: Tensor, labels: Tensor | None) -> list[Any]:
        parts = []
        for place in range(0, len(codes), DRAWN):
            rows = slice(place, place + DRAWN)
            label = None if labels is None else labels[rows].to(self.device)
            code = codes[rows].to(self.device)
            parts += as_bytes(self.evaluated(lambda: self.decode(code, label)))  # noqa: B023
        return parts

    # ---- what the pictures show

    def _drawn(self, shown: Tensor) -> dict[str, Tensor]:
        labels = torch.tensor(self.shown_labels(), device=shown.device)
        label = labels if self.told_classes else None
        codes = self.encode(shown, label)
        found = {"reconstructions": torch.stack((shown, self.decode(codes, label)))}
        if len(codes) >= 2:
            even = len(codes) // 2 * 2
            found["interpolations"] = self.between(
                codes[:even], None if label is None else label[:even]
            )
        found["images"] = self._prior_images(shown.device)
        found["traversals"] = self.traversed(shown[:1], None if label is None else label[:1])
        return found

    def _prior_images(self, device: torch.device) -> Tensor:
        """Images (rows, columns, C, H, W) of fixed codes; with classes a row of each."""
        generator = torch.Generator().manual_seed(0)
        codes = torch.randn((DRAWN, self.code_size), generator=generator).to(device)
        if not self.told_classes:
            return nearly_square(self.decode(codes))
        classes = torch.arange(min(self.told_classes, MOST_CLASSES), device=device)
        rows = codes[:SHOWN].repeat(len(classes), 1)
        drawn: Tensor = self.decode(rows, classes.repeat_interleave(SHOWN)).unflatten(
            0, (-1, SHOWN)
        )
        return drawn

    def between(self, codes: Tensor, label: Tensor | None = None) -> Tensor:
        """Images (rows, 8, C, H, W) on the lines from each even code to the next, as of its class.

        Args:
            codes: (B, D).
            label: (B,) classes, for a model that is told them.
        """
        ways = lines(codes)
        each = None if label is None else label[0::2].repeat_interleave(ways.shape[1])
        drawn: Tensor = self.decode(ways.flatten(0, 1), each).unflatten(0, ways.shape[:2])
        return drawn

    def traversed(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        """Images (rows, 8, C, H, W): the code of one image (1, C, H, W), one number of it moved.

        A row for each of the dimensions that tell most of the image, from -3 to 3.
        """
        posterior = self.posterior(image, label)
        told = gaussian_kl(*posterior)[0]
        rows = told.topk(min(TRAVERSED, self.code_size)).indices
        codes = posterior.mean.expand(len(rows), SHOWN, -1).clone()
        values = torch.linspace(-REACH, REACH, SHOWN, device=codes.device)
        for place, dimension in enumerate(rows.tolist()):
            codes[place, :, dimension] = values
        each = None if label is None else label.expand(codes[..., 0].numel())
        drawn: Tensor = self.decode(codes.flatten(0, 1), each).unflatten(0, codes.shape[:2])
        return drawn
