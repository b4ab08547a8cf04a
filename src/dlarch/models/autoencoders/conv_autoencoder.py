"""Convolutional autoencoder: convolutions down to a code, transposed convolutions back up."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn, optim

from dlarch.batches import ImageBatch
from dlarch.errors import OptionError
from dlarch.nn import (
    Activation,
    Likelihood,
    as_pixels,
    bernoulli_nll,
    default_initializer,
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

KERNEL, STRIDE, PADDING = 4, 2, 1
"""Of all convolutions. The stride divides the kernel, so that each pixel of the way back is made by
equally many filters' places: otherwise a chequerboard shows through."""


@register_model("conv_autoencoder")
class ConvAutoencoder(ImageAutoencoder):
    r"""Halve an image again and again by convolutions, and double it again on the way back.

    Stage l looks with filters W of 4 x 4 pixels at every second place, so that height and width are
    halved; on the way back each place of the small maps writes a patch of 4 x 4 into the large
    ones, and patches add up, which is the transpose of that convolution:

    $$h^{l}_{kij} = f\Big(b_k + \sum_{c,u,v} W_{kcuv}\, h^{l-1}_{c,\,2i+u-1,\,2j+v-1}\Big) \qquad
      g^{l-1}_{c,\,2i+u-1,\,2j+v-1} \mathrel{+}= V_{kcuv}\, g^{l}_{kij}$$

    Between them a linear layer makes the code z of the last maps, and another one maps of the code.
    Odd sides lose a row when they are halved, and get it back: the image is of the size it was.
    Minimises what `autoencoder` does, squared errors or cross-entropy summed over pixels. Filters
    are the same everywhere, so that there are far fewer weights.

    Shapes: image (B, C, H, W) -> maps (B, K, H / 2^L, W / 2^L) -> code (B, D) -> maps -> image
    (B, C, H, W).

    J. Masci, U. Meier, D. Ciresan, J. Schmidhuber (2011), Stacked convolutional auto-encoders.

    Differences from the paper: (1) strides instead of maximum pooling; (2) transposed convolutions
    instead of convolutions of maps made larger; (3) a code that is one vector; (4) trained as a
    whole, not stage by stage; (5) ReLU for tanh, Adam.

    Expected: test/sse 0.932 on digits (seed 1), `dlarch fit --config
    recipes/conv_autoencoder.yaml`; see docs/models/conv_autoencoder.md.

    Args:
        image_shape: (C, H, W). Taken from the data when not given.
        code_size: numbers that are left of an image, D.
        widths: maps of each stage; each halves height and width.
        activation: f.
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
        widths: Sequence[int] = (32, 64),
        activation: Activation = "relu",
        likelihood: Likelihood = "bernoulli",
        optimizer: OptimizerCallable = lambda parameters: optim.Adam(parameters, lr=1e-3),
        scheduler: SchedulerCallable | None = None,
        initializer: InitializerCallable | None = None,
        pictures: bool = True,
    ) -> None:
        super().__init__(
            optimizer=optimizer, scheduler=scheduler, initializer=initializer, pictures=pictures
        )
        if not widths or min(widths) < 1:
            raise OptionError("A convolutional autoencoder needs at least one stage of one map.")
        self.save_hyperparameters()
        self.build_if_known()

    def build(self, image_shape: tuple[int, int, int]) -> None:
        """Make the layers, in the order in which data meet them."""
        options = self.hparams
        channels, height, width = image_shape
        if min(height, width) < 2 ** len(options.widths):
            raise OptionError(
                f"Images of {height} x {width} are too small for {len(options.widths)} stages, "
                "each of which halves them: give fewer --model.widths."
            )
        maps = [channels, *options.widths]
        sizes = [(height >> stage, width >> stage) for stage in range(len(maps))]
        flat = maps[-1] * sizes[-1][0] * sizes[-1][1]
        pieces = units_before(make_activation(options.activation))

        self.encoder = nn.Sequential()
        for before, after in pairwise(maps):
            self.encoder.append(nn.Conv2d(before, after * pieces, KERNEL, STRIDE, PADDING))
            self.encoder.append(make_activation(options.activation))
        self.encoder.append(nn.Flatten())
        self.encoder.append(nn.Linear(flat, options.code_size))

        self.decoder = nn.Sequential(
            nn.Linear(options.code_size, flat * pieces),
            make_activation(options.activation),
            nn.Unflatten(1, (maps[-1], *sizes[-1])),
        )
        for stage in reversed(range(len(options.widths))):
            odd = (sizes[stage][0] % 2, sizes[stage][1] % 2)
            outputs = maps[stage] * (pieces if stage else 1)
            self.decoder.append(
                nn.ConvTranspose2d(
                    maps[stage + 1], outputs, KERNEL, STRIDE, PADDING, output_padding=odd
                )
            )
            if stage:
                self.decoder.append(make_activation(options.activation))
        initialize(self, default_initializer(options.activation))

    def encode(self, image: Tensor) -> Tensor:
        """Codes (B, D) of images (B, C, H, W), 0 to 1."""
        code: Tensor = self.encoder(image)
        return code

    def decode(self, code: Tensor) -> Tensor:
        """Images (B, C, H, W), 0 to 1, from codes (B, D)."""
        return as_pixels(self.decoder(code), self.hparams.likelihood)

    def losses(self, batch: ImageBatch) -> Tensor:
        """What is lost of each image, (B,), summed over its pixels."""
        output = self.decoder(self.encode(batch.image))
        if self.hparams.likelihood == "bernoulli":
            return bernoulli_nll(output, batch.image)
        return squared_error(output, batch.image)
