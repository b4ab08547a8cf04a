"""Importance-weighted autoencoder: a VAE that is trained by a tighter bound, from several codes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, optim

from dlarch.batches import ImageBatch
from dlarch.errors import check_at_least_1
from dlarch.models.autoencoders.vae import VAE
from dlarch.nn import Activation, Likelihood
from dlarch.registry import register_model
from dlarch.tasks import (
    Bound,
    InitializerCallable,
    LatentImages,
    OptimizerCallable,
    SchedulerCallable,
)


@register_model("iwae", paper="1509.00519")
class IWAE(VAE):
    r"""Draw k codes of an image, and train by the mean of their importance weights.

    Encoder and decoder are those of a VAE. What is maximised, in nats, averaged over images, is

    $$L_k = E_{z_1 \dots z_k \sim q(z|x)} \log \frac{1}{k} \sum_{i=1}^k
      \frac{p(x|z_i) \, p(z_i)}{q(z_i|x)} \le \log p(x)$$

    With one code it is the VAE's bound; it never falls as k grows, and reaches log p(x). The
    gradient of each code is weighted by its share of the sum, so that a code that fits badly costs
    little: q may be wider, and more dimensions of the code are used.

    Shapes: image (B, C, H, W) -> mean and log variance (B, D) -> codes (B, k, D) -> logits or means
    (B k, C, H, W).

    Differences from the paper: (1) one stochastic layer, not also two; (2) all k codes of an image
    are decoded in the backward pass, not one drawn by its weight.

    Expected: see docs/models/iwae.md, `dlarch fit --config recipes/iwae.yaml`.

    Args:
        image_shape: (C, H, W). Taken from the data when not given.
        code_size: dimensions of the code, D.
        hidden_sizes: units of the encoder's dense layers; the decoder mirrors them.
        widths: maps of convolutions before these, each of which halves the image; none at all gives
            a dense network.
        activation: of the hidden layers.
        likelihood: of pixels: "bernoulli", or "gaussian" with one learned variance.
        samples: k, codes that are drawn of each image in training and validation.
        importance_samples: codes that are drawn for each image of the test, for nll_is.
        optimizer: called with the parameters.
        scheduler: called with the optimizer; steps after each optimizer step.
        initializer: of all weights; by the activation when not given.
        pictures: draw reconstructions, samples, traversals, interpolations and codes.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int] | None = None,
        code_size: int = 50,
        hidden_sizes: Sequence[int] = (200, 200),
        widths: Sequence[int] = (),
        activation: Activation = "tanh",
        likelihood: Likelihood = "bernoulli",
        samples: int = 5,
        importance_samples: int = 100,
        optimizer: OptimizerCallable = lambda parameters: optim.Adam(parameters, lr=1e-3),
        scheduler: SchedulerCallable | None = None,
        initializer: InitializerCallable | None = None,
        pictures: bool = True,
    ) -> None:
        LatentImages.__init__(
            self,
            likelihood=likelihood,
            importance_samples=importance_samples,
            optimizer=optimizer,
            scheduler=scheduler,
            initializer=initializer,
            pictures=pictures,
        )
        check_at_least_1(samples=samples)
        self.save_hyperparameters()
        self.build_if_known()

    def losses(self, batch: ImageBatch) -> Tensor:
        """-L_k of each image, (B,), estimated by k codes."""
        image = batch.image
        shape = (len(image), self.hparams.samples, self.code_size)
        noise = torch.randn(shape, device=image.device)
        return self.importance_nll(image, self.posterior(image), noise)

    def negative_bounds(self, batch: ImageBatch, bound: Bound) -> Tensor:
        """-L_k of each image, (B,), by k codes of its own."""
        noise = self._noise(batch, self.hparams.samples)
        return self.importance_nll(batch.image, bound.posterior, noise)
