"""The task of an autoencoder of images that plays against a critic, so that drawn codes decode."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torchmetrics import Metric

from dlarch.batches import ImageBatch
from dlarch.callbacks.image_grids import nearly_square
from dlarch.callbacks.made import ClassShares
from dlarch.errors import OptionError, check_at_least_1
from dlarch.nn import squared_error
from dlarch.tasks.alternating import Alternating
from dlarch.tasks.base import InitializerCallable, OptimizerCallable, SchedulerCallable
from dlarch.tasks.image_autoencoder import ImageAutoencoder, as_bytes
from dlarch.tasks.judged import Judged
from dlarch.tasks.latent import generator_of, noise_of, walked
from dlarch.tasks.made import SquaredMMD
from dlarch.tasks.metrics import Ratio

COMPARED = 1000
"""Images of a split, the first ones, whose codes and pixels are compared with drawn ones."""

DRAWN = 64
"""Images that are drawn from codes of the prior."""


class AutoencoderWithCritic(Judged, Alternating, ImageAutoencoder):
    """Squeeze an image into a code, draw it again, and be watched by a critic meanwhile.

    Encoder and decoder have one optimizer, the critic one of its own. What the critic tells apart,
    codes or images, is the model's affair; in the end codes of images should lie as those of a
    prior do, so that the decoder makes new images of drawn ones. In validation and test as many are
    drawn as there are images, each from numbers that belong to a place in the split, so that
    nothing depends on how images are batched.

    What the critic says changes its meaning as it learns, so that no loss chooses a checkpoint: the
    last weights are kept. `--monitor val/code_mmd` chooses by the codes instead.

    Args:
        optimizer: of encoder and decoder, called with their parameters.
        critic_optimizer: of the critic, called with its parameters.
        critic_steps: of the critic, for each step of encoder and decoder.
        judge: run folder of a classifier of such images, which scores the images drawn.
        scheduler: called with each of the two optimizers.
        initializer: of all weights; that of the model when not given.
        pictures: draw reconstructions, new images, interpolations and codes at each validation.
    """

    monitor = None
    headline = "test/code_mmd"

    encoder: nn.Module
    decoder: nn.Module

    def __init__(
        self,
        optimizer: OptimizerCallable,
        critic_optimizer: OptimizerCallable,
        critic_steps: int = 1,
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

    # ---- what a model defines

    @abstractmethod
    def drawn_codes(self, image: Tensor, noise: Tensor) -> Tensor:
        """Codes (B, D) of images (B, C, H, W) that are to lie as the prior does.

        Args:
            image: 0 to 1.
            noise: standard normal numbers (B, D), for a model whose codes are drawn.
        """

    def prior(self, noise: Tensor) -> Tensor:
        """Codes of the prior, of standard normal numbers, both (B, D)."""
        return noise

    def encoding_parameters(self) -> list[nn.Parameter]:
        """Those that a code depends on."""
        return list(self.encoder.parameters())

    # ---- training

    @property
    def code_size(self) -> int:
        """Dimensions of the code, D."""
        return int(self.hparams.code_size)

    def learners(self, place: int) -> list[nn.Parameter]:
        """What an optimizer changes: that of encoder and decoder (0) or that of the critic (1)."""
        if place:
            return list(self.critic.parameters())
        return [*self.encoding_parameters(), *self.decoder.parameters()]

    # ---- validation and test

    def metrics(self, stage: str) -> dict[str, Metric]:  # noqa: ARG002
        """Squared errors; how far codes are from the prior, and drawn images from real ones."""
        found: dict[str, Metric] = {"sse": Ratio(), "mmd": SquaredMMD(), "code_mmd": SquaredMMD()}
        return found | self.judge_metrics()

    def score(self, batch: ImageBatch) -> Tensor:
        """Score a batch, and as many images that are drawn; gives its codes."""
        image, code = batch.image, self.encode(batch.image)
        noise = self._noise(batch)
        drawn, prior = self.drawn_codes(image, noise[:, 0]), self.prior(noise[:, 1])
        made = self.decode(prior)
        count = float(len(image))
        self._metrics["sse"].update(squared_error(self.decode(code), image).sum(), count)
        first = self._places(batch) < COMPARED
        if bool(first.any()):
            self._metrics["mmd"].update(image[first].flatten(1), made[first].flatten(1))
            # The prior gives the widths of the kernel: the same for all models.
            self._metrics["code_mmd"].update(prior[first], drawn[first])
        if self._judges:
            self.ask_judge(image, made)
        return code

    def _places(self, batch: ImageBatch) -> Tensor:
        if batch.example is not None:
            return batch.example
        return torch.arange(len(batch.image), device=batch.image.device)

    def _noise(self, batch: ImageBatch) -> Tensor:
        """Standard normal numbers (B, 2, D): for the code of an image, and for a drawn one."""
        noise = noise_of(self._places(batch).tolist(), 2, self.code_size)
        return noise.to(batch.image.device)

    # ---- images from the prior

    @torch.inference_mode()
    def generate(
        self, n: int = 1, *, condition: str | None = None, seed: int | None = None
    ) -> list[Any]:
        """Draw images from codes of the prior.

        Args:
            n: how many.
            condition: none; the model knows no classes.
            seed: of the draws.

        Returns:
            Pixels (H, W, C), uint8, of each.

        Raises:
            OptionError: a class is asked for, or `n` is below 1.
        """
        check_at_least_1(n=n)
        self._refuse_classes(condition)
        return self._pixels(torch.randn((n, self.code_size), generator=generator_of(seed)))

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
            condition: none; the model knows no classes.
            seed: of the codes.

        Returns:
            Pixels (H, W, C), uint8, of `stops * steps` images.

        Raises:
            OptionError: a class is asked for, or a number is below 1.
        """
        check_at_least_1(stops=stops, steps=steps)
        self._refuse_classes(condition)
        noise = torch.randn((stops, self.code_size), generator=generator_of(seed))
        return self._pixels(walked(noise, steps))

    @staticmethod
    def _refuse_classes(condition: str | None) -> None:
        if condition is not None:
            raise OptionError("The model knows no classes: leave out the condition.")

    def _pixels(self, noise: Tensor) -> list[Any]:
        parts = []
        for rows in noise.to(self.device).split(DRAWN):
            parts += as_bytes(self.evaluated(lambda: self.decode(self.prior(rows))))  # noqa: B023
        return parts

    # ---- what the pictures show

    def pictures(self) -> list[Callback]:
        """Images that are drawn from codes, where codes lie, and what a judge takes images for."""
        return [*super().pictures(), ClassShares()]

    def _drawn(self, shown: Tensor) -> dict[str, Tensor]:
        noise = torch.randn((DRAWN, self.code_size), generator=torch.Generator().manual_seed(0))
        images = nearly_square(self.decode(self.prior(noise.to(shown.device))))
        return super()._drawn(shown) | {"images": images}
