"""The task of images with a latent code: a prior, a posterior, and a bound on the likelihood."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from dlarch.batches import ImageBatch
from dlarch.callbacks.image_grids import nearly_square
from dlarch.errors import check_at_least_1
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
from dlarch.tasks.image_autoencoder import SHOWN, ImageAutoencoder, as_bytes
from dlarch.tasks.latent import Bound, Posterior, noise_of
from dlarch.tasks.metrics import ActiveUnits, Ratio

DRAWN = 64
"""Images that are drawn from the prior."""

AT_ONCE = 20_000
"""Codes that are scored at a time by importance sampling."""

TRAVERSED, REACH = 10, 3.0
"""Dimensions of the code that are traversed, and how far, in standard deviations of the prior."""


class LatentImages(ImageAutoencoder):
    """Images whose codes have a standard normal prior, by the evidence lower bound.

    All is in nats per image. Validation and test draw the code of each image from numbers that
    belong to its place in the split, so that nothing depends on how images are batched.

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
        self.headline = f"test/nll_is{importance_samples}"

    # ---- what a model defines

    @abstractmethod
    def posterior(self, image: Tensor) -> Posterior:
        """What is thought of the codes of images (B, C, H, W), 0 to 1."""

    @abstractmethod
    def output(self, code: Tensor) -> Tensor:
        """What the decoder says of each pixel, (B, C, H, W): logits, or means."""

    def objective(self, bound: Bound) -> Tensor:
        """What is minimised of each image, (B,): the bound, its divergence weighted."""
        return bound.reconstruction + self.kl_weight() * bound.kl.sum(1)

    # ---- the bound

    @property
    def code_size(self) -> int:
        """Dimensions of the code, D."""
        return int(self.hparams.code_size)

    def encode(self, image: Tensor) -> Tensor:
        """The mean codes (B, D) of images (B, C, H, W), 0 to 1."""
        return self.posterior(image).mean

    def decode(self, code: Tensor) -> Tensor:
        """Images (B, C, H, W), 0 to 1, from codes (B, D): probabilities of white, or means."""
        return as_pixels(self.output(code), self.likelihood).clamp(0, 1)

    def nats(self, image: Tensor, code: Tensor) -> Tensor:
        """-log p(image | code) of each image, (B,), summed over its pixels."""
        output = self.output(code).float()
        if self.likelihood == "bernoulli":
            return bernoulli_nll(output, image)
        return gaussian_nll(output, image, self.pixel_log_variance)

    def bound(self, image: Tensor, noise: Tensor) -> Bound:
        """The terms of the bound of images (B, C, H, W), codes drawn by normal noise (B, D)."""
        posterior = self.posterior(image)
        return Bound(self.nats(image, posterior.code(noise)), gaussian_kl(*posterior), posterior)

    # ---- training

    def losses(self, batch: ImageBatch) -> Tensor:
        """The objective of each image, (B,)."""
        image = batch.image
        noise = torch.randn(len(image), self.code_size, device=image.device)
        return self.objective(self.bound(image, noise))

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
        """The negative bound and its terms; in the test the likelihood by importance sampling."""
        found: dict[str, Metric] = {
            "loss": Ratio(),
            "reconstruction": Ratio(),
            "kl": Ratio(),
            "active_units": ActiveUnits(self.code_size),
            "sse": Ratio(),
        }
        if stage == "test":
            found[f"nll_is{self.importance_samples}"] = Ratio()
        return found

    def score(self, batch: ImageBatch) -> Tensor:
        """Score a batch by the bound, and in the test by importance sampling; gives mean codes."""
        image = batch.image
        count = float(len(image))
        name = f"nll_is{self.importance_samples}"
        samples = self.importance_samples if name in self._metrics else 0
        noise = self._noise(batch, 1 + samples)
        reconstruction, kl, posterior = self.bound(image, noise[:, 0])
        self._metrics["loss"].update(reconstruction.sum() + kl.sum(), count)
        self._metrics["reconstruction"].update(reconstruction.sum(), count)
        self._metrics["kl"].update(kl.sum(), count)
        self._metrics["active_units"].update(posterior.mean)
        drawn = self.decode(posterior.mean)
        self._metrics["sse"].update(squared_error(drawn, image).sum(), count)
        if samples:
            nats = self.importance_nll(image, posterior, noise[:, 1:])
            self._metrics[name].update(nats.sum(), count)
        return posterior.mean

    def importance_nll(self, image: Tensor, posterior: Posterior, noise: Tensor) -> Tensor:
        """Estimates (B,) of -log p(image) by K codes of each, from standard normal (B, K, D)."""
        mean, log_variance = posterior
        code = Posterior(mean[:, None], log_variance[:, None]).code(noise)
        parts = []
        for part in code.split(max(1, AT_ONCE // len(image)), dim=1):
            repeated = image.repeat_interleave(part.shape[1], dim=0)
            nats = self.nats(repeated, part.flatten(0, 1))
            parts.append(nats.unflatten(0, part.shape[:2]))
        return importance_nll(-torch.cat(parts, dim=1), code, mean, log_variance)

    def _noise(self, batch: ImageBatch, count: int) -> Tensor:
        size = len(batch.image)
        places = range(size) if batch.example is None else batch.example.tolist()
        return noise_of(places, count, self.code_size).to(batch.image.device)

    # ---- images from the prior

    @torch.inference_mode()
    def generate(self, n: int = 1, *, seed: int | None = None) -> list[Any]:
        """Draw images from codes of the prior.

        Args:
            n: how many.
            seed: of the draws.

        Returns:
            Pixels (H, W, C), uint8, of each.
        """
        check_at_least_1(n=n)
        generator = torch.Generator()
        generator.manual_seed(seed) if seed is not None else generator.seed()
        codes = torch.randn((n, self.code_size), generator=generator).to(self.device)
        return as_bytes(self.evaluated(lambda: self.decode(codes)))

    def _drawn(self, shown: Tensor) -> dict[str, Tensor]:
        found = super()._drawn(shown)
        generator = torch.Generator().manual_seed(0)
        codes = torch.randn((DRAWN, self.code_size), generator=generator).to(shown.device)
        found["images"] = nearly_square(self.decode(codes))
        found["traversals"] = self.traversed(shown[:1])
        return found

    def traversed(self, image: Tensor) -> Tensor:
        """Images (rows, 8, C, H, W): the code of one image (1, C, H, W), one number of it moved.

        A row for each of the dimensions that tell most of the image, from -3 to 3.
        """
        posterior = self.posterior(image)
        told = gaussian_kl(*posterior)[0]
        rows = told.topk(min(TRAVERSED, self.code_size)).indices
        codes = posterior.mean.expand(len(rows), SHOWN, -1).clone()
        values = torch.linspace(-REACH, REACH, SHOWN, device=codes.device)
        for place, dimension in enumerate(rows.tolist()):
            codes[place, :, dimension] = values
        drawn: Tensor = self.decode(codes.flatten(0, 1)).unflatten(0, codes.shape[:2])
        return drawn
