"""Convolutional network: small filters that are the same everywhere in the image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn, optim

from dlarch.errors import OptionError
from dlarch.nn import Activation, default_initializer, initialize, make_activation, units_before
from dlarch.registry import register_model
from dlarch.tasks import (
    InitializerCallable,
    LossCallable,
    OptimizerCallable,
    SchedulerCallable,
    Supervised,
)


@register_model("cnn")
class CNN(Supervised):
    r"""Look for small patterns everywhere, keep where they are, then look for patterns of those.

    Each stage has convolutions, whose filters W slide over the image,

    $$h_{kij} = f\Big(b_k + \sum_{c,u,v} W_{kcuv}\, x_{c,\,i+u,\,j+v}\Big)$$

    with batch normalisation before the activation f, and halves height and width by taking the
    largest of each 2 x 2, at its end or already after its first convolution, which saves work. The
    last maps are averaged over all places, or read as one row, and give the logits by a linear
    layer. Filters are shared by all places: a shifted image gives shifted maps, with far fewer
    weights than in an MLP.

    Shapes: image (B, C, H, W) -> logits (B, K).

    Y. LeCun et al. (1998), Gradient-based learning applied to document recognition.

    Differences from the paper: (1) ReLU, batch normalisation and maximum pooling instead of
    tanh and scaled means; (2) every map sees all maps below; (3) softmax and likelihood instead
    of radial basis functions; (4) Adam instead of a second-order method; (5) dropout.

    Expected: test/accuracy 0.9963 on MNIST (mean of 5 seeds),
    `dlarch fit --config recipes/cnn_mnist.yaml`; see docs/models/cnn.md.

    Args:
        image_shape: (C, H, W). Taken from the data when not given.
        num_classes: number of classes, K. Taken from the data when not given.
        widths: maps of each stage.
        convolutions: per stage.
        kernel_size: height and width of a filter.
        pool: halve after the "last" or the "first" convolution of each stage.
        activation: f; one of `dlarch.nn.ACTIVATIONS`.
        batch_norm: normalise each map over the batch.
        average: read the mean of each map instead of all its places.
        dropout: share of the linear layer's inputs set to zero in training.
        loss: called with logits (B, K) and labels (B,); cross-entropy when not given.
        optimizer: called with the parameters.
        scheduler: called with the optimizer; steps after each optimizer step.
        initializer: of the weights; what suits the activation when not given.
        pictures: draw mistakes, filters and what else the task has to show.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int] | None = None,
        num_classes: int | None = None,
        widths: Sequence[int] = (32, 64, 128),
        convolutions: int = 2,
        kernel_size: Literal[1, 3, 5, 7] = 3,
        pool: Literal["last", "first"] = "last",
        activation: Activation = "relu",
        batch_norm: bool = True,
        average: bool = False,
        dropout: float = 0.0,
        loss: LossCallable | None = None,
        optimizer: OptimizerCallable = lambda parameters: optim.Adam(parameters, lr=1e-3),
        scheduler: SchedulerCallable | None = None,
        initializer: InitializerCallable | None = None,
        pictures: bool = True,
    ) -> None:
        super().__init__(
            optimizer=optimizer,
            loss=loss,
            scheduler=scheduler,
            initializer=initializer,
            pictures=pictures,
        )
        if convolutions < 1 or not widths or min(widths) < 1:
            raise OptionError("A CNN needs at least one stage of at least one map and convolution.")
        self.save_hyperparameters()
        self.build_if_known()

    def build(self, image_shape: tuple[int, int, int], num_classes: int) -> None:
        """Make the layers, in the order in which data meet them."""
        options = self.hparams
        channels, height, width = image_shape
        if min(height, width) < 2 ** len(options.widths):
            raise OptionError(
                f"Images of {height} x {width} are too small for {len(options.widths)} stages, "
                "each of which halves them: give fewer --model.widths."
            )
        self.stages = nn.Sequential()
        for size in options.widths:
            pooled = 0 if options.pool == "first" else options.convolutions - 1
            for place in range(options.convolutions):
                self.stages.append(self.convolution(channels, size))
                channels = size
                if place == pooled:
                    self.stages.append(nn.MaxPool2d(2))
            height, width = height // 2, width // 2
        self.dropout = nn.Dropout(options.dropout)
        self.output = nn.Linear(channels * (1 if options.average else height * width), num_classes)
        initialize(self, default_initializer(options.activation))

    def convolution(self, channels: int, size: int) -> nn.Sequential:
        """Filters, normalisation and activation: (B, C, H, W) -> (B, size, H, W)."""
        options = self.hparams
        activation = make_activation(options.activation)
        maps = size * units_before(activation)
        layers = nn.Sequential(
            nn.Conv2d(
                channels,
                maps,
                options.kernel_size,
                padding=options.kernel_size // 2,
                bias=not options.batch_norm,  # batch normalisation has a bias of its own
            )
        )
        if options.batch_norm:
            layers.append(nn.BatchNorm2d(maps))
        return layers.append(activation)

    def forward(self, image: Tensor) -> Tensor:
        """Images (B, C, H, W) to logits (B, K)."""
        # With a place's channels side by side in memory, convolutions are faster.
        maps = self.stages(image.contiguous(memory_format=torch.channels_last))
        features = maps.mean((2, 3)) if self.hparams.average else torch.flatten(maps, 1)
        logits: Tensor = self.output(self.dropout(features))
        return logits
