"""Generative adversarial network: a generator that learns to deceive a critic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils.parametrizations import spectral_norm as normalise_spectrum

from dlarch.nn import Activation, default_initializer, dense_stack, initialize
from dlarch.optim import CalmAdam
from dlarch.registry import register_model
from dlarch.tasks import (
    Adversarial,
    InitializerCallable,
    OptimizerCallable,
    SchedulerCallable,
)


@register_model("gan", paper="1406.2661")
class GAN(Adversarial):
    r"""Let a generator make examples from noise, and a critic tell them from real ones.

    The critic's rating s(x) is the logit of the probability D(x) that an example is real. It
    minimises the cross-entropy, which is smallest at $D = p / (p + p_g)$:

    $$-E_{x \sim p} \log D(x) - E_{z \sim N(0, I)} \log (1 - D(G(z)))$$

    The generator minimises $E_z \log (1 - D(G(z)))$, which with the best critic is the
    Jensen-Shannon divergence of its distribution from that of the data ("saturating": its gradient
    vanishes while the critic is sure), or $-E_z \log D(G(z))$, whose gradient does not.

    Packing (1712.04086) shows the critic m examples at once, all real or all made, so that it sees
    where made ones are too much alike. Spectral normalisation (1802.05957) divides each of the
    critic's matrices by its largest singular value, which bounds how steep the critic is.

    Shapes: noise (B, Z) -> image (B, C, H, W) or row (B, F) -> rating (B,).

    Differences from the paper: (1) ReLU and leaky ReLU instead of ReLU, sigmoid and maxout; (2) no
    dropout; (3) Adam instead of momentum; (4) normal noise instead of uniform; (5) packing,
    spectral normalisation and an average of the generator's weights if asked for.

    Expected: see docs/models/gan.md, `dlarch fit --config recipes/gan.yaml`.

    Args:
        image_shape: (C, H, W). Taken from the data when not given.
        in_features: number of input columns, F. Taken from the data when not given.
        noise_size: numbers that an example is made from, Z.
        generator_sizes: widths of the generator's hidden layers.
        critic_sizes: widths of the critic's hidden layers.
        activation: of the generator's hidden layers.
        critic_activation: of the critic's hidden layers.
        objective: of the generator, "non_saturating" or "saturating".
        packing: examples that the critic sees at once, m.
        spectral_norm: divide the critic's matrices by their largest singular values.
        critic_steps: of the critic, for each step of the generator.
        ema: what an average of the generator's weights keeps of itself at each step; it then makes
            the examples outside of training. 0 for none.
        judge: run folder of a classifier of such images, which scores the images made.
        optimizer: of the generator, called with its parameters.
        critic_optimizer: of the critic, called with its parameters.
        scheduler: called with each of the two optimizers; steps after each step of its own.
        initializer: of all weights; by the activations when not given.
        pictures: draw examples that are made from fixed noise at each validation.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int] | None = None,
        in_features: int | None = None,
        noise_size: int = 64,
        generator_sizes: Sequence[int] = (256, 256),
        critic_sizes: Sequence[int] = (256, 256),
        activation: Activation = "relu",
        critic_activation: Activation = "leaky_relu",
        objective: Literal["non_saturating", "saturating"] = "non_saturating",
        packing: int = 1,
        spectral_norm: bool = False,
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
            packing=packing,
            judge=judge,
            scheduler=scheduler,
            initializer=initializer,
            pictures=pictures,
        )
        self.save_hyperparameters()
        self.build_if_known()

    def build(
        self,
        image_shape: tuple[int, int, int] | None = None,
        in_features: int | None = None,
    ) -> None:
        """Make the layers, in the order in which data meet them."""
        options = self.hparams
        shape = tuple(image_shape) if image_shape is not None else (in_features or 0,)
        size = math.prod(shape)
        self.generator = dense_generator(
            [options.noise_size, *options.generator_sizes], shape, options.activation
        )
        widths = [size * options.packing, *options.critic_sizes]
        self.critic = dense_critic(widths, options.critic_activation)
        if options.spectral_norm:
            bound_slopes(self.critic)

    def critic_losses(self, real: Tensor, made: Tensor) -> Tensor:
        """-log D(x) - log(1 - D(G(z))), (B,)."""
        return cross_entropies(real, made)

    def generator_losses(self, made: Tensor) -> Tensor:
        """-log D(G(z)), or log(1 - D(G(z))), (B,)."""
        if self.hparams.objective == "saturating":
            return -F.softplus(made)
        return F.softplus(-made)


def cross_entropies(real: Tensor, made: Tensor) -> Tensor:
    """-log D(x) - log(1 - D(G(z))) from the logits of D, each (B,)."""
    return F.softplus(-real) + F.softplus(made)


def dense_generator(
    sizes: Sequence[int], shape: Sequence[int], activation: Activation
) -> nn.Sequential:
    """Layers from noise (B, Z) to examples (B, *shape); the sizes begin with that of the noise."""
    stack = dense_stack([*sizes, math.prod(shape)], activation)
    initialize(stack, default_initializer(activation))
    return nn.Sequential(stack, nn.Unflatten(1, tuple(shape)))


def dense_critic(sizes: Sequence[int], activation: Activation, bias: bool = True) -> nn.Sequential:
    """Layers from examples to ratings (B, 1); the sizes begin with that of an example.

    Args:
        sizes: of the example and of the hidden layers.
        activation: of the hidden layers.
        bias: of the rating.
    """
    stack = dense_stack(sizes, activation, ends_active=True)
    critic = nn.Sequential(nn.Flatten(), stack, nn.Linear(sizes[-1], 1, bias=bias))
    initialize(critic, default_initializer(activation))
    return critic


def bound_slopes(critic: nn.Module) -> None:
    """Divide each matrix of a network by its largest singular value (1802.05957)."""
    for layer in list(critic.modules()):
        if isinstance(layer, nn.Linear | nn.Conv2d):
            normalise_spectrum(layer)
