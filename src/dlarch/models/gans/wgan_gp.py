"""WGAN-GP: a critic that measures how far made examples have to be moved to be real ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from dlarch.errors import OptionError
from dlarch.models.gans.dcgan import convolutional_critic, convolutional_generator
from dlarch.models.gans.gan import dense_critic, dense_generator
from dlarch.nn import Activation
from dlarch.optim import CalmAdam
from dlarch.registry import register_model
from dlarch.tasks import (
    Adversarial,
    InitializerCallable,
    OptimizerCallable,
    SchedulerCallable,
)


@register_model("wgan_gp", paper="1704.00028")
class WGANGP(Adversarial):
    r"""Let the critic estimate the Wasserstein distance of made from real examples.

    Among all functions that nowhere rise by more than 1 per unit of distance, the one with the
    largest difference of means gives the distance (Kantorovich and Rubinstein):

    $$W(p, p_g) = \max_{\|s\|_L \le 1} E_{x \sim p}\, s(x) - E_{z \sim N(0, I)}\, s(G(z))$$

    The critic maximises that difference, with a penalty on slopes other than 1 at points between
    real and made examples, and takes several steps for each of the generator, whose loss is
    $-E_z\, s(G(z))$:

    $$\lambda\, E\, \big(\|\nabla s(\hat x)\| - 1\big)^2, \qquad \hat x = u\, x + (1 - u)\, G(z),
      \quad u \sim U(0, 1)$$

    The distance has a slope even where real and made examples lie apart, so that the generator
    learns from a critic that is right, and modes are not lost. Batch normalisation would let the
    slope at one example depend on others: the convolutional critic has layer normalisation.

    Shapes: noise (B, Z) -> image (B, C, H, W) or row (B, F) -> rating (B,).

    Differences from the paper: (1) the convolutional networks are those of `dcgan`; (2) leaky ReLU
    in the critic; (3) no bias of the rating, since it makes no difference; (4) packing
    and an average of the generator's weights if asked for.

    Expected: see docs/models/wgan_gp.md, `dlarch fit --config recipes/wgan_gp.yaml`.

    Args:
        image_shape: (C, H, W). Taken from the data when not given.
        in_features: number of input columns, F. Taken from the data when not given.
        architecture: "dense", or "convolutional" for images of at least 16 x 16.
        noise_size: numbers that an example is made from, Z.
        generator_sizes: widths of the hidden layers of a dense generator.
        critic_sizes: widths of the hidden layers of a dense critic.
        activation: of the hidden layers of a dense generator.
        critic_activation: of the hidden layers of a dense critic.
        width: maps of a convolutional network next to the image, N.
        gradient_weight: of the penalty, lambda.
        packing: examples that the critic sees at once.
        critic_steps: of the critic, for each step of the generator.
        ema: what an average of the generator's weights keeps of itself at each step; it then makes
            the examples outside of training. 0 for none.
        judge: run folder of a classifier of such images, which scores the images made.
        optimizer: of the generator, called with its parameters.
        critic_optimizer: of the critic, called with its parameters.
        scheduler: called with each of the two optimizers; steps after each step of its own.
        initializer: of all weights; that of `gan` or `dcgan` when not given.
        pictures: draw examples that are made from fixed noise at each validation.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int] | None = None,
        in_features: int | None = None,
        architecture: Literal["dense", "convolutional"] = "dense",
        noise_size: int = 64,
        generator_sizes: Sequence[int] = (256, 256),
        critic_sizes: Sequence[int] = (256, 256),
        activation: Activation = "relu",
        critic_activation: Activation = "leaky_relu",
        width: int = 64,
        gradient_weight: float = 10.0,
        packing: int = 1,
        critic_steps: int = 5,
        ema: float = 0.0,
        judge: str | None = None,
        optimizer: OptimizerCallable = lambda parameters: CalmAdam(
            parameters, lr=1e-4, beta1=0.0, beta2=0.9
        ),
        critic_optimizer: OptimizerCallable = lambda parameters: CalmAdam(
            parameters, lr=1e-4, beta1=0.0, beta2=0.9
        ),
        scheduler: SchedulerCallable | None = None,
        initializer: InitializerCallable | None = None,
        pictures: bool = True,
    ) -> None:
        super().__init__(
            noise_size=noise_size,
            optimizer=optimizer,
            critic_optimizer=critic_optimizer,
            critic_steps=critic_steps,
            ema=ema,
            packing=packing,
            judge=judge,
            scheduler=scheduler,
            initializer=initializer,
            pictures=pictures,
        )
        if gradient_weight <= 0:
            raise OptionError(f"gradient_weight must be above 0, not {gradient_weight}.")
        self.save_hyperparameters()
        self.build_if_known()

    def build(
        self,
        image_shape: tuple[int, int, int] | None = None,
        in_features: int | None = None,
    ) -> None:
        """Make the layers, in the order in which data meet them."""
        options = self.hparams
        if options.architecture == "convolutional":
            if image_shape is None:
                raise OptionError("Convolutions are for images: give --model.architecture dense.")
            channels, height, length = image_shape
            self.generator = convolutional_generator(options.noise_size, image_shape, options.width)
            self.critic = convolutional_critic(
                (channels * options.packing, height, length), options.width, "layer", bias=False
            )
            return
        shape = tuple(image_shape) if image_shape is not None else (in_features or 0,)
        self.generator = dense_generator(
            [options.noise_size, *options.generator_sizes], shape, options.activation
        )
        self.critic = dense_critic(
            [math.prod(shape) * options.packing, *options.critic_sizes],
            options.critic_activation,
            bias=False,
        )

    def critic_losses(self, real: Tensor, made: Tensor) -> Tensor:
        """s(G(z)) - s(x), (B,): in the mean the negative estimate of the distance."""
        return made - real

    def generator_losses(self, made: Tensor) -> Tensor:
        """-s(G(z)), (B,)."""
        return -made

    def penalty(self, real: Tensor, made: Tensor, label: Tensor) -> Tensor:
        """Squared distance of slopes between real and made examples from 1, weighted."""
        weight: float = self.hparams.gradient_weight
        return weight * (self.slopes(real, made) - 1).square().mean()

    def slopes(self, real: Tensor, made: Tensor) -> Tensor:
        """Norms (B,) of the critic's gradient at points between real and made examples."""
        real, made = self.packed(real), self.packed(made)
        shape = (len(real), *[1] * (real.dim() - 1))
        shares = torch.rand(shape, dtype=real.dtype, device=real.device)
        between = torch.lerp(made.to(real), real, shares).requires_grad_()
        ratings = self.critic(between).sum()
        (gradient,) = torch.autograd.grad(ratings, between, create_graph=True)
        norms: Tensor = gradient.flatten(1).norm(dim=1)
        return norms
