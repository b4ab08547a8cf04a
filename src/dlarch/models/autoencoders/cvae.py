"""Conditional VAE: an autoencoder that is told the class, so that its code holds what is left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn, optim

from dlarch.errors import OptionError
from dlarch.models.autoencoders.networks import ImageDecoder, ImageEncoder
from dlarch.models.autoencoders.vae import VAE
from dlarch.nn import Activation, Likelihood, default_initializer, initialize
from dlarch.registry import register_model
from dlarch.tasks import (
    Annealing,
    InitializerCallable,
    LatentImages,
    OptimizerCallable,
    Schedule,
    SchedulerCallable,
    as_bytes,
)


@register_model("cvae", paper="1406.5298")
class CVAE(VAE):
    r"""Tell encoder and decoder the class of an image; draw new images of any class.

    Maximises a lower bound of the likelihood of an image x, given its class y, in nats:

    $$\log p(x|y) \ge E_{q(z|x,y)} \log p(x|z,y) - \sum_d KL(q(z_d|x,y) \,\|\, N(0, 1))$$

    The class stands as a 1 among K numbers behind what the encoder's first dense layer reads, and
    behind the code. The prior does not depend on it: what the class tells need not be in the code,
    which is left with everything else, such as slant and stroke. An image of a class is decoded
    from z ~ N(0, 1) and its y; the same z with other classes gives images of one style.

    Shapes: image (B, C, H, W), class (B,) -> mean and log variance (B, D) -> code (B, D) -> logits
    or means (B, C, H, W).

    Differences from the paper: (1) its model M2 with all classes known, so that none is inferred;
    (2) the variance of q depends on the class too, not only its mean; (3) tanh, and Adam.

    Expected: see docs/models/cvae.md, `dlarch fit --config recipes/cvae.yaml`.

    Args:
        image_shape: (C, H, W). Taken from the data when not given.
        num_classes: K. Taken from the data when not given.
        code_size: dimensions of the code, D.
        hidden_sizes: units of the encoder's dense layers; the decoder mirrors them.
        widths: maps of convolutions before these, each of which halves the image; none at all gives
            a dense network.
        activation: of the hidden layers.
        likelihood: of pixels: "bernoulli", or "gaussian" with one learned variance.
        annealing: how the weight of the KL term rises: "none" (1 at once), "linear", "logistic", or
            "cyclical".
        annealing_steps: optimizer steps until it is 1, or of a cycle.
        importance_samples: codes that are drawn for each image of the test, for nll_is.
        optimizer: called with the parameters.
        scheduler: called with the optimizer; steps after each optimizer step.
        initializer: of all weights; by the activation when not given.
        pictures: draw reconstructions, samples, traversals, interpolations and codes.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int] | None = None,
        num_classes: int | None = None,
        code_size: int = 50,
        hidden_sizes: Sequence[int] = (200, 200),
        widths: Sequence[int] = (),
        activation: Activation = "tanh",
        likelihood: Likelihood = "bernoulli",
        annealing: Schedule = "none",
        annealing_steps: int = 1000,
        importance_samples: int = 100,
        optimizer: OptimizerCallable = lambda parameters: optim.Adam(parameters, lr=1e-3),
        scheduler: SchedulerCallable | None = None,
        initializer: InitializerCallable | None = None,
        pictures: bool = True,
    ) -> None:
        LatentImages.__init__(
            self,
            likelihood=likelihood,
            importance_samples=importance_samples,
            annealing=Annealing(annealing, annealing_steps),
            optimizer=optimizer,
            scheduler=scheduler,
            initializer=initializer,
            pictures=pictures,
        )
        self.save_hyperparameters()
        self.build_if_known()

    def build(self, image_shape: tuple[int, int, int], num_classes: int) -> None:  # type: ignore[override]
        """Make the layers, in the order in which data meet them."""
        options = self.hparams
        network = (image_shape, options.widths, options.hidden_sizes, options.activation)
        self.encoder = ImageEncoder(*network, num_classes)
        self.mean = nn.Linear(self.encoder.out_features, options.code_size)
        self.log_variance = nn.Linear(self.encoder.out_features, options.code_size)
        self.decoder = ImageDecoder(*network, options.code_size, num_classes)
        initialize(self, default_initializer(options.activation))
        if options.likelihood == "gaussian":
            self.pixel_log_variance = nn.Parameter(torch.zeros(()))

    @property
    def told_classes(self) -> int:
        """K."""
        return int(self.hparams.num_classes)

    def forward(self, image: Tensor, label: Tensor) -> Tensor:  # type: ignore[override]
        """Reconstruct images (B, C, H, W), 0 to 1, of classes (B,)."""
        return self.decode(self.encode(image, label), label)

    @torch.inference_mode()
    def reconstruct(self, images: Sequence[Any], classes: Sequence[str] | None = None) -> list[Any]:
        """Squeeze images into codes, and draw them again: as they are, or as of other classes.

        Args:
            images: files, pictures or pixels.
            classes: the name of the class of each.

        Returns:
            Pixels (H, W, C), uint8, of each.

        Raises:
            OptionError: there is not one class for each image.
            DataError: there is no such class.
        """
        if classes is None or len(classes) != len(images):
            raise OptionError("The model must be told the class of each image: give classes.")
        processor = self._own_processor()
        tensors = processor.to_unit(processor.encode(images).image).to(self.device)
        label = torch.tensor([processor.label(name) for name in classes], device=self.device)
        return as_bytes(self.evaluated(lambda: self(tensors, label)))
