"""DCGAN: generator and critic of convolutions, with the rules that made them learn."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from dlarch.batches import ImageBatch
from dlarch.errors import OptionError
from dlarch.models.gans.gan import bound_slopes, cross_entropies
from dlarch.nn import Constant, initialize
from dlarch.optim import CalmAdam
from dlarch.registry import register_model
from dlarch.tasks import (
    Adversarial,
    InitializerCallable,
    OptimizerCallable,
    SchedulerCallable,
)

Norm = Literal["batch", "layer", "none"]
"""What the maps of a critic are normalised over."""


@register_model("dcgan", paper="1511.06434")
class DCGAN(Adversarial):
    r"""Make images by transposed convolutions, and rate them by convolutions.

    The generator spreads the noise over a few small maps and doubles their sides layer by layer,
    halving their number; the critic does the reverse. What made such networks learn: strided
    convolutions instead of pooling, batch normalisation but for the generator's last and the
    critic's first layer, ReLU in the generator and leaky ReLU in the critic, weights from N(0,
    0.02), Adam with $\beta_1 = 0.5$. Losses are those of `gan`, the generator's not saturating:

    $$L_D = -E_x \log D(x) - E_z \log (1 - D(G(z))), \qquad L_G = -E_z \log D(G(z))$$

    Sides are halved until the shorter one is 4 to 7, so that any image of at least 16 pixels will
    do; what the generator makes too large is cut off at the lower right edge. With spectral
    normalisation (1802.05957) the critic has no batch normalisation.

    Shapes: noise (B, Z) -> maps (B, 2^(k-1) N, H / 2^k, W / 2^k) -> image (B, C, H, W) -> rating
    (B,).

    Differences from the paper: (1) normal noise instead of uniform; (2) a linear layer instead of a
    convolution over whole maps, which is the same; (3) images of other sizes; (4) packing, spectral
    normalisation and an average of the generator's weights if asked for.

    Expected: see docs/models/dcgan.md, `dlarch fit --config recipes/dcgan.yaml`.

    Args:
        image_shape: (C, H, W). Taken from the data when not given.
        noise_size: numbers that an image is made from, Z.
        width: maps of the layer next to the image, N; each halving of their sides doubles them.
        packing: images that the critic sees at once.
        spectral_norm: divide the critic's matrices by their largest singular values.
        critic_steps: of the critic, for each step of the generator.
        ema: what an average of the generator's weights keeps of itself at each step; it then makes
            the images outside of training. 0 for none.
        judge: run folder of a classifier of such images, which scores the images made.
        optimizer: of the generator, called with its parameters.
        critic_optimizer: of the critic, called with its parameters.
        scheduler: called with each of the two optimizers; steps after each step of its own.
        initializer: of all weights; N(0, 0.02) when not given.
        pictures: draw images that are made from fixed noise at each validation.
    """

    batch_type = ImageBatch

    def __init__(
        self,
        image_shape: tuple[int, int, int] | None = None,
        noise_size: int = 100,
        width: int = 64,
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

    def build(self, image_shape: tuple[int, int, int]) -> None:
        """Make the layers, in the order in which data meet them."""
        options = self.hparams
        channels, height, width = image_shape
        self.generator = convolutional_generator(options.noise_size, image_shape, options.width)
        self.critic = convolutional_critic(
            (channels * options.packing, height, width),
            options.width,
            "none" if options.spectral_norm else "batch",
        )
        if options.spectral_norm:
            bound_slopes(self.critic)

    def critic_losses(self, real: Tensor, made: Tensor) -> Tensor:
        """-log D(x) - log(1 - D(G(z))), (B,)."""
        return cross_entropies(real, made)

    def generator_losses(self, made: Tensor) -> Tensor:
        """-log D(G(z)), (B,)."""
        return F.softplus(-made)


class Cropped(nn.Module):
    """Cuts images off at the lower right edge.

    Args:
        height: that is left.
        width: that is left.
    """

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height, self.width = height, width

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, height, width)."""
        return image[..., : self.height, : self.width]


def halvings(height: int, width: int) -> int:
    """How often the sides of an image are halved, until the shorter one is 4 to 7.

    Raises:
        OptionError: the image is too small to be halved twice.
    """
    if min(height, width) < 16:
        raise OptionError(
            f"Images of {height} x {width} pixels are too small for these convolutions, which need "
            "16 x 16: take a dense model (gan), or larger images."
        )
    return int(math.log2(min(height, width) / 4))


def convolutional_generator(
    noise_size: int, image_shape: tuple[int, int, int], width: int
) -> nn.Sequential:
    """Transposed convolutions from noise (B, Z) to images (B, C, H, W), before their tanh."""
    channels, height, length = image_shape
    count = halvings(height, length)
    maps = width * 2 ** (count - 1)
    first = (maps, math.ceil(height / 2**count), math.ceil(length / 2**count))
    layers: list[nn.Module] = [
        nn.Linear(noise_size, math.prod(first), bias=False),
        nn.Unflatten(1, first),
        nn.BatchNorm2d(maps),
        nn.ReLU(),
    ]
    for _ in range(count - 1):
        layers += [
            nn.ConvTranspose2d(maps, maps // 2, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(maps // 2),
            nn.ReLU(),
        ]
        maps //= 2
    last = nn.ConvTranspose2d(maps, channels, 4, stride=2, padding=1)
    return drawn(nn.Sequential(*layers, last, Cropped(height, length)))


def convolutional_critic(
    image_shape: tuple[int, int, int], width: int, norm: Norm, bias: bool = True
) -> nn.Sequential:
    """Convolutions from images (B, C, H, W) to ratings (B, 1).

    Args:
        image_shape: (C, H, W).
        width: maps of the first layer.
        norm: of the maps of the other layers.
        bias: of the rating.
    """
    channels, height, length = image_shape
    count = halvings(height, length)
    layers: list[nn.Module] = [
        nn.Conv2d(channels, width, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
    ]
    for _ in range(count - 1):
        layers.append(nn.Conv2d(width, 2 * width, 4, stride=2, padding=1, bias=norm == "none"))
        if norm != "none":
            layers.append(
                nn.BatchNorm2d(2 * width) if norm == "batch" else nn.GroupNorm(1, 2 * width)
            )
        layers.append(nn.LeakyReLU(0.2))
        width *= 2
    places = (height // 2**count) * (length // 2**count)
    return drawn(nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * places, 1, bias=bias)))


def drawn(network: nn.Sequential) -> nn.Sequential:
    """The network with all weights from N(0, 0.02), those of normalisations from N(1, 0.02)."""
    initialize(network, Constant(0.02))
    with torch.no_grad():
        for layer in network:
            if isinstance(layer, nn.BatchNorm2d):
                layer.weight.normal_(1.0, 0.02)
    return network
