"""Sparse autoencoder: many units, of which an image may use only a few."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, optim
from torchmetrics import Metric

from dlarch.batches import ImageBatch
from dlarch.errors import OptionError, check_at_least_1
from dlarch.models.autoencoders.autoencoder import Autoencoder
from dlarch.nn import Activation, Likelihood, bernoulli_kl, keep_largest, squared_error
from dlarch.registry import register_model
from dlarch.tasks import (
    IdleUnits,
    InitializerCallable,
    OptimizerCallable,
    Ratio,
    SchedulerCallable,
)

Sparsity = Literal["top_k", "l1", "kl"]
"""What keeps units silent."""

CODE_ACTIVATIONS: dict[Sparsity, Activation] = {"top_k": "identity", "l1": "relu", "kl": "sigmoid"}
"""That each way asks for."""

HALF = 0.5
"""A logistic unit above it is active; others are where they are not 0."""


@register_model("sparse_autoencoder", paper="1312.5663")
class SparseAutoencoder(Autoencoder):
    r"""Describe an image by a few of many units.

    The layers are those of `autoencoder`, but the code has many units z, and something keeps most
    of them silent, so that each comes to stand for something of its own:

    $$\text{top\_k: } z = \text{the k largest of } W x + b, \text{ others } 0 \qquad
      \text{l1: } \ell + \lambda \sum_d |z_d| \qquad
      \text{kl: } \ell + \lambda \sum_d KL(\rho \,\|\, \hat\rho_d)$$

    with $\ell$ what is lost of an image, and $\hat\rho_d$ the mean of a unit over the batch, as of
    one that is on or off. Units are linear with top_k, ReLU with l1, and logistic with kl. The
    penalties are in the training loss alone; validation and test show what is lost, and which share
    of the units is active.

    Shapes: image (B, C, H, W) -> code (B, D), most of it 0 -> image (B, C, H, W).

    A. Makhzani, B. Frey (2013), k-sparse autoencoders; A. Ng (2011), Sparse autoencoder.

    Differences from the paper: (1) L1 and KL penalties beside the k largest; (2) weights of the
    decoder of its own; (3) the same k in test as in training, once it has fallen; (4) Adam.

    Expected: test/sse 1.185 on digits by 10 of 128 units (seed 1),
    `dlarch fit --config recipes/sparse_autoencoder.yaml`; see docs/models/sparse_autoencoder.md.

    Args:
        image_shape: (C, H, W). Taken from the data when not given.
        code_size: units of which few are active, D.
        hidden_sizes: widths of the encoder before them; the decoder mirrors them.
        activation: of the hidden layers.
        sparsity: "top_k", "l1" or "kl".
        k: units that an image keeps, with top_k.
        k_steps: optimizer steps in which the units that are kept fall from all to k, so that none
            is left behind at the start.
        weight: of the penalty, lambda, with l1 and kl.
        target: mean of a unit that costs nothing, rho, with kl.
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
        code_size: int = 1000,
        hidden_sizes: Sequence[int] = (),
        activation: Activation = "relu",
        sparsity: Sparsity = "top_k",
        k: int = 25,
        k_steps: int = 1000,
        weight: float = 0.1,
        target: float = 0.05,
        likelihood: Likelihood = "gaussian",
        optimizer: OptimizerCallable = lambda parameters: optim.Adam(parameters, lr=1e-3),
        scheduler: SchedulerCallable | None = None,
        initializer: InitializerCallable | None = None,
        pictures: bool = True,
    ) -> None:
        if sparsity not in (known := get_args(Sparsity)):
            raise OptionError(f"sparsity must be one of {', '.join(known)}, not {sparsity!r}.")
        check_at_least_1(k=k)
        if sparsity == "top_k" and k > code_size:
            raise OptionError(f"k must be at most code_size, {code_size}, not {k}.")
        for name, value in (("weight", weight), ("k_steps", k_steps)):
            if value < 0:
                raise OptionError(f"{name} must be at least 0, not {value}.")
        if not 0 < target < 1:
            raise OptionError(f"target must lie between 0 and 1, not {target}.")
        super().__init__(
            image_shape=image_shape,
            code_size=code_size,
            hidden_sizes=hidden_sizes,
            activation=activation,
            likelihood=likelihood,
            optimizer=optimizer,
            scheduler=scheduler,
            initializer=initializer,
            pictures=pictures,
        )

    @property
    def code_activation(self) -> Activation:
        """Of the code, before all but the largest are left out."""
        return CODE_ACTIVATIONS[self.hparams.sparsity]

    def encode(self, image: Tensor) -> Tensor:
        """Codes (B, D) of images (B, C, H, W), 0 to 1."""
        code = super().encode(image)
        return keep_largest(code, self.kept()) if self.hparams.sparsity == "top_k" else code

    def kept(self) -> int:
        """Units that an image keeps now: all at the first step of training, then fewer, then k.

        As a part of another network, which is trained in its place, it keeps k.
        """
        size, k, steps = self.hparams.code_size, self.hparams.k, self.hparams.k_steps
        trainer = self._trainer if self.training and steps > 0 else None
        begins = trainer is not None and trainer.lightning_module is self
        left = max(0.0, 1 - self.trainer.global_step / steps) if begins else 0.0
        return int(k + round((size - k) * left))

    def losses(self, batch: ImageBatch) -> Tensor:
        """What is lost of each image and what its code costs, (B,)."""
        code = self.encode(batch.image)
        penalty: Tensor = self.hparams.weight * self.cost(code)
        return self.lost(code, batch.image) + penalty

    def cost(self, code: Tensor) -> Tensor:
        """What codes (B, D) cost before they are weighted: (B,), or one number for all."""
        if self.hparams.sparsity == "l1":
            return code.abs().sum(1)
        if self.hparams.sparsity == "kl":
            return bernoulli_kl(self.hparams.target, code.float().mean(0)).sum()
        return code.new_zeros(())

    # ---- how sparse codes are

    def metrics(self, stage: str) -> dict[str, Metric]:
        """Those of autoencoders, the share of active units, and how many never are."""
        activity = {"active_share": Ratio(), "idle_units": IdleUnits(self.hparams.code_size)}
        return super().metrics(stage) | activity

    def score(self, batch: ImageBatch) -> Tensor:
        """Score a batch by what is lost, without the penalty; gives its codes."""
        code, image = self.encode(batch.image), batch.image
        count = float(len(code))
        self._metrics["loss"].update(self.lost(code, image).sum(), count)
        self._metrics["sse"].update(squared_error(self.decode(code), image).sum(), count)
        active = self.active(code)
        self._metrics["active_share"].update(active.sum(), float(active.numel()))
        self._metrics["idle_units"].update(active)
        return code

    def active(self, code: Tensor) -> Tensor:
        """Which units (B, D) are active."""
        return code > HALF if self.hparams.sparsity == "kl" else torch.ne(code, 0)
