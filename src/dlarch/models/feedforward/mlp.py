"""Multilayer perceptron: layers of weighted sums with a bend between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn, optim

from dlarch.batches import ImageBatch, TableBatch
from dlarch.errors import OptionError
from dlarch.nn import (
    Activation,
    ElasticNet,
    GaussianNoise,
    default_initializer,
    initialize,
    make_activation,
    units_before,
)
from dlarch.nn.backpropagation import DERIVATIVES, WrittenOut
from dlarch.registry import register_model
from dlarch.tasks import (
    InitializerCallable,
    LossCallable,
    OptimizerCallable,
    SchedulerCallable,
    Supervised,
)


@register_model("mlp", aliases=("multilayer_perceptron",))
class MLP(Supervised):
    r"""Pass the input through layers of units, each a weighted sum and an activation f.

    $$h_0 = x \qquad h_l = f(W_l h_{l-1} + b_l) \qquad \hat y = W_L h_{L-1} + b_L$$

    With classes, $\hat y$ are logits: $p(y = k) = \mathrm{softmax}(\hat y)_k$, and the loss is the
    negative log-likelihood; with numbers it is the mean squared error, the same for a Gaussian of
    fixed variance. An image is read as a row of its pixels: their places mean nothing.

    Regularised by dropout (1207.0580), by noise, by a bound on the norm of each unit's weights, and
    by the elastic net $\alpha (r \sum |w| + \tfrac{1 - r}{2} \sum w^2)$ (r = 1: L1, r = 0: L2).

    D. Rumelhart, G. Hinton, R. Williams (1986), Learning representations by back-propagating
    errors.

    Differences from the paper: (1) ReLU instead of sigmoid units; (2) likelihood of classes instead
    of squared errors; (3) Adam on small batches instead of momentum on all; (4) batch
    normalisation, dropout, noise and bounded or decayed weights are options.

    Shapes: inputs (B, ...) -> logits (B, K) or numbers (B, O).

    Expected: test/accuracy 0.9901 on MNIST (mean of seeds 1 to 5),
    `dlarch fit --config recipes/mlp_mnist.yaml`; see docs/models/mlp.md.

    Args:
        in_features: numbers per input, pixels and channels of an image together.
        num_classes: number of classes, K.
        out_features: number of numbers to predict, O, where there are no classes.
        hidden_sizes: units of each hidden layer.
        activation: f; one of `dlarch.nn.ACTIVATIONS`.
        batch_norm: normalise each hidden unit over the batch, before or after its activation.
        dropout: share of hidden units set to zero in training.
        input_dropout: share of inputs set to zero in training.
        noise: standard deviation of what is added to the input of each activation in training.
        input_noise: the same of the inputs.
        max_norm: largest L2 norm of the weights into a hidden unit.
        alpha: strength of the elastic net.
        l1_ratio: r, the share of L1 in it.
        gradients: those of autograd, or the hand-derived ones of `dlarch.nn.backpropagation`.
        loss: called with outputs and targets; cross-entropy or mean squared error when not given.
        optimizer: called with the parameters.
        scheduler: called with the optimizer; steps after each optimizer step.
        initializer: of the weights; what suits the activation when not given.
        pictures: draw mistakes, filters and what else the task has to show.
    """

    batch_type = (ImageBatch, TableBatch)

    def __init__(
        self,
        in_features: int | None = None,
        num_classes: int | None = None,
        out_features: int | None = None,
        hidden_sizes: Sequence[int] = (300, 100),
        activation: Activation = "relu",
        batch_norm: Literal["before", "after"] | None = None,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        noise: float = 0.0,
        input_noise: float = 0.0,
        max_norm: float | None = None,
        alpha: float = 0.0,
        l1_ratio: float = 0.0,
        gradients: Literal["autograd", "written"] = "autograd",
        loss: LossCallable | None = None,
        optimizer: OptimizerCallable = lambda parameters: optim.Adam(parameters, lr=1e-3),
        scheduler: SchedulerCallable | None = None,
        initializer: InitializerCallable | None = None,
        pictures: bool = True,
    ) -> None:
        super().__init__(
            optimizer=optimizer,
            loss=loss,
            scheduler=scheduler,
            initializer=initializer,
            pictures=pictures,
        )
        self.elastic_net = ElasticNet(alpha, l1_ratio)
        random = dropout or input_dropout or noise or input_noise
        derived = activation in DERIVATIVES and not (batch_norm or random)
        if gradients == "written" and not derived:
            raise OptionError(
                "The written gradients are derived for layers without batch normalisation, dropout "
                f"and noise, with the activations {', '.join(DERIVATIVES)}."
            )
        self.save_hyperparameters()
        self.build_if_known()

    def build(
        self, in_features: int, num_classes: int | None = None, out_features: int | None = None
    ) -> None:
        """Make the layers, in the order in which data meet them."""
        options = self.hparams
        self.hidden = nn.Sequential(nn.Dropout(options.input_dropout))
        if options.input_noise:
            self.hidden.append(GaussianNoise(options.input_noise))
        width = in_features
        for size in options.hidden_sizes:
            activation = make_activation(options.activation)
            # Batch normalisation has a bias of its own.
            bias = options.batch_norm != "before"
            self.hidden.append(nn.Linear(width, size * units_before(activation), bias=bias))
            if options.batch_norm == "before":
                self.hidden.append(nn.BatchNorm1d(size * units_before(activation)))
            if options.noise:
                self.hidden.append(GaussianNoise(options.noise))
            self.hidden.append(activation)
            if options.batch_norm == "after":
                self.hidden.append(nn.BatchNorm1d(size))
            self.hidden.append(nn.Dropout(options.dropout))
            width = size
        self.output = nn.Linear(width, num_classes or out_features or 0)
        initialize(self, default_initializer(options.activation))

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs (B, ...) to logits (B, K) or numbers (B, O)."""
        outputs: Tensor
        if self.hparams.gradients == "written" and self.training:
            weights = [layer.weight for layer in self.linear_layers()]
            biases = [layer.bias for layer in self.linear_layers()]
            activation = self.hparams.activation
            outputs = WrittenOut.apply(inputs.flatten(1), activation, *weights, *biases)
        else:
            outputs = self.output(self.hidden(inputs.flatten(1)))
        return outputs

    def penalty(self) -> Tensor | None:
        """The elastic net over all weights; biases are left alone."""
        return self.elastic_net(layer.weight for layer in self.linear_layers())

    def constrain(self) -> None:
        """Shorten the weights into each hidden unit to `max_norm`."""
        if self.hparams.max_norm is not None:
            for layer in self.linear_layers()[:-1]:
                layer.weight.renorm_(2, 0, self.hparams.max_norm)

    def linear_layers(self) -> list[nn.Linear]:
        """The layers of weights, the output layer last."""
        return [layer for layer in self.modules() if isinstance(layer, nn.Linear)]
