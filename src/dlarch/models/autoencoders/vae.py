"""Variational autoencoder: an autoencoder whose codes follow a known distribution."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn, optim

from dlarch.models.autoencoders.networks import ImageDecoder, ImageEncoder
from dlarch.nn import Activation, Likelihood, default_initializer, initialize
from dlarch.registry import register_model
from dlarch.tasks import (
    Annealing,
    InitializerCallable,
    LatentImages,
    OptimizerCallable,
    Posterior,
    Schedule,
    SchedulerCallable,
)


@register_model("vae", paper="1312.6114")
class VAE(LatentImages):
    r"""Encode an image as a Gaussian over codes; decode one draw of it.

    Maximises a lower bound of log p(x), in nats, summed over pixels and averaged over images:

    $$\log p(x) \ge E_{q(z|x)} \log p(x|z) - \sum_d KL(q(z_d|x) \,\|\, N(0, 1))$$

    Mean and log variance of q are linear in what the encoder makes of the image; the draw is
    written z = mean + std * noise, so that the gradient reaches mean and std. Pixels are Bernoulli,
    or Gaussian with one learned variance. New images are decoded from z ~ N(0, 1). Encoder and
    decoder are dense, or begin and end with convolutions that halve and double the image.

    Shapes: image (B, C, H, W) -> mean and log variance (B, D) -> code (B, D) -> logits or means
    (B, C, H, W).

    Differences from the paper: (1) Adam for AdaGrad; (2) two hidden layers instead of one, and more
    units; (3) one learned variance for all Gaussian pixels (1903.05789), not one for each; (4) the
    last bias begins at what gives the mean training image.

    Expected: see docs/models/vae.md, `dlarch fit --config recipes/vae.yaml`.

    Args:
        image_shape: (C, H, W). Taken from the data when not given.
        code_size: dimensions of the code, D.
        hidden_sizes: units of the encoder's dense layers; the decoder mirrors them.
        widths: maps of convolutions before these, each of which halves the image, such as
            [32, 64]; none at all gives a dense network.
        activation: of the hidden layers.
        likelihood: of pixels: "bernoulli", or "gaussian" with one learned variance.
        annealing: how the weight of the KL term rises: "none" (1 at once), "linear", "logistic", or
            "cyclical".
        annealing_steps: optimizer steps until it is 1, or of a cycle.
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
        annealing: Schedule = "none",
        annealing_steps: int = 1000,
        importance_samples: int = 100,
        optimizer: OptimizerCallable = lambda parameters: optim.Adam(parameters, lr=1e-3),
        scheduler: SchedulerCallable | None = None,
        initializer: InitializerCallable | None = None,
        pictures: bool = True,
    ) -> None:
        super().__init__(
            likelihood=likelihood,
            importance_samples=importance_samples,
            annealing=Annealing(annealing, annealing_steps),
            optimizer=optimizer,
            scheduler=scheduler,
            initializer=initializer,
            pictures=pictures,
        )
        self.save_hyperparameters()
        self.build_if_known()

    def build(self, image_shape: tuple[int, int, int]) -> None:
        """Make the layers, in the order in which data meet them."""
        options = self.hparams
        network = (image_shape, options.widths, options.hidden_sizes, options.activation)
        self.encoder = ImageEncoder(*network)
        self.mean = nn.Linear(self.encoder.out_features, options.code_size)
        self.log_variance = nn.Linear(self.encoder.out_features, options.code_size)
        self.decoder = ImageDecoder(*network, options.code_size)
        initialize(self, default_initializer(options.activation))
        if self.likelihood == "gaussian":
            self.pixel_log_variance = nn.Parameter(torch.zeros(()))

    def output_bias(self) -> Tensor:
        """The bias of the decoder's last layer, which begins at the mean image."""
        return self.decoder.bias

    def posterior(self, image: Tensor, label: Tensor | None = None) -> Posterior:
        """q(z|x) of images (B, C, H, W), 0 to 1: mean and log variance, each (B, D)."""
        features = self.encoder(image, label)
        return Posterior(self.mean(features).float(), self.log_variance(features).float())

    def output(self, code: Tensor, label: Tensor | None = None) -> Tensor:
        """Logits or means (B, C, H, W) of p(x|z)."""
        output: Tensor = self.decoder(code, label)
        return output
