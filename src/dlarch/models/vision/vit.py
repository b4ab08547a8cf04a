"""Vision transformer: an image is a sequence of patches that look at each other."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn, optim

from dlarch.errors import OptionError
from dlarch.nn import Attended, Glorot, MultiHeadAttention, initialize
from dlarch.registry import register_model
from dlarch.tasks import (
    InitializerCallable,
    LossCallable,
    OptimizerCallable,
    SchedulerCallable,
    Supervised,
)


class Positions(nn.Module):
    """Puts a class token before the patches, if there is one, and says where each of them is.

    Args:
        patches: number of them, T.
        size: of a position, E.
        class_token: whether there is one.
    """

    def __init__(self, patches: int, size: int, class_token: bool) -> None:
        super().__init__()
        self.class_token: Tensor | None = None
        if class_token:
            self.class_token = nn.Parameter(torch.zeros(1, 1, size))
        self.vectors = nn.Parameter(torch.empty(1, patches + class_token, size).normal_(std=0.02))

    def forward(self, patches: Tensor) -> Tensor:
        """Patches (B, T, E) to positions (B, T + 1, E), or (B, T, E) without a class token."""
        if self.class_token is not None:
            token = self.class_token.expand(len(patches), -1, -1)
            patches = torch.cat([token, patches], dim=1)
        return patches + self.vectors


class EncoderBlock(nn.Module):
    """Attention between positions, then a small network at each position, both added to the input.

    Args:
        size: of a position, E.
        heads: of the attention.
        dropout: share of what is added, and of the network's hidden units, set to zero.
    """

    def __init__(self, size: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(size, eps=1e-6)
        self.attention = MultiHeadAttention(size, heads)
        self.norm2 = nn.LayerNorm(size, eps=1e-6)
        self.network = nn.Sequential(
            nn.Linear(size, 4 * size), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * size, size)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, with_weights: bool = False) -> Attended:
        """Positions (B, T, E) to new ones, and the attention's weights if asked for."""
        found = self.attention(self.norm1(x), with_weights=with_weights)
        x = x + self.dropout(found.values)
        return Attended(x + self.dropout(self.network(self.norm2(x))), found.weights)


@register_model("vit", paper="2010.11929", aliases=("vision_transformer",))
class ViT(Supervised):
    r"""Cut an image into patches, and let each look at all others, layer by layer.

    The T patches $x_1 \dots x_T$ of P x P pixels are projected to E dimensions. A learned class
    token stands before them, and to each position a learned vector is added, without which the
    order of the patches would be lost:

    $$z = [c;\, W x_1;\, \dots;\, W x_T] + p$$

    Each block adds attention and then a network of one hidden layer of 4 E units (GELU) to its
    input, which is normalised before each (pre-norm):

    $$z' = z + \mathrm{MSA}(\mathrm{LN}(z)) \qquad z'' = z' + \mathrm{MLP}(\mathrm{LN}(z'))$$

    A linear layer reads the logits off the normalised class token, or off the mean of all patches.

    Shapes: image (B, C, H, W) -> patches (B, T, C P P) -> positions (B, T + 1, E) -> logits (B, K).

    Differences from the paper: (1) trained on the data set itself, with no other images before;
    (2) small by default: 6 blocks of 192 dimensions with 3 heads; (3) Adam without weight decay,
    unless a recipe says otherwise.

    Expected: test/accuracy 0.965 on digits (mean of seeds 1 to 3),
    `dlarch fit --config recipes/vit.yaml`; see docs/models/vit.md.

    Args:
        image_shape: (C, H, W). Taken from the data when not given.
        num_classes: number of classes, K. Taken from the data when not given.
        patch_size: P, height and width of a patch; must divide the image's.
        hidden_size: dimensions of a position, E; a multiple of `heads`.
        layers: blocks of attention and network.
        heads: of each attention.
        pool: what the logits are read from, the "class_token" or the "mean" of the patches, which
            then have no class token.
        dropout: share of the first positions, of what each block adds, and of hidden units, set
            to zero in training.
        loss: called with logits (B, K) and labels (B,); cross-entropy when not given.
        optimizer: called with the parameters.
        scheduler: called with the optimizer; steps after each optimizer step.
        initializer: of the weights; `Glorot` when not given.
        pictures: draw confusion matrix and mistakes at each validation.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int] | None = None,
        num_classes: int | None = None,
        patch_size: int = 4,
        hidden_size: int = 192,
        layers: int = 6,
        heads: int = 3,
        pool: Literal["class_token", "mean"] = "class_token",
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
        self.save_hyperparameters()
        self.build_if_known()

    def build(self, image_shape: tuple[int, int, int], num_classes: int) -> None:
        """Make the layers, in the order in which data meet them."""
        options = self.hparams
        channels, height, width = image_shape
        size, patch = options.hidden_size, options.patch_size
        if height % patch or width % patch:
            raise OptionError(
                f"Images of {height} x {width} cannot be cut into patches of {patch} x {patch}: "
                "give another --model.patch_size."
            )
        self.patches = nn.Conv2d(channels, size, patch, stride=patch)  # one product per patch
        count = (height // patch) * (width // patch)
        self.positions = Positions(count, size, class_token=options.pool == "class_token")
        self.dropout = nn.Dropout(options.dropout)
        self.blocks = nn.Sequential(
            *(EncoderBlock(size, options.heads, options.dropout) for _ in range(options.layers))
        )
        self.norm = nn.LayerNorm(size, eps=1e-6)
        self.output = nn.Linear(size, num_classes)
        initialize(self, Glorot())

    def forward(self, image: Tensor) -> Tensor:
        """Images (B, C, H, W) to logits (B, K)."""
        x = self.embed(image)
        for block in self.blocks:
            x = block(x).values
        x = self.norm(x)
        logits: Tensor = self.output(x.mean(1) if self.hparams.pool == "mean" else x[:, 0])
        return logits

    def embed(self, image: Tensor) -> Tensor:
        """The first positions, (B, T + 1, E), or (B, T, E) without a class token."""
        x = self.patches(image).flatten(2).transpose(1, 2)
        embedded: Tensor = self.dropout(self.positions(x))
        return embedded

    def attention(self, image: Tensor) -> Tensor:
        """What looks at what: (B, layers, heads, T + 1, T + 1), rows adding up to 1."""
        x, weights = self.embed(image), []
        for block in self.blocks:
            found = block(x, with_weights=True)
            x = found.values
            weights.append(found.weights)
        return torch.stack(weights, dim=1)
