"""Autoencoder: a network that must draw its input again from a few numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn, optim

from dlarch.batches import ImageBatch
from dlarch.nn import (
    Activation,
    Likelihood,
    as_pixels,
    bernoulli_nll,
    default_initializer,
    dense_stack,
    initialize,
    make_activation,
    squared_error,
    units_before,
)
from dlarch.registry import register_model
from dlarch.tasks import (
    ImageAutoencoder,
    InitializerCallable,
    OptimizerCallable,
    SchedulerCallable,
)


@register_model("autoencoder")
class Autoencoder(ImageAutoencoder):
    r"""Squeeze an image through a bottleneck, and draw it again from what has passed.

    Encoder f and decoder g are stacks of layers that mirror each other. The code z = f(x) has no
    activation unless one is given, so that it may lie anywhere. Minimises, averaged over images,

    $$\sum_i (x_i - \hat x_i)^2 \quad \text{or} \quad
      -\sum_i x_i \log \hat x_i + (1 - x_i) \log (1 - \hat x_i), \qquad \hat x = g(f(x))$$

    summed over pixels: the negative log-likelihood of pixels with Gaussian noise of one variance,
    up to scale and constant, or of pixels that are white with probability $\hat x$. With linear
    layers and squared errors the best code spans the principal components.

    Shapes: image (B, C, H, W) -> code (B, D) -> image (B, C, H, W).

    Differences from the paper: (1) trained as a whole from random weights, not layer by layer as
    restricted Boltzmann machines; (2) ReLU instead of logistic units; (3) Adam instead of
    conjugate gradients.

    Expected: test/sse 0.893 on digits (seed 1), `dlarch fit --config recipes/autoencoder.yaml`;
    see docs/models/autoencoder.md.

    Args:
        image_shape: (C, H, W). Taken from the data when not given.
        code_size: numbers that are left of an image, D.
        hidden_sizes: widths of the encoder; the decoder mirrors them.
        activation: of the hidden layers.
        code_activation: of the code.
        likelihood: what the loss takes pixels for, "gaussian" (squared errors) or "bernoulli"
            (cross-entropy).
        optimizer: called with the parameters.
        scheduler: called with the optimizer; steps after each optimizer step.
        initializer: of all weights; by the activation when not given.
        pictures: draw reconstructions, interpolations and codes at each validation.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int] | None = None,
        code_size: int = 30,
        hidden_sizes: Sequence[int] = (1000, 500, 250),
        activation: Activation = "relu",
        code_activation: Activation = "identity",
        likelihood: Likelihood = "bernoulli",
        optimizer: OptimizerCallable = lambda parameters: optim.Adam(parameters, lr=1e-3),
        scheduler: SchedulerCallable | None = None,
        initializer: InitializerCallable | None = None,
        pictures: bool = True,
    ) -> None:
        super().__init__(
            optimizer=optimizer, scheduler=scheduler, initializer=initializer, pictures=pictures
        )
        self.save_hyperparameters()
        self.build_if_known()

    def build(self, image_shape: tuple[int, int, int]) -> None:
        """Make the layers, in the order in which data meet them."""
        options, active = self.hparams, make_activation(self.code_activation)
        pixels, hidden = math.prod(image_shape), list(options.hidden_sizes)
        code = options.code_size * units_before(active)
        encoder = dense_stack([pixels, *hidden, code], options.activation)
        decoder = dense_stack([options.code_size, *hidden[::-1], pixels], options.activation)
        self.encoder = nn.Sequential(nn.Flatten(), encoder, active)
        self.decoder = nn.Sequential(decoder, nn.Unflatten(1, tuple(image_shape)))
        initialize(self, default_initializer(options.activation))

    @property
    def code_activation(self) -> Activation:
        """Of the code."""
        return cast(Activation, self.hparams.code_activation)

    def encode(self, image: Tensor) -> Tensor:
        """Codes (B, D) of images (B, C, H, W), 0 to 1."""
        code: Tensor = self.encoder(image)
        return code

    def decode(self, code: Tensor) -> Tensor:
        """Images (B, C, H, W), 0 to 1, from codes (B, D)."""
        return as_pixels(self.decoder(code), self.hparams.likelihood)

    def losses(self, batch: ImageBatch) -> Tensor:
        """What is lost of each image, (B,), summed over its pixels."""
        return self.lost(self.encode(batch.image), batch.image)

    def lost(self, code: Tensor, image: Tensor) -> Tensor:
        """What codes (B, D) do not tell of images (B, C, H, W), summed over pixels: (B,)."""
        output = self.decoder(code)
        if self.hparams.likelihood == "bernoulli":
            return bernoulli_nll(output, image)
        return squared_error(output, image)
