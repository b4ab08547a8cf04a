"""Bayesian linear regression: a distribution over weights, and how sure each prediction is."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from dlarch.errors import OptionError, check_at_least_1
from dlarch.nn import Basis, make_basis
from dlarch.registry import register_model
from dlarch.tasks import ClosedForm, Moments

DECADES, GRID = 10.0, 201
"""Of the ratio of the precisions that are tried, to either side of 1, and by how many values."""

SMALLEST, LEAST, MOST = 1e-12, 1e-10, 1e10
"""Share of the squares that must be left as noise; bounds of the noise's precision."""


class Precisions(NamedTuple):
    """Inverse variances, (O,) each."""

    prior: Tensor
    noise: Tensor


@register_model("bayesian_linear_regression")
class BayesianLinearRegression(ClosedForm):
    r"""Weigh all weights by their probability given the data, and say how sure a prediction is.

    $$w \sim N(0, \alpha^{-1} I) \qquad y \mid x, w \sim N(w^\top \phi(x) + b, \beta^{-1})$$

    The bias has a flat prior, so it drops out of centred rows, and the posterior of the weights is

    $$w \mid y \sim N(m, S) \qquad S^{-1} = \alpha I + \beta \Phi_c^\top \Phi_c \qquad
    m = \beta S \Phi_c^\top y_c$$

    A prediction is uncertain by the noise, by the bias, and by the weights, the more so the
    farther the input is from the mean of the training rows:

    $$y \mid x \sim N\big(\bar y + m^\top \phi_c(x),\ \tfrac{1}{\beta} + \tfrac{1}{\beta n} +
    \phi_c(x)^\top S\, \phi_c(x)\big)$$

    A precision that is not given is that of the largest evidence. With eigenvalues $\lambda$ and
    eigenvectors V of $\Phi_c^\top \Phi_c$, $a = V^\top \Phi_c^\top y_c$ and
    $r = \alpha / \beta$, it is, up to a constant,

    $$\log p(y \mid \alpha, \beta) = \tfrac{1}{2} \Big( (n - 1) \log \beta - \beta \big(
    y_c^\top y_c - \sum_i \frac{a_i^2}{\lambda_i + r} \big) - \sum_i \log \big(1 +
    \frac{\lambda_i}{r}\big) \Big)$$

    Rows may come in any number of batches: the posterior of some is the prior of the next, since
    both depend on the rows through sums alone. Of several targets each has precisions of its own.

    D. MacKay (1992), Bayesian interpolation; C. Bishop (2006), Pattern recognition and machine
    learning, 3.3 and 3.5.

    Differences from the paper: (1) the bias has a flat prior instead of that of the weights, and
    is integrated out; (2) the largest evidence is searched along r, where beta has a formula,
    instead of by MacKay's iteration, which may end at a smaller maximum.

    Shapes: inputs (B, F) -> means (B, O).

    Expected: test/rmse 55.72, test/nll 5.441 on diabetes (no randomness),
    `dlarch fit --config recipes/bayesian_linear_regression.yaml`; see
    docs/models/bayesian_linear_regression.md.

    Args:
        in_features: numbers per input, F.
        out_features: number of numbers to predict, O.
        prior_precision: alpha; chosen by the evidence when not given.
        noise_precision: beta, of normalised targets; chosen by the evidence when not given.
        basis: what is weighed: the inputs, their powers, or bumps along each of them.
        basis_size: degree of the polynomial, or bumps per input.
        pictures: draw predictions at each validation.
    """

    centre: Tensor
    directions: Tensor
    variances: Tensor
    noise_variance: Tensor
    bias_variance: Tensor

    def __init__(
        self,
        in_features: int | None = None,
        out_features: int | None = None,
        prior_precision: float | None = None,
        noise_precision: float | None = None,
        basis: Basis = "linear",
        basis_size: int = 9,
        pictures: bool = True,
    ) -> None:
        super().__init__(pictures=pictures)
        for name, value in (("prior", prior_precision), ("noise", noise_precision)):
            if value is not None and value <= 0:
                raise OptionError(f"{name}_precision must be above 0, not {value}.")
        check_at_least_1(basis_size=basis_size)
        self.save_hyperparameters()
        self.build_if_known()

    def build(self, in_features: int, out_features: int) -> None:
        """Make basis functions and posterior, which starts as the prior."""
        options = self.hparams
        self.basis, width = make_basis(options.basis, options.basis_size, in_features)
        self.output = nn.Linear(width, out_features)  # the posterior means m and b
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)
        variance = 1 / (options.prior_precision or 1.0)
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("directions", torch.eye(width))  # eigenvectors of S, as columns
        self.register_buffer("variances", torch.full((out_features, width), variance))
        noise = torch.full((out_features,), 1 / (options.noise_precision or 1.0))
        self.register_buffer("noise_variance", noise)
        self.register_buffer("bias_variance", torch.zeros(out_features))

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs (B, F) to predictive means (B, O)."""
        outputs: Tensor = self.output(self.features(inputs))
        return outputs

    def features(self, inputs: Tensor) -> Tensor:
        """Basis functions of the inputs: (B, F) to (B, M)."""
        functions: Tensor = self.basis(inputs.flatten(1))
        return functions

    def predictive(self, inputs: Tensor) -> Normal:
        """Distribution of the targets of inputs (B, F): means and deviations (B, O)."""
        along = (self.features(inputs) - self.centre) @ self.directions
        of_weights = along.square() @ self.variances.T
        variance = self.noise_variance + self.bias_variance + of_weights
        return Normal(self(inputs).float(), variance.float().sqrt())

    def covariance(self) -> Tensor:
        """Posterior covariance S of the weights of each target, (O, M, M)."""
        return (self.directions * self.variances[:, None]) @ self.directions.T

    def learn(self, seen: Moments, batch: Moments) -> None:
        """Compute the posterior given all rows seen."""
        values, vectors = torch.linalg.eigh(seen.xx)
        values = values.clamp_min(0.0)[:, None]
        along = vectors.T @ seen.xy
        prior, noise = self.precisions(values, along, seen)
        self.centre.copy_(seen.x_mean)
        self.directions.copy_(vectors)
        variances = 1 / (prior + noise * values)
        self.variances.copy_(variances.T)
        self.noise_variance.copy_(1 / noise)
        self.bias_variance.copy_(1 / (noise * seen.count))
        weight = (vectors @ (noise * variances * along)).T
        self.output.weight.copy_(weight)
        self.output.bias.copy_(seen.y_mean - weight @ seen.x_mean)

    def precisions(self, values: Tensor, along: Tensor, rows: Moments) -> Precisions:
        """Those given; else those of the largest evidence, found by narrowing a grid.

        Args:
            values: eigenvalues of X'X, (M, 1).
            along: X'Y along the eigenvectors, (M, O).
            rows: the moments.
        """
        prior, noise = self.hparams.prior_precision, self.hparams.noise_precision
        squares, free = rows.yy.diagonal(), rows.count - 1
        if prior and noise:
            return Precisions(torch.full_like(squares, prior), torch.full_like(squares, noise))
        centre, width = torch.zeros_like(squares), DECADES
        while True:
            grid = torch.linspace(-width, width, GRID, dtype=values.dtype)[:, None]
            ratio = 10.0 ** (centre + grid)  # alpha / beta, (GRID, O)
            shrunk = (along.square() / (values + ratio[:, None])).sum(1)
            left = torch.maximum(squares - shrunk, SMALLEST * squares)
            beta = noise or (prior / ratio if prior else free / left)
            beta = torch.as_tensor(beta).expand_as(ratio).nan_to_num(1.0).clamp(LEAST, MOST)
            penalty = torch.log1p(values / ratio[:, None]).sum(1)
            evidence = (free * beta.log() - beta * left - penalty) / 2
            best = evidence.argmax(0, keepdim=True)
            if width < SMALLEST:
                break
            centre, width = centre + grid[best[0], 0], width / 50
        ratio, beta = ratio.gather(0, best)[0], beta.gather(0, best)[0]
        return Precisions(torch.full_like(beta, prior) if prior else ratio * beta, beta)
