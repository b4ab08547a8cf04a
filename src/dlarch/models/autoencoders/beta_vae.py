"""beta-VAE: a VAE whose code may tell little, so that each of its numbers tells one thing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, optim

from dlarch.errors import OptionError, check_at_least_1
from dlarch.models.autoencoders.vae import VAE
from dlarch.nn import Activation, Likelihood
from dlarch.registry import register_model
from dlarch.tasks import (
    Annealing,
    Bound,
    InitializerCallable,
    LatentImages,
    OptimizerCallable,
    SchedulerCallable,
)


@register_model("beta_vae", paper="1804.03599")
class BetaVAE(VAE):
    r"""Make what the code tells dear, or hold it to a capacity that grows as training goes on.

    Networks, prior and posterior are those of a VAE. What is minimised, over B images, is

    $$\tfrac{1}{B} \sum_b E_{q(z|x_b)} [-\log p(x_b|z)] + \beta \,
      \Big| \tfrac{1}{B} \sum_b KL(q(z|x_b) \,\|\, N(0, I)) - C_t \Big|$$

    With C = 0 it is the beta-VAE of Higgins et al. (2017): at beta = 1 a VAE; above, a code that
    tells less, whose numbers are nearer to independent, and often stand for one factor of the data
    each. It pays with blurred images. With a capacity, C_t rises from 0 to C along a straight line:
    the code begins with what saves most nats, and takes up further factors one by one.

    Shapes: image (B, C, H, W) -> mean and log variance (B, D) -> code (B, D) -> logits or means
    (B, C, H, W).

    Differences from the paper: (1) the image may be of any size, and the network dense; (2) Adam
    with the rate of the recipe.

    Expected: see docs/models/beta_vae.md, `dlarch fit --config recipes/beta_vae.yaml`.

    Args:
        image_shape: (C, H, W). Taken from the data when not given.
        code_size: dimensions of the code, D.
        hidden_sizes: units of the encoder's dense layers; the decoder mirrors them.
        widths: maps of convolutions before these, each of which halves the image; none at all gives
            a dense network.
        activation: of the hidden layers.
        likelihood: of pixels: "bernoulli", or "gaussian" with one learned variance.
        beta: what a nat of divergence costs.
        capacity: C, nats that the code shall tell in the end; 0 makes every nat cost.
        capacity_steps: optimizer steps until the capacity is C.
        importance_samples: codes that are drawn for each image of the test, for nll_is.
        optimizer: called with the parameters.
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
        beta: float = 4.0,
        capacity: float = 0.0,
        capacity_steps: int = 10_000,
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
        if beta < 0 or capacity < 0:
            raise OptionError(
                f"beta and capacity must be 0 or more, not {beta:g} and {capacity:g}."
            )
        check_at_least_1(capacity_steps=capacity_steps)
        self.rise = Annealing("linear", capacity_steps)
        self.save_hyperparameters()
        self.build_if_known()

    def objective(self, bound: Bound) -> Tensor:
        """What is minimised of each image, (B,)."""
        told = bound.kl.sum(1).mean()
        beside: Tensor = self.hparams.beta * (told - self.capacity_at()).abs()
        return bound.reconstruction + beside

    def capacity_at(self, step: int | None = None) -> float:
        """C_t, nats, at an optimizer step; the present one when not given."""
        if step is None:
            step = self.trainer.global_step if self._trainer is not None else 0
        return float(self.hparams.capacity) * self.rise.weight(step)

    def on_train_batch_end(self, *arguments: Any) -> None:
        """Log the capacity beside the loss, where there is one."""
        due = self._log_is_due() and self.hparams.capacity > 0
        super().on_train_batch_end(*arguments)
        if due:
            values = {"train/capacity": self.capacity_at(self.trainer.global_step - 1)}
            for logger in self.loggers:
                logger.log_metrics(values, step=self.trainer.global_step)
