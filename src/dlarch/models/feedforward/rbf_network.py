"""Network of radial basis functions: each hidden unit answers to what is near its centre."""

from __future__ import annotations

import logging
import math

import torch
from torch import Tensor, nn, optim
from torch.nn import functional as F  # noqa: N812

from dlarch.batches import ImageBatch, TableBatch
from dlarch.errors import OptionError, check_at_least_1
from dlarch.registry import register_model
from dlarch.tasks import (
    LossCallable,
    OptimizerCallable,
    SchedulerCallable,
    Supervised,
    training_batches,
)

logger = logging.getLogger(__name__)

SCALES = tuple(2.0**power for power in range(8))
"""What least-squares outputs are tried to be multiplied by to be logits."""


@register_model("rbf_network")
class RBFNetwork(Supervised):
    r"""Measure how near the input is to each of M centres, and weigh the answers.

    $$\phi_j(x) = \exp\Big(-\frac{\lVert x - c_j \rVert^2}{2 \sigma_j^2}\Big) \qquad
      \hat y = W \phi(x) + b$$

    A fit of a new network begins with what needs no gradient:

    1. k-means on the training inputs finds the centres $c_j$;
    2. the width $\sigma_j$ is `width_scale` times the mean distance of $c_j$ to its `neighbors`
       nearest centres;
    3. $W$ and $b$ are the ridge regression of the targets on $\phi$, which minimises
       $\sum \lVert y - \hat y \rVert^2 + \lambda \lVert W \rVert^2$; classes are targets of 1 at
       the label and 0 elsewhere, and the outputs are then multiplied by the one number that makes
       the likelihood largest.

    From there all parameters follow the gradient, or the output layer alone. With one centre for
    each example and $\lambda = 0$ the network passes through all targets (strict interpolation).

    Shapes: inputs (B, ...) -> answers (B, M) -> logits (B, K) or numbers (B, O).

    D. S. Broomhead, D. Lowe (1988), Multivariable functional interpolation and adaptive networks;
    J. Moody, C. Darken (1989), Fast learning in networks of locally-tuned processing units.

    Differences from the paper: (1) centres of k-means (Moody and Darken) instead of drawn or evenly
    spaced ones (Broomhead and Lowe); (2) ridge regression instead of the pseudo-inverse or LMS;
    (3) centres and widths can be trained after that; (4) likelihood of classes instead of squared
    errors in that training.

    Expected: test/accuracy 0.9764 on MNIST (seed 1; 0.9666 by least squares alone),
    `dlarch fit --config recipes/rbf_network_mnist.yaml`; see docs/models/rbf_network.md.

    Args:
        in_features: numbers per input, pixels and channels of an image together.
        num_classes: number of classes, K.
        out_features: number of numbers to predict, O, where there are no classes.
        num_centers: M, number of hidden units.
        neighbors: nearest centres whose mean distance is the width.
        width_scale: what that distance is multiplied by.
        ridge: lambda; the sum of squared errors is not divided by the number of examples.
        train_centers: let the centres follow the gradient.
        train_widths: let the widths follow the gradient.
        loss: called with outputs and targets; cross-entropy or mean squared error when not given.
        optimizer: called with the parameters.
        scheduler: called with the optimizer; steps after each optimizer step.
        pictures: draw confusion matrix and mistakes at each validation.
    """

    batch_type = (ImageBatch, TableBatch)
    placed: Tensor

    def __init__(
        self,
        in_features: int | None = None,
        num_classes: int | None = None,
        out_features: int | None = None,
        num_centers: int = 100,
        neighbors: int = 10,
        width_scale: float = 1.0,
        ridge: float = 1e-3,
        train_centers: bool = True,
        train_widths: bool = True,
        loss: LossCallable | None = None,
        optimizer: OptimizerCallable = lambda parameters: optim.Adam(parameters, lr=1e-3),
        scheduler: SchedulerCallable | None = None,
        pictures: bool = True,
    ) -> None:
        super().__init__(optimizer=optimizer, loss=loss, scheduler=scheduler, pictures=pictures)
        check_at_least_1(num_centers=num_centers, neighbors=neighbors)
        if width_scale <= 0 or ridge <= 0:
            raise OptionError("width_scale and ridge must be more than 0.")
        self.save_hyperparameters()
        self.build_if_known()

    def build(
        self, in_features: int, num_classes: int | None = None, out_features: int | None = None
    ) -> None:
        """Make the layers; a fit puts the centres where the data are."""
        options = self.hparams
        self.hidden = RadialBasis(in_features, options.num_centers)
        self.hidden.centers.requires_grad_(options.train_centers)
        self.hidden.log_widths.requires_grad_(options.train_widths)
        self.output = nn.Linear(options.num_centers, num_classes or out_features or 0)
        self.register_buffer("placed", torch.tensor(False))  # travels with the weights

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs (B, ...) to logits (B, K) or numbers (B, O)."""
        outputs: Tensor = self.output(self.hidden(inputs.flatten(1)))
        return outputs

    # ---- before the first gradient step

    def on_train_start(self) -> None:
        """Place centres, widths and output weights, unless they are trained already."""
        super().on_train_start()
        if bool(self.placed):
            return
        if self.trainer.is_global_zero:
            self.place()
        # One process computes, so that all start from the same.
        state = {name: tensor.cpu() for name, tensor in self.state_dict().items()}
        self.load_state_dict(self.trainer.strategy.broadcast(state))

    @torch.no_grad()
    def place(self) -> None:
        """Find centres and widths from the training inputs, then the output weights."""
        batches = [(batch[0].flatten(1), batch[1]) for batch in training_batches(self.trainer)]
        inputs = torch.cat([rows.float().cpu() for rows, _ in batches])
        count = self.hparams.num_centers
        found = k_means(inputs, count, seed=torch.initial_seed() % 2**32)
        if len(found) < count:
            logger.warning(
                "There are %d training examples for %d centres, so some centres are equal: give "
                "--model.num_centers %d.",
                len(found),
                count,
                len(found),
            )
        widths = self.hparams.width_scale * mean_distances(found, self.hparams.neighbors)
        which = torch.arange(count) % len(found)
        self.hidden.centers.copy_(found[which])
        self.hidden.log_widths.copy_(widths[which].log())
        if self.classifies:
            classes = int(self.hparams.num_classes)
            targets = torch.cat([F.one_hot(labels, classes).cpu() for _, labels in batches])
        else:
            targets = torch.cat([numbers.float().cpu() for _, numbers in batches])
        answers = torch.cat([self.hidden(rows).float().cpu() for rows, _ in batches])
        weight, bias = ridge_regression(answers, targets, self.hparams.ridge)
        if self.classifies:
            outputs, labels = answers @ weight.T + bias, targets.argmax(1)
            scale = min(SCALES, key=lambda scale: float(F.cross_entropy(scale * outputs, labels)))
            weight, bias = scale * weight, scale * bias
        self.output.weight.copy_(weight)
        self.output.bias.copy_(bias)
        self.placed.fill_(True)


class RadialBasis(nn.Module):
    """Gaussian answers to the distance from centres: (B, F) -> (B, M), 0 to 1.

    Args:
        in_features: F.
        num_centers: M.
    """

    def __init__(self, in_features: int, num_centers: int) -> None:
        super().__init__()
        self.centers = nn.Parameter(torch.randn(num_centers, in_features))
        self.log_widths = nn.Parameter(torch.full((num_centers,), math.log(in_features) / 2))

    def forward(self, inputs: Tensor) -> Tensor:
        """exp(-|x - c|^2 / (2 sigma^2))."""
        distances = squared_distances(inputs, self.centers)
        return torch.exp(-0.5 * distances * (-2 * self.log_widths).exp())


def squared_distances(inputs: Tensor, centers: Tensor) -> Tensor:
    r"""$\lVert x - c \rVert^2 = \lVert x \rVert^2 - 2 x^\top c + \lVert c \rVert^2$ by one product.

    Args:
        inputs: (B, F).
        centers: (M, F).

    Returns:
        (B, M), 0 or more, in float32 at least.
    """
    # Lower precision, or numbers far from 0, would leave nothing of a small difference.
    with torch.autocast(inputs.device.type, enabled=False):
        middle = centers.detach().mean(0)
        x, c = (inputs - middle).to(centers.dtype), centers - middle
        product = x @ c.T
        squares = x.square().sum(1, keepdim=True) - 2 * product + c.square().sum(1)
        return squares.clamp_min(0)


def k_means(inputs: Tensor, count: int, seed: int) -> Tensor:
    """Centres (M, F) of clusters of the inputs (n, F); the inputs themselves if there are too few.

    D. Sculley (2010), Web-scale k-means clustering.
    """
    if len(inputs) <= count:
        return inputs
    from sklearn.cluster import MiniBatchKMeans  # takes a while to import

    size = max(1024, 4 * count)
    clusters = MiniBatchKMeans(count, batch_size=size, n_init=1, random_state=seed)
    return torch.from_numpy(clusters.fit(inputs.numpy()).cluster_centers_).float()


def mean_distances(centers: Tensor, neighbors: int) -> Tensor:
    """Mean distance of each centre (M, F) to its nearest others, (M,); never 0."""
    if len(centers) == 1:
        return torch.ones(1)
    distances = squared_distances(centers, centers).sqrt().fill_diagonal_(torch.inf)
    nearest = distances.sort(1).values[:, : min(neighbors, len(centers) - 1)].mean(1)
    return nearest.clamp_min(max(1e-2 * float(nearest.mean()), 1e-6))  # equal centres


def ridge_regression(inputs: Tensor, targets: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """Least squares with a penalty on the weights: (n, M), (n, O) -> (O, M), (O,)."""
    size = inputs.shape[1] + 1
    gram, moment = torch.zeros(size, size).double(), torch.zeros(size, targets.shape[1]).double()
    for rows, wanted in zip(inputs.split(4096), targets.split(4096), strict=True):
        augmented = F.pad(rows.double(), (0, 1), value=1.0)  # the bias is the weight of a 1
        gram += augmented.T @ augmented
        moment += augmented.T @ wanted.double()
    gram.diagonal()[:-1] += ridge
    solution = torch.linalg.solve(gram, moment).T.float()
    return solution[:, :-1], solution[:, -1]
