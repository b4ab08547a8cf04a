"""Conditional GAN: a generator that is told which class to make."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from dlarch.errors import OptionError
from dlarch.models.gans.dcgan import convolutional_critic, convolutional_generator
from dlarch.models.gans.gan import cross_entropies, dense_critic, dense_generator
from dlarch.nn import Activation
from dlarch.optim import CalmAdam
from dlarch.registry import register_model
from dlarch.tasks import (
    Adversarial,
    InitializerCallable,
    OptimizerCallable,
    SchedulerCallable,
)


@register_model("cgan", paper="1411.1784")
class CGAN(Adversarial):
    r"""Give the class to both: the generator is to make it, the critic to look for it.

    With the class y as K numbers, of which one is 1, beside the noise and beside the example, the
    losses are those of `gan`, given the class:

    $$L_D = -E_{x, y} \log D(x, y) - E_{z, y} \log (1 - D(G(z, y), y)), \qquad
      L_G = -E_{z, y} \log D(G(z, y), y)$$

    A made example that is like a real one of another class is found out, so that the generator has
    to make what it is asked for. Classes are asked for as often as they occur. A convolutional
    critic gets the class as K maps of one value each.

    Shapes: noise (B, Z), class (B,) -> image (B, C, H, W) or row (B, F) -> rating (B,).

    Differences from the paper: (1) noise and class meet at the first layer, not after one of their
    own each; (2) leaky ReLU instead of maxout in the critic, and no dropout; (3) Adam instead of
    momentum with a falling rate; (4) normal noise instead of uniform; (5) the networks of `dcgan`
    if asked for.

    Expected: see docs/models/cgan.md, `dlarch fit --config recipes/cgan.yaml`.

    Args:
        num_classes: number of classes, K. Taken from the data when not given.
        image_shape: (C, H, W). Taken from the data when not given.
        in_features: number of input columns, F. Taken from the data when not given.
        architecture: "dense", or "convolutional" for images of at least 16 x 16.
        noise_size: numbers that an example is made from, Z.
        generator_sizes: widths of the hidden layers of a dense generator.
        critic_sizes: widths of the hidden layers of a dense critic.
        activation: of the hidden layers of a dense generator.
        critic_activation: of the hidden layers of a dense critic.
        width: maps of a convolutional network next to the image, N.
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
        num_classes: int | None = None,
        image_shape: tuple[int, int, int] | None = None,
        in_features: int | None = None,
        architecture: Literal["dense", "convolutional"] = "dense",
        noise_size: int = 64,
        generator_sizes: Sequence[int] = (256, 256),
        critic_sizes: Sequence[int] = (256, 256),
        activation: Activation = "relu",
        critic_activation: Activation = "leaky_relu",
        width: int = 64,
        critic_steps: int = 1,
        ema: float = 0.0,
        judge: str | None = None,
        optimizer: OptimizerCallable = lambda parameters: CalmAdam(parameters, lr=2e-4),
        critic_optimizer: OptimizerCallable = lambda parameters: CalmAdam(parameters, lr=2e-4),
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
            judge=judge,
            scheduler=scheduler,
            initializer=initializer,
            pictures=pictures,
        )
        self.save_hyperparameters()
        self.build_if_known()

    def build(
        self,
        num_classes: int,
        image_shape: tuple[int, int, int] | None = None,
        in_features: int | None = None,
    ) -> None:
        """Make the layers, in the order in which data meet them."""
        options = self.hparams
        told = options.noise_size + num_classes
        if options.architecture == "convolutional":
            if image_shape is None:
                raise OptionError("Convolutions are for images: give --model.architecture dense.")
            channels, height, length = image_shape
            self.generator = convolutional_generator(told, image_shape, options.width)
            self.critic = convolutional_critic(
                (channels + num_classes, height, length), options.width, "batch"
            )
            return
        shape = tuple(image_shape) if image_shape is not None else (in_features or 0,)
        self.generator = dense_generator(
            [told, *options.generator_sizes], shape, options.activation
        )
        self.critic = dense_critic(
            [math.prod(shape) + num_classes, *options.critic_sizes], options.critic_activation
        )

    def create(self, generator: nn.Module, noise: Tensor, label: Tensor) -> Tensor:
        """Make examples of noise (B, Z) and of their classes (B,)."""
        return self.finished(generator(torch.cat((noise, self.one_hot(label, noise)), dim=1)))

    def rate(self, examples: Tensor, label: Tensor) -> Tensor:
        """How real the critic takes examples for, given their classes, (B,)."""
        told = self.one_hot(label, examples)
        if self.hparams.architecture == "convolutional":
            told = told[:, :, None, None].expand(-1, -1, *examples.shape[2:])
        else:
            examples = examples.flatten(1)
        ratings: Tensor = self.critic(torch.cat((examples, told), dim=1))
        return ratings.squeeze(1).float()

    def one_hot(self, label: Tensor, like: Tensor) -> Tensor:
        """Classes (B,) as (B, K), of the type of another tensor."""
        return F.one_hot(label, self.num_conditions).to(like.dtype)

    def critic_losses(self, real: Tensor, made: Tensor) -> Tensor:
        """-log D(x, y) - log(1 - D(G(z, y), y)), (B,)."""
        return cross_entropies(real, made)

    def generator_losses(self, made: Tensor) -> Tensor:
        """-log D(G(z, y), y), (B,)."""
        return F.softplus(-made)
