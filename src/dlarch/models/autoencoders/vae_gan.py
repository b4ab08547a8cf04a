"""VAE-GAN: a VAE that is to keep what a critic of images sees, not their pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils.parametrizations import spectral_norm as normalise_spectrum
from torchmetrics import Metric

from dlarch.batches import ImageBatch
from dlarch.errors import OptionError
from dlarch.models.autoencoders.networks import (
    KERNEL,
    PADDING,
    STRIDE,
    ImageDecoder,
    ImageEncoder,
    Shape,
    halved,
)
from dlarch.nn import (
    Activation,
    default_initializer,
    gaussian_kl,
    initialize,
    squared_error,
)
from dlarch.nn.initializers import He
from dlarch.optim import CalmAdam
from dlarch.registry import register_model
from dlarch.tasks import (
    AutoencoderWithCritic,
    Bound,
    InitializerCallable,
    OptimizerCallable,
    Posterior,
    Ratio,
    SchedulerCallable,
)
from dlarch.tasks.metrics import ActiveUnits

SLOPE = 0.2
"""Of the critic's leaky ReLU below 0."""


@register_model("vae_gan", paper="1512.09300")
class VAEGAN(AutoencoderWithCritic):
    r"""Judge what a VAE draws by the layers of a critic, which learns to tell it from real images.

    Pixels are a poor measure: a stroke that is moved by one costs more than one that is blurred. In
    their place stand the features $D_l$ of a hidden layer of the critic D, Gaussian around those of
    what is drawn of the code z,

    $$-\log p(D_l(x) | z) = \tfrac{1}{2} \| D_l(x) - D_l(g(z)) \|^2 + \mathrm{const}$$

    Images drawn again, and images drawn of codes of the prior, are both made ones for the critic.
    Of one forward pass each part has a loss of its own: encoder, decoder g, and critic minimise

    $$L_E = E_q [-\log p(D_l(x)|z)] + KL(q(z|x) \,\|\, N(0, I)), \qquad
      L_g = \gamma E_q [-\log p(D_l(x)|z)] - \log D(g(z)) - \log D(g(z_p))$$

    $$L_D = -\log D(x) - \log (1 - D(g(z))) - \log (1 - D(g(z_p))), \qquad
      z \sim q(z|x), \quad z_p \sim N(0, I)$$

    The critic does not learn to keep distances small: its features come of telling apart alone.

    Shapes: image (B, C, H, W) -> mean and log variance (B, D) -> code (B, D) -> image (B, C, H, W),
    and the critic's features (B, F) and ratings (B,).

    Differences from the paper: (1) the decoder minimises -log D of what it makes, not
    log (1 - D); (2) no batch normalisation; the critic's matrices have singular values of at most 1
    if asked for; (3) Adam instead of RMSProp; (4) images from 0 to 1 by a sigmoid; (5) convolutions
    of 4 x 4 without a critic's first layer that halves nothing, or dense layers, for images of
    any size.

    Expected: see docs/models/vae_gan.md, `dlarch fit --config recipes/vae_gan.yaml`.

    Args:
        image_shape: (C, H, W). Taken from the data when not given.
        code_size: dimensions of the code, D.
        hidden_sizes: units of the encoder's dense layers; the decoder mirrors them.
        widths: maps of convolutions before these and in the critic, each of which halves the image;
            none at all gives dense networks.
        activation: of the hidden layers of encoder and decoder.
        critic_sizes: units of the critic's dense layers, after its convolutions.
        feature_layer: which of the critic's hidden layers gives the features, from 1; its
            convolutions are counted first.
        gamma: what a nat of the features counts for the decoder.
        spectral_norm: divide the critic's matrices by their largest singular values.
        judge: run folder of a classifier of such images, which scores the images drawn.
        optimizer: of encoder and decoder, called with their parameters.
        critic_optimizer: of the critic, called with its parameters.
        scheduler: called with each of the two optimizers; steps after each step of its own.
        initializer: of all weights; by the activations when not given.
        pictures: draw reconstructions, new images, interpolations and codes at each validation.
    """

    headline = "test/mmd"

    def __init__(
        self,
        image_shape: tuple[int, int, int] | None = None,
        code_size: int = 10,
        hidden_sizes: Sequence[int] = (256,),
        widths: Sequence[int] = (),
        activation: Activation = "relu",
        critic_sizes: Sequence[int] = (256, 256),
        feature_layer: int = 1,
        gamma: float = 0.1,
        spectral_norm: bool = False,
        judge: str | None = None,
        optimizer: OptimizerCallable = lambda parameters: CalmAdam(parameters, lr=1e-3),
        critic_optimizer: OptimizerCallable = lambda parameters: CalmAdam(parameters, lr=1e-3),
        scheduler: SchedulerCallable | None = None,
        initializer: InitializerCallable | None = None,
        pictures: bool = True,
    ) -> None:
        super().__init__(
            optimizer=optimizer,
            critic_optimizer=critic_optimizer,
            judge=judge,
            scheduler=scheduler,
            initializer=initializer,
            pictures=pictures,
        )
        if gamma < 0:
            raise OptionError(f"gamma must be 0 or more, not {gamma:g}.")
        layers = len(widths) + len(critic_sizes)
        if not 1 <= feature_layer <= layers:
            raise OptionError(
                f"feature_layer must be one of the critic's {layers} hidden layers, not "
                f"{feature_layer}: they are the convolutions of widths and the critic_sizes."
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
        self.critic = FeatureCritic(
            image_shape, options.widths, options.critic_sizes, options.feature_layer
        )
        initialize(self.critic, He())
        if options.spectral_norm:
            for layer in list(self.critic.modules()):
                if isinstance(layer, nn.Linear | nn.Conv2d):
                    normalise_spectrum(layer)

    def encoding_parameters(self) -> list[nn.Parameter]:
        """Those that a code depends on."""
        parts = (self.encoder, self.mean, self.log_variance)
        return [each for part in parts for each in part.parameters()]

    # ---- codes and images

    def posterior(self, image: Tensor) -> Posterior:
        """q(z|x) of images (B, C, H, W), 0 to 1: mean and log variance, each (B, D)."""
        features = self.encoder(image)
        return Posterior(self.mean(features).float(), self.log_variance(features).float())

    def encode(self, image: Tensor) -> Tensor:
        """The mean codes (B, D) of images (B, C, H, W), 0 to 1."""
        return self.posterior(image).mean

    def drawn_codes(self, image: Tensor, noise: Tensor) -> Tensor:
        """Codes (B, D) of images (B, C, H, W), drawn from q(z|x) by normal noise (B, D)."""
        return self.posterior(image).code(noise)

    def decode(self, code: Tensor) -> Tensor:
        """Images (B, C, H, W), 0 to 1, from codes (B, D)."""
        return torch.sigmoid(self.decoder(code))

    # ---- training

    def bound(self, image: Tensor, noise: Tensor) -> Bound:
        """The negative bound of what the critic sees of images, codes drawn by noise (B, D)."""
        posterior = self.posterior(image)
        again = self.critic(self.decode(posterior.code(noise)))
        nats = feature_nats(self.critic(image), again)
        return Bound(nats, gaussian_kl(*posterior), posterior)

    def losses(self, batch: ImageBatch) -> Tensor:
        """What the encoder minimises of each image, (B,)."""
        noise = torch.randn(len(batch.image), self.code_size, device=batch.image.device)
        bound = self.bound(batch.image, noise)
        return bound.reconstruction + bound.kl.sum(1)

    def training_step(self, batch: Sequence[Any], _: int) -> Tensor:
        """One step of all three parts, from one forward pass; the critic's loss.

        Three losses and not one, as in `factor_vae`: encoder and decoder weigh the features
        differently, and what the critic rates must not reach the encoder through the decoder.
        """
        image = self.as_unit(batch).image
        count = len(image)
        noise, other = self.draw_normal(2, count, self.code_size)
        posterior = self.posterior(image)
        again, made = self.decode(posterior.code(noise)), self.decode(other)
        real, repeated, drawn = self.critic(image), self.critic(again), self.critic(made)
        reconstruction = feature_nats(real, repeated).mean()
        kl = gaussian_kl(*posterior).sum(1).mean()
        deceit = (F.softplus(-repeated.rating) + F.softplus(-drawn.rating)).mean()
        found_out = F.softplus(repeated.rating) + F.softplus(drawn.rating)
        critic_loss = (F.softplus(-real.rating) + found_out).mean()
        for name, loss in (
            ("reconstruction", reconstruction),
            ("kl", kl),
            ("generator_loss", deceit),
            ("critic_loss", critic_loss),
        ):
            self.note_loss(name, loss, count)
        wanted = self.hparams.gamma * reconstruction + deceit
        self.find_gradients(self.encoding_parameters(), reconstruction + kl, count, True)
        self.find_gradients(self.decoder.parameters(), wanted, count, True)
        self.find_gradients(self.critic.parameters(), critic_loss, count)
        self.apply_gradients(0)
        self.apply_gradients(1)
        return critic_loss.detach()

    # ---- validation and test

    def metrics(self, stage: str) -> dict[str, Metric]:
        """The terms of the bound, and what autoencoders with a critic are scored by."""
        return super().metrics(stage) | {
            "reconstruction": Ratio(),
            "kl": Ratio(),
            "active_units": ActiveUnits(self.code_size),
        }

    def score(self, batch: ImageBatch) -> Tensor:
        """Score a batch; gives its mean codes."""
        code, count = super().score(batch), float(len(batch.image))
        bound = self.bound(batch.image, self._noise(batch)[:, 0])
        self._metrics["reconstruction"].update(bound.reconstruction.sum(), count)
        self._metrics["kl"].update(bound.kl.sum(), count)
        self._metrics["active_units"].update(code)
        return code


class Seen(NamedTuple):
    """What a critic sees in images.

    Attributes:
        features: (B, F), of one of its layers.
        rating: (B,), the logit of the image being real.
    """

    features: Tensor
    rating: Tensor


class FeatureCritic(nn.Module):
    """Rates images, and shows what one of its hidden layers makes of them.

    Args:
        image_shape: (C, H, W).
        widths: maps of its convolutions, each of which halves the image.
        sizes: units of its dense layers.
        feature_layer: that is shown, from 1.
    """

    def __init__(
        self, image_shape: Shape, widths: Sequence[int], sizes: Sequence[int], feature_layer: int
    ) -> None:
        super().__init__()
        self.feature_layer = feature_layer
        self.layers = nn.ModuleList()
        for maps, more in pairwise((image_shape[0], *widths)):
            layer = nn.Conv2d(maps, more, KERNEL, STRIDE, PADDING)
            self.layers.append(nn.Sequential(layer, nn.LeakyReLU(SLOPE)))
        units = math.prod(halved(image_shape, widths)[-1])
        for size, more in pairwise((units, *sizes)):
            dense = nn.Linear(size, more)
            self.layers.append(nn.Sequential(nn.Flatten(), dense, nn.LeakyReLU(SLOPE)))
        self.rating = nn.Sequential(
            nn.Flatten(), nn.Linear(sizes[-1] if sizes else units, 1), nn.Flatten(0)
        )

    def forward(self, image: Tensor) -> Seen:
        """What is seen in images (B, C, H, W), 0 to 1."""
        maps, features = 2 * image - 1, image
        for place, layer in enumerate(self.layers, start=1):
            maps = layer(maps)
            if place == self.feature_layer:
                features = maps
        return Seen(features.flatten(1).float(), self.rating(maps).float())


def feature_nats(real: Seen, again: Seen) -> Tensor:
    """-log p, but for a constant, of real features, Gaussian around those of drawn images, (B,)."""
    return 0.5 * squared_error(again.features, real.features)
