"""Deep embedded clustering: an autoencoder's codes draw together around centers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn, optim

from dlarch.batches import ImageBatch
from dlarch.models.autoencoders.autoencoder import Autoencoder
from dlarch.models.autoencoders.sources import described_autoencoder, trained_autoencoder
from dlarch.nn import Activation, Likelihood, membership_kl, student_memberships
from dlarch.registry import register_model
from dlarch.tasks import (
    ClusteredImages,
    ImageAutoencoder,
    InitializerCallable,
    OptimizerCallable,
    SchedulerCallable,
)


@register_model("dec", paper="1511.06335")
class DEC(ClusteredImages):
    r"""Sort images into clusters without being told what they are.

    An autoencoder comes first; its decoder is then left alone. k-means on all codes z places the
    centers $\mu$, and encoder and centers learn on together. A code belongs to clusters by
    Student's t, and should belong more surely to those that it belongs to already, none being
    favoured for its size:

    $$q_{ij} = \frac{(1 + \lVert z_i - \mu_j \rVert^2)^{-1}}
                    {\sum_k (1 + \lVert z_i - \mu_k \rVert^2)^{-1}} \qquad
      p_{ij} = \frac{q_{ij}^2 / f_j}{\sum_k q_{ik}^2 / f_k}, \quad f_j = \sum_i q_{ij} \qquad
      L = \tfrac{1}{B} \sum_i \sum_j p_{ij} \log \frac{p_{ij}}{q_{ij}}$$

    p is worked out from all training images every `update_steps` steps and held until then.
    Training ends when hardly any image has moved to another cluster since the last time.

    Shapes: image (B, C, H, W) -> code (B, D) -> memberships (B, K); code -> image (B, C, H, W).

    J. Xie, R. Girshick, A. Farhadi (2016), Unsupervised deep embedding for clustering analysis.

    Differences from the paper: (1) the autoencoder is trained as a whole, not layer by layer with
    dropout; (2) Adam for SGD, in both parts; (3) the source may be an autoencoder of any kind.

    Expected: test/cluster_accuracy 0.743 on digits (seed 1),
    `dlarch fit --config recipes/dec.yaml`; see docs/models/dec.md.

    Args:
        image_shape: (C, H, W). Taken from the data when not given.
        num_clusters: K.
        code_size: numbers that are left of an image, D.
        hidden_sizes: widths of the encoder; the decoder mirrors them.
        activation: of the hidden layers.
        likelihood: what the autoencoder's loss takes pixels for, "gaussian" or "bernoulli".
        source: in place of these four, the run folder, checkpoint, pretrained folder or Hub id of
            an autoencoder, which needs no epochs of its own any more; or, untrained, the `name` of
            one with its arguments, which is what a saved model has here.
        pretrain_epochs: epochs as an autoencoder.
        restarts: of k-means, of which that of the least inertia is kept.
        update_steps: optimizer steps after which p is worked out anew.
        tolerance: share of training images that moved below which training ends.
        optimizer: called with the parameters.
        scheduler: called with the optimizer; steps after each optimizer step.
        initializer: of the weights of the autoencoder; by the activation when not given.
        pictures: draw reconstructions, nearest images, codes and moves between clusters.
    """

    resolved_arguments: ClassVar[tuple[str, ...]] = ("source", "pretrain_epochs", "code_size")
    placed: Tensor

    def __init__(
        self,
        image_shape: tuple[int, int, int] | None = None,
        num_clusters: int = 10,
        code_size: int = 10,
        hidden_sizes: Sequence[int] = (500, 500, 2000),
        activation: Activation = "relu",
        likelihood: Likelihood = "gaussian",
        source: dict[str, Any] | str | None = None,
        pretrain_epochs: int = 50,
        restarts: int = 20,
        update_steps: int = 140,
        tolerance: float = 0.001,
        optimizer: OptimizerCallable = lambda parameters: optim.Adam(parameters, lr=1e-3),
        scheduler: SchedulerCallable | None = None,
        initializer: InitializerCallable | None = None,
        pictures: bool = True,
    ) -> None:
        super().__init__(
            num_clusters=num_clusters,
            pretrain_epochs=pretrain_epochs,
            restarts=restarts,
            update_steps=update_steps,
            tolerance=tolerance,
            optimizer=optimizer,
            scheduler=scheduler,
            pictures=pictures,
        )
        self.inner_initializer = initializer  # not of weights that come from a run
        self.save_hyperparameters()
        self.build_if_known()

    def build(self, image_shape: tuple[int, int, int]) -> None:
        """Make or find the autoencoder, and make centers, which k-means will place."""
        options, source = self.hparams, self.hparams.source
        self.autoencoder: ImageAutoencoder
        if isinstance(source, str):
            self.autoencoder, described = trained_autoencoder(source, image_shape)
            options.update(source=described, pretrain_epochs=0)
        elif source is not None:
            self.autoencoder = described_autoencoder(source, image_shape)
        else:
            self.autoencoder = Autoencoder(
                image_shape=image_shape,
                code_size=options.code_size,
                hidden_sizes=options.hidden_sizes,
                activation=options.activation,
                likelihood=options.likelihood,
                initializer=self.inner_initializer,
            )
        options.update(code_size=self.autoencoder.hparams.code_size)
        self._decoding = self.autoencoder.only_decodes()  # in a list, to be no parts of their own
        self.centers = nn.Parameter(torch.randn(options.num_clusters, options.code_size))
        self.register_buffer("placed", torch.tensor(False))  # travels with the weights

    def encode(self, image: Tensor) -> Tensor:
        """Codes (B, D) of images (B, C, H, W), 0 to 1."""
        return self.autoencoder.encode(image)

    def decode(self, code: Tensor) -> Tensor:
        """Images (B, C, H, W), 0 to 1, from codes (B, D)."""
        return self.autoencoder.decode(code)

    def memberships(self, code: Tensor) -> Tensor:
        """How much codes (B, D) belong to each cluster: (B, K), q."""
        return student_memberships(code, self.centers)

    def pretraining_losses(self, batch: ImageBatch) -> Tensor:
        """The loss of each image as an autoencoder, (B,)."""
        return self.autoencoder.losses(batch)

    def clustering_losses(self, image: Tensor, code: Tensor, targets: Tensor) -> Tensor:
        """The divergence (B,) of memberships of codes (B, D) from what they should be, (B, K)."""
        return membership_kl(targets, self.memberships(code))

    def weights(self) -> tuple[float, float]:
        """What squared errors and divergence count in the loss of clusters."""
        return 0.0, 1.0

    def idle(self) -> list[nn.Parameter]:
        """The decoder when there are clusters, before that the centers."""
        return self._decoding if self.placed else [self.centers]
