"""Linear regression: a weighted sum of the inputs, ordinary or with a penalty on the weights."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn, optim

from dlarch.errors import OptionError, check_at_least_1
from dlarch.nn import Basis, make_basis
from dlarch.registry import register_model
from dlarch.tasks import ClosedForm, Moments, OptimizerCallable

RANK_TOLERANCE = 1e-12
"""Directions of less than this share of the largest variance are taken for none."""


@register_model("linear_regression", aliases=("ridge_regression",))
class LinearRegression(ClosedForm):
    r"""Predict numbers as a weighted sum of the inputs, by least squares.

    $$\hat y = W \phi(x) + b \qquad
    L(W, b) = \frac{1}{n O} \sum_{i=1}^{n} \|y_i - \hat y_i\|^2 + \frac{\alpha}{2} \|W\|^2$$

    Both derivatives are zero at the only minimum, with means over the training rows:

    $$W^\top = \big(\Phi_c^\top \Phi_c + \tfrac{n O \alpha}{2} I\big)^{-1} \Phi_c^\top Y_c
    \qquad b = \bar y - W \bar\phi$$

    With alpha = 0 this is ordinary least squares, else ridge regression. The three solvers find the
    same weights: the formula, in one epoch; gradient descent with the gradient written out; or an
    optimizer of torch's with the gradient of autograd. The bias has no penalty. alpha is that of
    all models here, beside the mean loss; scikit-learn's `Ridge` has n O alpha / 2.

    C. F. Gauss (1809), Theoria motus corporum coelestium; A. Hoerl, R. Kennard (1970), Ridge
    regression.

    Differences from the paper: (1) the inputs may be replaced by basis functions; (2) inputs and
    targets are normalised by the data module, so that the penalty weighs all inputs alike.

    Shapes: inputs (B, F) -> numbers (B, O).

    Expected: test/rmse 56.48 on diabetes (no randomness),
    `dlarch fit --config recipes/linear_regression.yaml`; see docs/models/linear_regression.md.

    Args:
        in_features: numbers per input, F.
        out_features: number of numbers to predict, O.
        alpha: strength of the penalty; 0 is ordinary least squares.
        solver: closed_form, gradient_descent (written out), or optimizer (autograd and torch).
        learning_rate: of the solver gradient_descent.
        basis: what is weighed: the inputs, their powers, or bumps along each of them.
        basis_size: degree of the polynomial, or bumps per input.
        optimizer: of the solver optimizer; called with the parameters.
        pictures: draw predictions at each validation.
    """

    def __init__(
        self,
        in_features: int | None = None,
        out_features: int | None = None,
        alpha: float = 0.0,
        solver: Literal["closed_form", "gradient_descent", "optimizer"] = "closed_form",
        learning_rate: float = 0.1,
        basis: Basis = "linear",
        basis_size: int = 9,
        optimizer: OptimizerCallable = lambda p: optim.SGD(p, lr=0.05, momentum=0.9),
        pictures: bool = True,
    ) -> None:
        super().__init__(optimizer if solver == "optimizer" else None, pictures=pictures)
        if alpha < 0:
            raise OptionError(f"alpha must be 0 or more, not {alpha}.")
        check_at_least_1(basis_size=basis_size)
        self.save_hyperparameters()
        self.build_if_known()

    def build(self, in_features: int, out_features: int) -> None:
        """Make the basis functions and their weights, which start at zero."""
        options = self.hparams
        self.basis, width = make_basis(options.basis, options.basis_size, in_features)
        self.output = nn.Linear(width, out_features)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs (B, F) to numbers (B, O)."""
        outputs: Tensor = self.output(self.features(inputs))
        return outputs

    def features(self, inputs: Tensor) -> Tensor:
        """Basis functions of the inputs: (B, F) to (B, M)."""
        functions: Tensor = self.basis(inputs.flatten(1))
        return functions

    def penalty(self) -> Tensor | None:
        """Half of alpha times the squared norm of the weights."""
        alpha = self.hparams.alpha
        return alpha / 2 * self.output.weight.square().sum() if alpha else None

    def learn(self, seen: Moments, batch: Moments) -> None:
        """Solve for the weights of all rows seen, or take one step for this batch."""
        if self.hparams.solver == "closed_form":
            weight = least_squares(seen, self.hparams.alpha)
            self.output.weight.copy_(weight)
            self.output.bias.copy_(seen.y_mean - weight @ seen.x_mean)
            return
        rate = self.hparams.learning_rate
        weight_gradient, bias_gradient = self.gradient(batch)
        self.output.weight.sub_(rate * weight_gradient.to(self.output.weight))
        self.output.bias.sub_(rate * bias_gradient.to(self.output.bias))

    def gradient(self, rows: Moments) -> tuple[Tensor, Tensor]:
        r"""The gradient of the loss, written out: that of the weights (O, M), of the bias (O,).

        With the mean residual r, and the centred part beside it,

        $$\nabla_b L = \tfrac{2}{O} r \qquad \nabla_W L = \tfrac{2}{O} \big( \tfrac{1}{n}
        (W \Phi_c^\top \Phi_c - Y_c^\top \Phi_c) + r \bar\phi^\top \big) + \alpha W$$
        """
        weight = self.output.weight.detach().cpu().double()
        bias = self.output.bias.detach().cpu().double()
        residual = weight @ rows.x_mean + bias - rows.y_mean
        centred = (weight @ rows.xx - rows.xy.T) / rows.count
        scale = 2 / len(residual)
        slope = scale * (centred + residual.outer(rows.x_mean)) + self.hparams.alpha * weight
        return slope, scale * residual


def least_squares(rows: Moments, alpha: float) -> Tensor:
    """The weights (O, M) of least loss, of several such the shortest."""
    ridge = rows.count * len(rows.y_mean) * alpha / 2
    system = rows.xx + ridge * torch.eye(len(rows.xx), dtype=rows.xx.dtype)
    inverse: Tensor = torch.linalg.pinv(system, hermitian=True, rtol=RANK_TOLERANCE)
    return (inverse @ rows.xy).T
