"""Perceptron: units that fire or not, and learn from their mistakes alone."""

from __future__ import annotations

import logging

import torch
from torch import Tensor, nn, optim
from torch.nn import functional as F  # noqa: N812

from dlarch.batches import ImageBatch, TableBatch
from dlarch.nn import Constant, initialize
from dlarch.registry import register_model
from dlarch.tasks import (
    InitializerCallable,
    OptimizerCallable,
    Supervised,
    training_batches,
)

logger = logging.getLogger(__name__)


@register_model("perceptron")
class Perceptron(Supervised):
    r"""Weigh the inputs and compare the sum with a threshold; after a mistake, move the weights.

    With two classes there is one unit. It fires, $\hat y = 1$, if $z = w^\top x + b > 0$; after
    each example its rule is

    $$w \leftarrow w + \eta\,(y - \hat y)\,x \qquad b \leftarrow b + \eta\,(y - \hat y)$$

    so that nothing moves unless $\hat y$ is wrong. That is a step of gradient descent on the
    criterion $(\hat y - y)\,z$, in which $\hat y$ counts as a constant: `perceptron_criterion`,
    optimised by plain SGD with learning rate $\eta$ and batches of one example. A larger batch
    takes the mean of its examples' steps.

    With K > 2 classes each has a unit, and the largest sum wins. After a mistake the unit of the
    right class gets $+\eta x$, the one that won $-\eta x$ (Kesler's construction: one perceptron on
    inputs that are K times as long). Two classes fit in with the sum of the first fixed at 0.

    If a plane divides the classes with margin $\gamma$, and no input with its constant 1 is longer
    than R, the rule makes at most $(R / \gamma)^2$ mistakes, in whatever order (Novikoff, 1962). If
    none does, as with XOR, it never comes to rest. The end of a training says which it was.

    The sums have no scale: weights start at 0, so the learning rate only multiplies them. Their
    softmax, which `classify` prints, orders the classes and is no measured probability.

    Shapes: inputs (B, ...) -> sums (B, K).

    F. Rosenblatt (1958), The perceptron: a probabilistic model for information storage and
    organization in the brain.

    Differences from the paper: (1) the inputs are the numbers themselves, instead of units with
    fixed random connections to them; (2) a sum of exactly 0 counts as a mistake, whatever the
    class; (3) more than two classes share one arg max.

    Expected: test/accuracy 1.0 on AND, OR and NAND, `dlarch fit --config recipes/perceptron.yaml`;
    see docs/models/perceptron.md.

    Args:
        in_features: numbers per input, pixels and channels of an image together.
        num_classes: number of classes, K.
        optimizer: called with the parameters; plain SGD is Rosenblatt's rule.
        initializer: of the weights, 0 when not given.
        pictures: draw confusion matrix and mistakes at each validation.
    """

    batch_type = (ImageBatch, TableBatch)
    monitor = ("val/accuracy", "max")

    def __init__(
        self,
        in_features: int | None = None,
        num_classes: int | None = None,
        optimizer: OptimizerCallable = lambda parameters: optim.SGD(parameters, lr=1.0),
        initializer: InitializerCallable | None = None,
        pictures: bool = True,
    ) -> None:
        super().__init__(
            optimizer=optimizer,
            loss=perceptron_criterion,
            initializer=initializer,
            pictures=pictures,
        )
        self.save_hyperparameters()
        self.build_if_known()

    def build(self, in_features: int, num_classes: int) -> None:
        """Make the units."""
        self.units = nn.Linear(in_features, 1 if num_classes == 2 else num_classes)
        nn.init.zeros_(self.units.bias)
        initialize(self, Constant(0.0))

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs (B, ...) to sums (B, K)."""
        sums: Tensor = self.units(inputs.flatten(1))
        return F.pad(sums, (1, 0)) if sums.shape[1] == 1 else sums

    @torch.no_grad()
    def on_train_end(self) -> None:
        """Say whether the rule came to rest."""
        if not self.trainer.is_global_zero:
            return
        margins = torch.cat(
            [margin(self(batch[0]), batch[1]) for batch in training_batches(self.trainer)]
        )
        wrong, undecided = int((margins <= 0).sum()), int((margins == 0).sum())
        if not wrong:
            logger.info("The perceptron errs on none of %d training examples.", len(margins))
            return
        logger.warning(
            "The perceptron still errs on %d of %d training examples%s: its rule comes to rest "
            "only if a plane divides the classes, so train longer if one does, and use mlp or "
            "rbf_network if none does.",
            wrong,
            len(margins),
            f" ({undecided} of them exactly at the threshold)" if undecided else "",
        )


def margin(sums: Tensor, labels: Tensor) -> Tensor:
    """How far the sum of the right class is above the largest other: (B, K), (B,) -> (B,)."""
    right = labels[:, None]
    rival = sums.scatter(1, right, -torch.inf).max(1).values
    return sums.gather(1, right)[:, 0] - rival


def perceptron_criterion(sums: Tensor, labels: Tensor) -> Tensor:
    """How far mistakes are on the wrong side, on average: sums (B, K), labels (B,) to a scalar."""
    margins = margin(sums, labels)
    mistaken = (margins <= 0).detach()
    return -(margins * mistaken).mean()
