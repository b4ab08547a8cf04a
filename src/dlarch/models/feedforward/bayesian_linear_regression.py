"""Bayesian linear regression: a distribution over weights, and how sure each prediction is."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from dlarch.errors import OptionError
from dlarch.nn import Basis, make_basis
from dlarch.registry import register_model
from dlarch.tasks import ClosedForm, Moments

STEPS, TOLERANCE = 1000, 1e-9
"""Of the search for the precisions of largest evidence: its length, and the change that ends it."""

LEAST, MOST = 1e-10, 1e10
"""Bounds of both precisions: without any signal, or any noise, the evidence has no maximum."""


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

    A precision that is not given is that of the largest evidence p(y | alpha, beta), by MacKay's
    iteration, with the eigenvalues of $\beta \Phi_c^\top \Phi_c$ as $\lambda$:

    $$\gamma = \sum_i \frac{\lambda_i}{\alpha + \lambda_i} \qquad
    \alpha \leftarrow \frac{\gamma}{m^\top m} \qquad
    \frac{1}{\beta} \leftarrow \frac{\|y_c - \Phi_c m\|^2}{n - 1 - \gamma}$$

    Rows may come in any number of batches: the posterior of some is the prior of the next, since
    both depend on the rows through sums alone. Of several targets each has precisions of its own.

    D. MacKay (1992), Bayesian interpolation; C. Bishop (2006), Pattern recognition and machine
    learning, 3.3 and 3.5.

    Differences from the paper: (1) the bias has a flat prior instead of that of the weights, and
    is integrated out; (2) everything is computed along the eigenvectors of $\Phi_c^\top \Phi_c$.

    Shapes: inputs (B, F) -> means (B, O).

    Expected: EXPECTED,
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
        if basis_size < 1:
            raise OptionError(f"basis_size must be at least 1, not {basis_size}.")
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
        """Those given; else those of the largest evidence.

        Args:
            values: eigenvalues of X'X, (M, 1).
            along: X'Y along the eigenvectors, (M, O).
            rows: the moments.
        """
        squares, free = rows.yy.diagonal(), rows.count - 1
        alpha, beta = self.hparams.prior_precision, self.hparams.noise_precision
        found = Precisions(
            torch.full_like(squares, alpha or 1.0),
            torch.full_like(squares, beta) if beta else _bounded(free / squares),
        )
        for _ in range(STEPS):
            prior, noise = before = found
            mean = noise * along / (prior + noise * values)
            known = (noise * values / (prior + noise * values)).sum(0)  # gamma
            errors = squares - (2 * mean * along - values * mean.square()).sum(0)
            found = Precisions(
                prior if alpha else _bounded(known / mean.square().sum(0)),
                noise if beta else _bounded((free - known) / errors),
            )
            if all(_close(new, old) for new, old in zip(found, before, strict=True)):
                break
        return found


def _bounded(precision: Tensor) -> Tensor:
    """Within the bounds; nothing divided by nothing is as little as there may be."""
    return precision.nan_to_num(LEAST, posinf=MOST).clamp(LEAST, MOST)


def _close(new: Tensor, old: Tensor) -> bool:
    return bool(((new - old).abs() <= TOLERANCE * old).all())
