"""Improved deep embedded clustering: codes draw together, and must still tell the image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn, optim

from dlarch.errors import OptionError
from dlarch.models.autoencoders.dec import DEC
from dlarch.nn import Activation, Likelihood, squared_error
from dlarch.registry import register_model
from dlarch.tasks import InitializerCallable, OptimizerCallable, SchedulerCallable


@register_model("idec")
class IDEC(DEC):
    r"""Sort images into clusters while the codes still have to tell what the images look like.

    As `dec`, but the decoder goes on learning, so that codes of unlike images are not drawn into
    one point:

    $$L = \tfrac{1}{B} \sum_i \lVert x_i - \hat x_i \rVert^2 +
      \gamma \sum_j p_{ij} \log \frac{p_{ij}}{q_{ij}}$$

    Shapes: image (B, C, H, W) -> code (B, D) -> memberships (B, K); code -> image (B, C, H, W).

    X. Guo, L. Gao, X. Liu, J. Yin (2017), Improved deep embedded clustering with local structure
    preservation.

    Differences from the paper: (1) squared errors are summed over pixels, not averaged, so that the
    paper's weight of 0.1 is 78.4 on images of 784 pixels; (2) the autoencoder is trained as a
    whole, not layer by layer with dropout; (3) the source may be an autoencoder of any kind.

    Expected: test/cluster_accuracy 0.743 on digits (seed 1),
    `dlarch fit --config recipes/idec.yaml`; see docs/models/idec.md.

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
        weight: of the divergence, gamma.
        pretrain_epochs: epochs as an autoencoder.
        restarts: of k-means, of which that of the least inertia is kept.
        update_steps: optimizer steps after which p is worked out anew.
        tolerance: share of training images that moved below which training ends.
        optimizer: called with the parameters.
        scheduler: called with the optimizer; steps after each optimizer step.
        initializer: of the weights of the autoencoder; by the activation when not given.
        pictures: draw reconstructions, nearest images, codes and moves between clusters.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int] | None = None,
        num_clusters: int = 10,
        code_size: int = 10,
        hidden_sizes: Sequence[int] = (500, 500, 2000),
        activation: Activation = "relu",
        likelihood: Likelihood = "gaussian",
        source: dict[str, Any] | str | None = None,
        weight: float = 80.0,
        pretrain_epochs: int = 50,
        restarts: int = 20,
        update_steps: int = 140,
        tolerance: float = 0.001,
        optimizer: OptimizerCallable = lambda parameters: optim.Adam(parameters, lr=1e-3),
        scheduler: SchedulerCallable | None = None,
        initializer: InitializerCallable | None = None,
        pictures: bool = True,
    ) -> None:
        if weight < 0:
            raise OptionError(f"weight must be at least 0, not {weight}.")
        super().__init__(
            image_shape=image_shape,
            num_clusters=num_clusters,
            code_size=code_size,
            hidden_sizes=hidden_sizes,
            activation=activation,
            likelihood=likelihood,
            source=source,
            pretrain_epochs=pretrain_epochs,
            restarts=restarts,
            update_steps=update_steps,
            tolerance=tolerance,
            optimizer=optimizer,
            scheduler=scheduler,
            initializer=initializer,
            pictures=pictures,
        )

    def clustering_losses(self, image: Tensor, code: Tensor, targets: Tensor) -> Tensor:
        """Squared errors of images and the weighted divergence of their memberships, (B,)."""
        moved: Tensor = self.hparams.weight * super().clustering_losses(image, code, targets)
        return squared_error(self.decode(code), image) + moved

    def weights(self) -> tuple[float, float]:
        """What squared errors and divergence count in the loss of clusters."""
        return 1.0, self.hparams.weight

    def idle(self) -> list[nn.Parameter]:
        """The centers before there are clusters; then all parts learn."""
        return [] if self.placed else [self.centers]
