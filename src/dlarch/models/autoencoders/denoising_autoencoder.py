"""Denoising autoencoder: it sees an image through noise, and must draw the clean one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import torch
from torch import Tensor, optim
from torchmetrics import Metric

from dlarch.batches import ImageBatch
from dlarch.errors import OptionError
from dlarch.models.autoencoders.autoencoder import Autoencoder
from dlarch.nn import Activation, Corruption, Likelihood, corrupted, squared_error
from dlarch.registry import register_model
from dlarch.tasks import (
    InitializerCallable,
    OptimizerCallable,
    Ratio,
    SchedulerCallable,
    noise_of,
)


@register_model("denoising_autoencoder")
class DenoisingAutoencoder(Autoencoder):
    r"""Hide a part of an image, or add noise to it, and let the network draw what was there.

    The layers are those of `autoencoder`. What they are asked for is another thing: the input is
    drawn from $q(\tilde x | x)$, and the loss compares with the clean image,

    $$\min_{f, g} \; E_{q(\tilde x | x)} \; \ell \big( x, g(f(\tilde x)) \big)$$

    with squared errors or cross-entropy. To copy is of no use, so the code may have more numbers
    than the image has pixels: its units find what goes together in images. With Gaussian noise and
    squared errors, $g(f(\tilde x)) - \tilde x$ points to where images are more probable. Noise is
    in training alone, and in the metrics that say how much of it is taken away.

    Shapes: image (B, C, H, W) -> noisy image (B, C, H, W) -> code (B, D) -> image (B, C, H, W).

    P. Vincent et al. (2010), Stacked denoising autoencoders.

    Differences from the paper: (1) trained as a whole, not layer by layer; (2) the decoder has
    weights of its own, not those of the encoder; (3) ReLU for logistic units; (4) Adam.

    Expected: test/denoised_mse 0.025 of digits, test/noisy_mse 0.073 (seed 1),
    `dlarch fit --config recipes/denoising_autoencoder.yaml`; see
    docs/models/denoising_autoencoder.md.

    Args:
        image_shape: (C, H, W). Taken from the data when not given.
        code_size: units that see the image, D.
        hidden_sizes: widths of the encoder before them; the decoder mirrors them.
        activation: of the hidden layers.
        code_activation: of the code.
        noise: "gaussian", "salt_and_pepper" (pixels turn black or white) or "masking" (black).
        amount: the noise's deviation on the scale from black 0 to white 1, or the share of pixels.
        likelihood: what the loss takes pixels for, "gaussian" (squared errors) or "bernoulli"
            (cross-entropy).
        optimizer: called with the parameters.
        scheduler: called with the optimizer; steps after each optimizer step.
        initializer: of all weights; by the activation when not given.
        pictures: draw reconstructions, denoised images, interpolations and codes.
    """

    headline = "test/denoised_mse"

    def __init__(
        self,
        image_shape: tuple[int, int, int] | None = None,
        code_size: int = 500,
        hidden_sizes: Sequence[int] = (),
        activation: Activation = "relu",
        code_activation: Activation = "relu",
        noise: Corruption = "masking",
        amount: float = 0.3,
        likelihood: Likelihood = "bernoulli",
        optimizer: OptimizerCallable = lambda parameters: optim.Adam(parameters, lr=1e-3),
        scheduler: SchedulerCallable | None = None,
        initializer: InitializerCallable | None = None,
        pictures: bool = True,
    ) -> None:
        if noise not in (known := get_args(Corruption)):
            raise OptionError(f"noise must be one of {', '.join(known)}, not {noise!r}.")
        if amount < 0 or (noise != "gaussian" and amount > 1):
            raise OptionError(
                f"amount must be a share of the pixels, 0 to 1, or with gaussian noise a deviation "
                f"of at least 0, not {amount}."
            )
        super().__init__(
            image_shape=image_shape,
            code_size=code_size,
            hidden_sizes=hidden_sizes,
            activation=activation,
            code_activation=code_activation,
            likelihood=likelihood,
            optimizer=optimizer,
            scheduler=scheduler,
            initializer=initializer,
            pictures=pictures,
        )

    def noisy(self, image: Tensor, normal: Tensor) -> Tensor:
        """Images (B, C, H, W) with noise that is made of standard normal numbers, as many."""
        return corrupted(image, normal, self.hparams.noise, self.hparams.amount)

    def losses(self, batch: ImageBatch) -> Tensor:
        """What is lost of each clean image, (B,), when it is seen through fresh noise."""
        image = batch.image
        return self.lost(self.encode(self.noisy(image, torch.randn_like(image))), image)

    # ---- how much of the noise is taken away

    def metrics(self, stage: str) -> dict[str, Metric]:
        """Those of autoencoders, and squared errors of a pixel before and after."""
        return super().metrics(stage) | {"noisy_mse": Ratio(), "denoised_mse": Ratio()}

    def score(self, batch: ImageBatch) -> Tensor:
        """Score a batch through noise of each image's own, the same each time; gives clean codes.

        `sse` is of images that were seen without noise.
        """
        image = batch.image
        count, pixels = float(len(image)), float(image.numel())
        places = range(len(image)) if batch.example is None else batch.example.tolist()
        noisy = self.noisy(image, noise_of(places, *image.shape[1:]).to(image))
        code = self.encode(noisy)
        clean = self.encode(image)
        errors = {
            "noisy_mse": squared_error(noisy, image),
            "denoised_mse": squared_error(self.decode(code), image),
        }
        for name, error in errors.items():
            self._metrics[name].update(error.sum(), pixels)
        self._metrics["loss"].update(self.lost(code, image).sum(), count)
        self._metrics["sse"].update(squared_error(self.decode(clean), image).sum(), count)
        return clean

    @torch.inference_mode()
    def denoise(self, image: Tensor) -> Tensor:
        """Clean images (B, C, H, W), 0 to 1, from noisy ones."""
        clean: Tensor = self.evaluated(lambda: self(image))
        return clean

    def _drawn(self, shown: Tensor) -> dict[str, Tensor]:
        found = super()._drawn(shown)
        noisy = self.noisy(shown, noise_of(range(len(shown)), *shown.shape[1:]).to(shown))
        found["denoised"] = torch.stack((shown, noisy.clamp(0, 1), self(noisy)))
        return found
