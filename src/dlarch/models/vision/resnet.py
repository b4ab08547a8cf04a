"""Residual network: layers that learn what to add to their input."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn, optim
from torch.nn import functional as F  # noqa: N812

from dlarch.nn import He, initialize
from dlarch.registry import register_model
from dlarch.tasks import (
    InitializerCallable,
    LossCallable,
    OptimizerCallable,
    SchedulerCallable,
    Supervised,
)

IMAGENET_BLOCKS = {18: (2, 2, 2, 2)}
"""Blocks of each stage by depth; other depths are 6n + 2, three stages of n blocks."""

Shortcut = Literal["projection", "zeros"]


class ResidualBlock(nn.Module):
    r"""Two convolutions F and a shortcut s around them: $y = \max(0, F(x) + s(x))$.

    Where the block halves the image and widens the maps, x does not have the shape of F(x). The
    shortcut then keeps every other row and column, and either fills the missing maps with zeros or
    mixes the maps by a convolution of 1 x 1.

    Args:
        channels: maps that come in, C.
        maps: that go out, M.
        stride: 2 halves height and width.
        shortcut: "zeros" or "projection", where the shape changes.
    """

    def __init__(self, channels: int, maps: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.convolution1 = nn.Conv2d(channels, maps, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(maps)
        self.activation1 = nn.ReLU()
        self.convolution2 = nn.Conv2d(maps, maps, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(maps)
        self.activation2 = nn.ReLU()
        self.stride, self.missing = stride, maps - channels
        self.projection: nn.Module | None = None
        if shortcut == "projection" and (stride > 1 or channels != maps):
            self.projection = nn.Sequential(
                nn.Conv2d(channels, maps, 1, stride, bias=False), nn.BatchNorm2d(maps)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, M, H / stride, W / stride), odd sides rounded up."""
        residual = self.activation1(self.norm1(self.convolution1(x)))
        residual = self.norm2(self.convolution2(residual))
        output: Tensor = self.activation2(residual + self.shortcut(x))
        return output

    def shortcut(self, x: Tensor) -> Tensor:
        """The input, brought to the shape of the output."""
        if self.projection is not None:
            projected: Tensor = self.projection(x)
            return projected
        if self.stride == 1 and self.missing == 0:
            return x
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.missing))


@register_model("resnet", paper="1512.03385")
class ResNet(Supervised):
    r"""Add to each input what two convolutions make of it, so that depth costs nothing.

    A block computes $y = \max(0, F(x) + x)$: with F = 0 it changes nothing, so more blocks need not
    be worse than fewer, and the gradient reaches all of them through the sum. F is convolution,
    batch normalisation, ReLU, convolution, batch normalisation. Each stage but the first begins
    with a block that halves height and width and doubles the maps. The last maps are averaged
    over all places and give the logits by a linear layer.

    Depth counts the layers with weights from image to logits: 6n + 2 (20, 32, 44, 56, 110 in the
    paper; 8 and 14 are smaller ones) is three stages of n blocks, with 16, 32 and 64 maps, for
    small images; 18 is four stages of two blocks, with 64 to 512 maps, made for ImageNet.

    Shapes: image (B, C, H, W) -> logits (B, K).

    Differences from the paper: (1) the mean of each channel of the images is subtracted, not that
    of each pixel, and its deviation divided by; (2) depth 18 has projection shortcuts, as became
    usual, where the paper reports its zero-padded ones too.

    Expected: test/accuracy 0.996 on digits (mean of seeds 1 to 3),
    `dlarch fit --config recipes/resnet.yaml`; see docs/models/resnet.md.

    Args:
        image_shape: (C, H, W). Taken from the data when not given.
        num_classes: number of classes, K. Taken from the data when not given.
        depth: layers with weights.
        width: maps of the first stage, doubled by each further one; 16, and 64 with depth 18, when
            not given.
        stem: "small" begins with a convolution of 3 x 3; "large", for images like ImageNet's,
            with one of 7 x 7 and maximum pooling, which each halve height and width.
        shortcut: where the shape changes: "zeros" for the maps that are missing (option A of the
            paper), or a "projection" (option B); "zeros", with depth 18 "projection", when not
            given.
        loss: called with logits (B, K) and labels (B,); cross-entropy when not given.
        optimizer: called with the parameters.
        scheduler: called with the optimizer; steps after each optimizer step.
        initializer: of the weights; `He("normal")` when not given.
        pictures: draw confusion matrix and mistakes at each validation.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int] | None = None,
        num_classes: int | None = None,
        depth: Literal[8, 14, 18, 20, 32, 44, 56, 110] = 20,
        width: int | None = None,
        stem: Literal["small", "large"] = "small",
        shortcut: Shortcut | None = None,
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
        self.save_hyperparameters()
        self.build_if_known()

    def build(self, image_shape: tuple[int, int, int], num_classes: int) -> None:
        """Make the layers, in the order in which data meet them."""
        options = self.hparams
        blocks = IMAGENET_BLOCKS.get(options.depth, ((options.depth - 2) // 6,) * 3)
        for_imagenet = options.depth in IMAGENET_BLOCKS
        maps = options.width or (64 if for_imagenet else 16)
        shortcut: Shortcut = options.shortcut or ("projection" if for_imagenet else "zeros")
        self.stem = self.first_layers(image_shape[0], maps)
        self.stages = nn.Sequential()
        channels = maps
        for stage, count in enumerate(blocks):
            maps = maps if stage == 0 else 2 * maps
            for block in range(count):
                stride = 2 if stage > 0 and block == 0 else 1
                self.stages.append(ResidualBlock(channels, maps, stride, shortcut))
                channels = maps
        self.output = nn.Linear(channels, num_classes)
        initialize(self, He("normal"))

    def first_layers(self, channels: int, maps: int) -> nn.Sequential:
        """The stem: (B, C, H, W) to (B, maps, H, W), or a quarter of each side."""
        if self.hparams.stem == "small":
            layers = nn.Sequential(nn.Conv2d(channels, maps, 3, padding=1, bias=False))
        else:
            layers = nn.Sequential(nn.Conv2d(channels, maps, 7, 2, padding=3, bias=False))
        layers.append(nn.BatchNorm2d(maps)).append(nn.ReLU())
        if self.hparams.stem == "large":
            layers.append(nn.MaxPool2d(3, 2, padding=1))
        return layers

    def forward(self, image: Tensor) -> Tensor:
        """Images (B, C, H, W) to logits (B, K)."""
        # With a place's channels side by side in memory, convolutions are faster.
        image = image.contiguous(memory_format=torch.channels_last)
        maps = self.stages(self.stem(image))
        logits: Tensor = self.output(maps.mean((2, 3)))
        return logits
