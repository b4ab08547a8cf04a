"""Logistic regression: the linear model of class probabilities."""

from __future__ import annotations

from torch import Tensor, nn, optim
from torch.nn import functional as F  # noqa: N812

from dlarch.batches import ImageBatch, TableBatch
from dlarch.nn import Constant, ElasticNet, initialize
from dlarch.registry import register_model
from dlarch.tasks import (
    InitializerCallable,
    OptimizerCallable,
    SchedulerCallable,
    Supervised,
)


@register_model("logistic_regression", aliases=("softmax_regression",))
class LogisticRegression(Supervised):
    r"""Give each class a weighted sum of the inputs, and make probabilities of the sums.

    $$\hat y = W x + b \qquad p(y = k \mid x) = \frac{\exp \hat y_k}{\sum_i \exp \hat y_i}$$

    The loss is the negative log-likelihood plus the elastic net over the weights; the biases, which
    only know how frequent classes are, are left alone:

    $$\frac{1}{n} \sum_i -\log p(y_i \mid x_i)
      + \alpha \Big( r \sum |W_{kj}| + \tfrac{1 - r}{2} \sum W_{kj}^2 \Big)$$

    It is convex: weights start at 0, and every optimizer that converges finds the same
    probabilities. scikit-learn's `LogisticRegression` minimises the same with
    $C = 1 / (\alpha n)$ and `l1_ratio` r, n being the number of training examples. Adding the same
    numbers to the weights of all classes changes no probability; L2 chooses the weights whose sum
    over the classes is 0. Two classes have one weighted sum, that of the second; that of the first
    is 0, and the softmax becomes the logistic function.

    D. R. Cox (1958), The regression analysis of binary sequences.

    Differences from the paper: (1) any number of classes; (2) the elastic net; (3) gradients on
    batches, or L-BFGS on all examples, instead of Newton's method by hand.

    Shapes: inputs (B, ...) -> logits (B, K).

    Expected: test/accuracy 0.989 on digits (seeds 1 to 3),
    `dlarch fit --config recipes/logistic_regression.yaml`; see docs/models/logistic_regression.md.

    Args:
        in_features: numbers per input, pixels and channels of an image together.
        num_classes: number of classes, K.
        alpha: strength of the elastic net.
        l1_ratio: r, the share of L1 in it.
        optimizer: called with the parameters; `torch.optim.LBFGS` for all examples in one batch.
        scheduler: called with the optimizer; steps after each optimizer step.
        initializer: of the weights, 0 when not given.
        pictures: draw confusion matrix and mistakes at each validation.
    """

    batch_type = (ImageBatch, TableBatch)

    def __init__(
        self,
        in_features: int | None = None,
        num_classes: int | None = None,
        alpha: float = 0.0,
        l1_ratio: float = 0.0,
        optimizer: OptimizerCallable = lambda parameters: optim.Adam(parameters, lr=1e-3),
        scheduler: SchedulerCallable | None = None,
        initializer: InitializerCallable | None = None,
        pictures: bool = True,
    ) -> None:
        super().__init__(
            optimizer=optimizer, scheduler=scheduler, initializer=initializer, pictures=pictures
        )
        self.elastic_net = ElasticNet(alpha, l1_ratio)
        self.save_hyperparameters()
        self.build_if_known()

    def build(self, in_features: int, num_classes: int) -> None:
        """Make the weights and biases."""
        self.linear = nn.Linear(in_features, 1 if num_classes == 2 else num_classes)
        nn.init.zeros_(self.linear.bias)
        initialize(self, Constant(0.0))

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs (B, ...) to logits (B, K)."""
        logits: Tensor = self.linear(inputs.flatten(1))
        return F.pad(logits, (1, 0)) if logits.shape[1] == 1 else logits

    def penalty(self) -> Tensor | None:
        """The elastic net over the weights; biases are left alone."""
        return self.elastic_net([self.linear.weight])
