"""Feature-consistent VAE: images are compared by what another network sees in them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor, optim
from torchmetrics import Metric

from dlarch.errors import OptionError
from dlarch.models.autoencoders.vae import VAE
from dlarch.models.vision.bodies import find_body
from dlarch.nn import Activation, bernoulli_nll, initialize, watched
from dlarch.registry import register_model
from dlarch.tasks import InitializerCallable, LatentImages, OptimizerCallable, SchedulerCallable

logger = logging.getLogger(__name__)


@register_model("dfc_vae", paper="1610.00291")
class DFCVAE(VAE):
    r"""Draw an image that a trained network takes for the same, not one whose pixels are the same.

    The networks are those of a VAE. What comes back is compared with the image by the features
    $\Phi_l$ that another network, the body, finds in both, C x H x W numbers in its layer l. What
    is minimised of an image is

    $$\sum_d KL(q(z_d|x) \,\|\, N(0, 1)) + \beta \sum_l \frac{1}{2 C_l H_l W_l}
      \lVert \Phi_l(x) - \Phi_l(\hat x) \rVert^2$$

    and, if asked for, the cross-entropy of the pixels. A stroke that is a little aside costs
    little, a blurred one much. The body is a network of torchvision trained on ImageNet, or any
    dlarch model of images that was trained before. Nothing trains it; it stays in eval mode, and
    sees images normalised as it has learnt them. What lies behind the last of its layers that are
    compared is left out, and the rest is stored with the model.

    Shapes: image (B, C, H, W) -> mean and log variance (B, D) -> code (B, D) -> logits
    (B, C, H, W) -> image -> features of each layer.

    Differences from the paper: (1) any body and any of its layers, not VGG-19 alone; (2) the
    encoder and decoder of `vae`, without batch normalisation, whose decoder doubles by transposed
    convolutions and not by copying pixels; (3) pixels come out of a sigmoid; (4) pixels may be
    compared besides.

    Expected: see docs/models/dfc_vae.md, `dlarch fit --config recipes/dfc_vae.yaml`.

    Args:
        image_shape: (C, H, W). Taken from the data when not given.
        code_size: dimensions of the code, D.
        hidden_sizes: units of the encoder's dense layers; the decoder mirrors them.
        widths: maps of convolutions before these, each of which halves the image; none at all gives
            a dense network.
        activation: of the hidden layers.
        body: what finds the features: `resnet18`, `resnet34`, `resnet50`, `vgg16` or `vgg19` of
            torchvision; a run folder, checkpoint, pretrained folder or Hub id of a dlarch model;
            or, untrained, the name of a dlarch model, or its `name` with its arguments, which is
            what a saved model has here.
        weights: of a torchvision body: `DEFAULT`, `IMAGENET1K_V1` or another name of theirs, which
            is downloaded; random when not given.
        resize: height and width that images are brought to for the body; when not given those that
            a dlarch body was trained on, for torchvision's those of the data, at least 32.
        layers: of the body, whose outputs are compared; when not given all activations.
        feature_weight: beta, what the errors of features cost beside a nat of divergence.
        pixel_weight: what a nat of the pixels costs; 0 leaves pixels alone.
        optimizer: called with the parameters, of which the body has none.
        scheduler: called with the optimizer; steps after each optimizer step.
        initializer: of all weights but the body's; by the activation when not given.
        pictures: draw reconstructions, samples, traversals, interpolations and codes.
    """

    resolved_arguments: ClassVar[tuple[str, ...]] = ("body", "weights", "resize", "layers")

    def __init__(
        self,
        image_shape: tuple[int, int, int] | None = None,
        code_size: int = 50,
        hidden_sizes: Sequence[int] = (200, 200),
        widths: Sequence[int] = (),
        activation: Activation = "relu",
        body: dict[str, Any] | str = "cnn",
        weights: str | None = None,
        resize: int | tuple[int, int] | None = None,
        layers: Sequence[str] = (),
        feature_weight: float = 100.0,
        pixel_weight: float = 0.0,
        optimizer: OptimizerCallable = lambda parameters: optim.Adam(parameters, lr=1e-3),
        scheduler: SchedulerCallable | None = None,
        initializer: InitializerCallable | None = None,
        pictures: bool = True,
    ) -> None:
        LatentImages.__init__(
            self,
            likelihood="bernoulli",
            importance_samples=1,
            optimizer=optimizer,
            scheduler=scheduler,
            pictures=pictures,
        )
        self.inner_initializer = initializer  # not of the body's weights
        if feature_weight <= 0 or pixel_weight < 0:
            raise OptionError(
                "feature_weight must be above 0 and pixel_weight 0 or more, not "
                f"{feature_weight:g} and {pixel_weight:g}."
            )
        self.headline = "test/loss"  # features have no likelihood of the image
        self.save_hyperparameters()
        self.build_if_known()

    def build(self, image_shape: tuple[int, int, int]) -> None:
        """Make the layers of the VAE, and find the body."""
        super().build(image_shape)
        if self.inner_initializer is not None:
            initialize(self, self.inner_initializer)
        options = self.hparams
        self.body = find_body(options.body, options.weights, options.resize, image_shape, 2)
        layers = self.body.keep(options.layers, image_shape)
        self.body.expect([0.0] * image_shape[0], [1.0] * image_shape[0])  # images come as 0 to 1
        options.update(layers=tuple(layers))
        if self.body.trained:  # a saved model has its weights, and must not ask for them again
            size = None if isinstance(self.body.makes, str) else tuple(self.body.size)
            options.update(body=self.body.makes, weights=None, resize=size or options.resize)

    def train(self, mode: bool = True) -> DFCVAE:
        """Set training mode, but for the body, which stays in eval mode."""
        super().train(mode)
        if hasattr(self, "body"):
            self.body.eval()
        return self

    def on_fit_start(self) -> None:
        """Warn of a body that has learnt nothing."""
        super().on_fit_start()
        if not self.body.trained and self.trainer.ckpt_path is None and not self.provenance:
            logger.warning(
                "The body has random weights: give as --model.body the run of a trained "
                "classifier, or --model.weights DEFAULT with a network of torchvision."
            )

    def features(self, image: Tensor) -> dict[str, Tensor]:
        """What the body's layers make of images (B, C, H, W), 0 to 1."""
        with watched(self.body.layers(self.hparams.layers)) as seen:
            self.body(image)
        return {name: signal.outputs for name, signal in seen.items()}

    def nats(self, image: Tensor, code: Tensor, label: Tensor | None = None) -> Tensor:
        """What stands in the place of -log p(image | code), (B,): weighted errors of features."""
        output = self.output(code, label).float()
        wanted, found = self.features(image), self.features(output.sigmoid())
        errors = [
            0.5 * (found[name].float() - wanted[name].float()).square().flatten(1).mean(1)
            for name in wanted
        ]
        total: Tensor = self.hparams.feature_weight * sum(errors)
        if self.hparams.pixel_weight:
            total = total + self.hparams.pixel_weight * bernoulli_nll(output, image)
        return total

    def metrics(self, stage: str) -> dict[str, Metric]:
        """Those of a VAE, but for the likelihood, of which features tell nothing."""
        found = super().metrics(stage)
        found.pop(f"nll_is{self.importance_samples}", None)
        return found
