"""Adversarial autoencoder: a critic of codes sees to it that they lie as a prior does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torchmetrics import Metric

from dlarch.batches import ImageBatch
from dlarch.errors import OptionError
from dlarch.models.autoencoders.networks import ImageDecoder, ImageEncoder
from dlarch.nn import (
    Activation,
    Likelihood,
    as_pixels,
    bernoulli_nll,
    default_initializer,
    dense_stack,
    initialize,
    squared_error,
)
from dlarch.nn.initializers import He
from dlarch.optim import CalmAdam
from dlarch.registry import register_model
from dlarch.tasks import (
    AutoencoderWithCritic,
    InitializerCallable,
    OptimizerCallable,
    Ratio,
    SchedulerCallable,
)

PETALS, AWAY, LONG, WIDE = 10, 3.0, 0.8, 0.25
"""Gaussians of the mixture: how many, how far away, their deviations away and across."""

Prior = Literal["normal", "mixture"]
"""What codes shall lie like: N(0, I), or ten Gaussians around the middle of a plane."""


@register_model("adversarial_autoencoder", paper="1511.05644")
class AdversarialAutoencoder(AutoencoderWithCritic):
    r"""An autoencoder whose codes a critic cannot tell from those of a prior.

    Codes z = f(x) of all images together have a distribution q(z). A critic D learns to tell draws
    of the prior p(z) from them, as in a `gan`, where the encoder is the generator:

    $$-E_{z \sim p} \log D(z) - E_x \log (1 - D(f(x)))$$

    Encoder f and decoder g minimise what is lost of an image and, weighted by lambda, what the
    critic must not notice,

    $$E_x \big[ -\log p(x | g(f(x))) - \lambda \log D(f(x)) \big]$$

    so that images decode from drawn codes. No formula of the prior is needed, only draws: it may be
    of any shape. A VAE asks more, each image's codes to be near the prior; here all codes together
    are. With lambda 0 it is a plain autoencoder.

    Shapes: image (B, C, H, W) -> code (B, D) -> logits or means (B, C, H, W), and the critic's
    rating of codes (B,).

    Differences from the paper: (1) the encoder's two losses are added and make one step, as in
    Wasserstein autoencoders (1711.01558), instead of two steps by two optimizers; (2) Adam instead
    of momentum; (3) cross-entropy of pixels if asked for, leaky ReLU in the critic; (4) codes are
    no draws, and images have no classes: the paper's first of three encoders, unsupervised.

    Expected: test/code_mmd 0.0028 on digits (seed 1), `dlarch fit --config
    recipes/adversarial_autoencoder.yaml`; see docs/models/adversarial_autoencoder.md.

    Args:
        image_shape: (C, H, W). Taken from the data when not given.
        code_size: numbers that are left of an image, D.
        hidden_sizes: units of the encoder's dense layers; the decoder mirrors them.
        widths: maps of convolutions before these, each of which halves the image; none at all gives
            a dense network.
        activation: of the hidden layers of encoder and decoder.
        likelihood: what the loss takes pixels for, "gaussian" (squared errors) or "bernoulli"
            (cross-entropy).
        prior: of codes: "normal", or "mixture", where the first two numbers lie in ten Gaussians
            around their middle.
        adversarial_weight: what counts the critic for the encoder, lambda.
        critic_sizes: units of the critic's hidden layers.
        critic_steps: of the critic, for each step of encoder and decoder.
        judge: run folder of a classifier of such images, which scores the images drawn.
        optimizer: of encoder and decoder, called with their parameters.
        critic_optimizer: of the critic, called with its parameters.
        scheduler: called with each of the two optimizers; steps after each step of its own.
        initializer: of all weights; by the activations when not given.
        pictures: draw reconstructions, new images, interpolations and codes at each validation.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int] | None = None,
        code_size: int = 8,
        hidden_sizes: Sequence[int] = (256, 256),
        widths: Sequence[int] = (),
        activation: Activation = "relu",
        likelihood: Likelihood = "bernoulli",
        prior: Prior = "normal",
        adversarial_weight: float = 10.0,
        critic_sizes: Sequence[int] = (256, 256),
        critic_steps: int = 1,
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
            critic_steps=critic_steps,
            judge=judge,
            scheduler=scheduler,
            initializer=initializer,
            pictures=pictures,
        )
        if adversarial_weight < 0:
            raise OptionError(f"adversarial_weight must be 0 or more, not {adversarial_weight:g}.")
        if prior == "mixture" and code_size < 2:
            raise OptionError("A mixture lies in a plane: give --model.code_size 2 or more.")
        self.save_hyperparameters()
        self.build_if_known()

    def build(self, image_shape: tuple[int, int, int]) -> None:
        """Make the layers, in the order in which data meet them."""
        options = self.hparams
        network = (image_shape, options.widths, options.hidden_sizes, options.activation)
        features = ImageEncoder(*network)
        code = nn.Linear(features.out_features, options.code_size)
        self.encoder = nn.Sequential(features, code)
        self.decoder = ImageDecoder(*network, options.code_size)
        initialize(self, default_initializer(options.activation))
        sizes = [options.code_size, *options.critic_sizes, 1]
        self.critic = nn.Sequential(dense_stack(sizes, "leaky_relu"), nn.Flatten(0))
        initialize(self.critic, He())

    def encode(self, image: Tensor) -> Tensor:
        """Codes (B, D) of images (B, C, H, W), 0 to 1."""
        code: Tensor = self.encoder(image)
        return code.float()

    def drawn_codes(self, image: Tensor, noise: Tensor) -> Tensor:
        """The codes of images; nothing is drawn."""
        return self.encode(image)

    def decode(self, code: Tensor) -> Tensor:
        """Images (B, C, H, W), 0 to 1, from codes (B, D)."""
        return as_pixels(self.decoder(code), self.hparams.likelihood)

    def prior(self, noise: Tensor) -> Tensor:
        """Codes of the prior, of standard normal numbers, both (B, D)."""
        if self.hparams.prior == "normal":
            return noise
        return torch.cat((petals(noise[:, :2]), noise[:, 2:]), 1)

    def rate(self, code: Tensor) -> Tensor:
        """Logits (B,) of codes (B, D) being draws of the prior."""
        rating: Tensor = self.critic(code)
        return rating.float()

    def losses(self, batch: ImageBatch) -> Tensor:
        """What is lost of each image, (B,), summed over its pixels."""
        return self.lost(self.encode(batch.image), batch.image)

    def lost(self, code: Tensor, image: Tensor) -> Tensor:
        """What codes (B, D) do not tell of images (B, C, H, W), summed over pixels: (B,)."""
        output = self.decoder(code)
        if self.hparams.likelihood == "bernoulli":
            return bernoulli_nll(output, image)
        return squared_error(output, image)

    def training_step(self, batch: Sequence[Any], _: int) -> Tensor:
        """A step of the critic and, when it is due, one of the autoencoder; the critic's loss.

        In turn, so that the encoder is told by a critic that has seen where its codes lie now. One
        optimizer for all, as in `factor_vae`, would give both one rate and as many steps.
        """
        image = self.as_unit(batch).image
        loss = self.teach_critic(image)
        if self.generator_is_due():
            self.teach_autoencoder(image)
        return loss

    def teach_critic(self, image: Tensor) -> Tensor:
        """Let the critic tell draws of the prior from codes of images; gives its loss."""
        count = len(image)
        with self.without_learning():
            code = self.encode(image)
        drawn = self.prior(self.draw_normal(count, self.code_size))
        loss = (F.softplus(-self.rate(drawn)) + F.softplus(self.rate(code))).mean()
        self.note_loss("critic_loss", loss, count)
        self.take_step(1, loss, count)
        return loss.detach()

    def teach_autoencoder(self, image: Tensor) -> None:
        """Let encoder and decoder keep the image, and the encoder deceive the critic."""
        count, code = len(image), self.encode(image)
        reconstruction = self.lost(code, image).mean()
        deceit = F.softplus(-self.rate(code)).mean()
        self.note_loss("reconstruction", reconstruction, count)
        self.note_loss("generator_loss", deceit, count)
        self.take_step(0, reconstruction + self.hparams.adversarial_weight * deceit, count)

    def metrics(self, stage: str) -> dict[str, Metric]:
        """What is lost of an image, and what autoencoders with a critic are scored by."""
        return {"loss": Ratio()} | super().metrics(stage)

    def score(self, batch: ImageBatch) -> Tensor:
        """Score a batch; gives its codes."""
        code = super().score(batch)
        self._metrics["loss"].update(self.lost(code, batch.image).sum(), float(len(code)))
        return code


def petals(noise: Tensor) -> Tensor:
    """Points (B, 2) in ten Gaussians around the middle, of standard normal numbers (B, 2).

    The second number says by its tenth of the normal distribution which Gaussian it is; where it
    lies within that tenth is even, and becomes a normal number again.
    """
    place = torch.special.ndtr(noise[:, 1]) * PETALS
    which = place.floor().clamp(max=PETALS - 1)
    rest = torch.special.ndtri((place - which).clamp(1e-5, 1 - 1e-5))
    along, across = AWAY + LONG * noise[:, 0], WIDE * rest
    angle = which * (2 * math.pi / PETALS)
    return torch.stack(
        (
            along * angle.cos() - across * angle.sin(),
            along * angle.sin() + across * angle.cos(),
        ),
        1,
    )
