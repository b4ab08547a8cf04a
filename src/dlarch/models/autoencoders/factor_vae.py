"""FactorVAE: a VAE whose code has independent numbers, pushed by a network that judges it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn, optim
from torch.func import functional_call
from torch.nn import functional as F  # noqa: N812
from torchmetrics import Metric

from dlarch.batches import ImageBatch
from dlarch.errors import OptionError
from dlarch.models.autoencoders.vae import VAE
from dlarch.nn import Activation, Likelihood, dense_stack, initialize
from dlarch.nn.initializers import He
from dlarch.registry import register_model
from dlarch.tasks import (
    InitializerCallable,
    LatentImages,
    OptimizerCallable,
    Ratio,
    SchedulerCallable,
)


@register_model("factor_vae", paper="1802.05983")
class FactorVAE(VAE):
    r"""Push the numbers of the code to be independent of each other, not to tell less.

    To the VAE's loss comes the total correlation of the codes of all images: how far their
    distribution q(z) is from the product of its margins, weighted by gamma,

    $$\tfrac{1}{B} \sum_b \big( E_q [-\log p(x_b|z)] + KL(q(z|x_b) \,\|\, N(0, I)) \big)
      + \gamma \, KL\Big( q(z) \,\Big\|\, \prod_d q(z_d) \Big)$$

    It has no formula, so a discriminator T learns by cross-entropy to tell codes of a batch from
    codes whose every number comes from another image of it. Its logit is then the log of the ratio
    of both densities, and its mean over codes estimates the total correlation. Encoder and decoder
    take it as it stands; the discriminator's own loss reaches the discriminator alone.

    Shapes: image (B, C, H, W) -> mean and log variance (B, D) -> code (B, D) -> logits or means
    (B, C, H, W), and the discriminator's logits (B,).

    Differences from the paper: (1) both networks take their step at once, by one optimizer, instead
    of one after the other by two; (2) the numbers of codes are exchanged within the batch, not in
    a second one; (3) a smaller discriminator.

    Expected: see docs/models/factor_vae.md, `dlarch fit --config recipes/factor_vae.yaml`.

    Args:
        image_shape: (C, H, W). Taken from the data when not given.
        code_size: dimensions of the code, D.
        hidden_sizes: units of the encoder's dense layers; the decoder mirrors them.
        widths: maps of convolutions before these, each of which halves the image; none at all gives
            a dense network.
        activation: of the hidden layers.
        likelihood: of pixels: "bernoulli", or "gaussian" with one learned variance.
        gamma: what a nat of total correlation costs.
        discriminator_sizes: units of its hidden layers.
        importance_samples: codes that are drawn for each image of the test, for nll_is.
        optimizer: called with the parameters of all networks.
        scheduler: called with the optimizer; steps after each optimizer step.
        initializer: of all weights; by the activation when not given.
        pictures: draw reconstructions, samples, traversals, interpolations and codes.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int] | None = None,
        code_size: int = 10,
        hidden_sizes: Sequence[int] = (256, 256),
        widths: Sequence[int] = (),
        activation: Activation = "relu",
        likelihood: Likelihood = "bernoulli",
        gamma: float = 10.0,
        discriminator_sizes: Sequence[int] = (256, 256, 256),
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
            optimizer=optimizer,
            scheduler=scheduler,
            initializer=initializer,
            pictures=pictures,
        )
        if gamma < 0:
            raise OptionError(f"gamma must be 0 or more, not {gamma:g}.")
        self.save_hyperparameters()
        self.build_if_known()

    def build(self, image_shape: tuple[int, int, int]) -> None:
        """Make the layers of the VAE, and the discriminator."""
        super().build(image_shape)
        sizes = [self.hparams.code_size, *self.hparams.discriminator_sizes, 1]
        self.discriminator = nn.Sequential(dense_stack(sizes, "leaky_relu"), nn.Flatten(0))
        initialize(self.discriminator, He())

    def losses(self, batch: ImageBatch) -> Tensor:
        """The loss of each image, (B,); the discriminator's adds its gradient, not its value."""
        image = batch.image
        noise = torch.randn(len(image), self.code_size, device=image.device)
        bound = self.bound(image, noise)
        code = bound.posterior.code(noise)
        judged = self.nats_apart(code)
        own = self.discriminator_losses(code.detach())
        penalty: Tensor = self.hparams.gamma * judged
        return self.objective(bound) + penalty + (own - own.detach())

    def nats_apart(self, code: Tensor) -> Tensor:
        """Estimates (B,) whose mean is the total correlation of codes (B, D), in nats.

        No gradient reaches the discriminator.
        """
        fixed = {name: value.detach() for name, value in self.discriminator.named_parameters()}
        logits: Tensor = functional_call(self.discriminator, fixed, (code,))
        return logits.float()

    def discriminator_losses(self, code: Tensor) -> Tensor:
        """Cross-entropies (B,) of telling codes (B, D) from those whose numbers are exchanged."""
        orders = torch.rand(code.shape, device=code.device).argsort(0)
        exchanged = code.gather(0, orders)
        joint, apart = self.discriminator(code).float(), self.discriminator(exchanged).float()
        return 0.5 * (F.softplus(-joint) + F.softplus(apart))

    def metrics(self, stage: str) -> dict[str, Metric]:
        """Those of a VAE, and the total correlation as the discriminator sees it."""
        return super().metrics(stage) | {"total_correlation": Ratio()}

    def score(self, batch: ImageBatch) -> Tensor:
        """Score a batch; gives its mean codes."""
        codes = super().score(batch)
        drawn = self.posterior(batch.image).code(self._noise(batch, 1)[:, 0])
        judged = self.nats_apart(drawn)
        self._metrics["total_correlation"].update(judged.sum(), float(len(judged)))
        return codes
