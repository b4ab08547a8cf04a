import numpy as np
import pytest
import torch
from scipy.linalg import helmert
from scipy.optimize import minimize
from scipy.stats import multivariate_normal
from sklearn.linear_model import BayesianRidge, Ridge

import dlarch
from dlarch.batches import TableBatch
from dlarch.errors import OptionError
from dlarch.models.feedforward.bayesian_linear_regression import BayesianLinearRegression
from dlarch.tasks import Moments

PRIOR, NOISE = 0.7, 4.0


@pytest.fixture
def rows():
    random = np.random.default_rng(0)
    x = random.normal(size=(25, 3)) * [1.0, 2.0, 0.5] + [3.0, 0.0, -1.0]
    y = x @ [[0.5], [-0.3], [1.0]] + 2.0 + random.normal(size=(25, 1)) * 0.5
    return x, y


def learnt(x, y, parts=1, **options):
    model = BayesianLinearRegression(in_features=x.shape[1], out_features=y.shape[1], **options)
    pieces = np.array_split(np.arange(len(x)), parts)
    seen = None
    with torch.no_grad():
        for piece in pieces:
            batch = Moments.of(torch.tensor(x[piece]), torch.tensor(y[piece]))
            seen = batch if seen is None else seen + batch
            model.learn(seen, batch)
    return model


def joint_posterior(x, y, prior, noise, before=None):
    """Mean and covariance of bias and weights together, the bias with a flat prior."""
    wide = np.column_stack((np.ones(len(x)), x))
    precision = np.diag([0.0, *[prior] * x.shape[1]])
    shift = np.zeros(len(precision))
    if before is not None:
        precision = np.linalg.inv(before[1])
        shift = precision @ before[0]
    covariance = np.linalg.inv(precision + noise * wide.T @ wide)
    return covariance @ (shift + noise * wide.T @ y[:, 0]), covariance


def test_the_posterior_is_the_analytic_one(rows):
    x, y = rows
    model = learnt(x, y, prior_precision=PRIOR, noise_precision=NOISE)
    mean, covariance = joint_posterior(x, y, PRIOR, NOISE)
    np.testing.assert_allclose(model.output.weight[0].detach(), mean[1:], rtol=1e-5)
    np.testing.assert_allclose(model.output.bias[0].item(), mean[0], rtol=1e-5)
    np.testing.assert_allclose(model.covariance()[0], covariance[1:, 1:], rtol=1e-4, atol=1e-8)


def test_predictions_are_as_uncertain_as_bias_weights_and_noise(rows):
    x, y = rows
    model = learnt(x, y, prior_precision=PRIOR, noise_precision=NOISE)
    mean, covariance = joint_posterior(x, y, PRIOR, NOISE)
    new = np.random.default_rng(1).normal(size=(6, 3)) * 4
    wide = np.column_stack((np.ones(6), new))
    found = model.predictive(torch.tensor(new).float())
    variance = 1 / NOISE + np.einsum("bi,ij,bj->b", wide, covariance, wide)
    np.testing.assert_allclose(found.mean[:, 0].detach(), wide @ mean, rtol=1e-5)
    np.testing.assert_allclose(found.variance[:, 0], variance, rtol=1e-5)


def test_the_posterior_of_some_rows_is_the_prior_of_the_next(rows):
    x, y = rows
    model = learnt(x, y, parts=4, prior_precision=PRIOR, noise_precision=NOISE)
    found = None
    for piece in np.array_split(np.arange(25), 4):
        found = joint_posterior(x[piece], y[piece], PRIOR, NOISE, before=found)
    np.testing.assert_allclose(model.output.weight[0].detach(), found[0][1:], rtol=1e-5)
    np.testing.assert_allclose(model.covariance()[0], found[1][1:, 1:], rtol=1e-4, atol=1e-8)


def marginal(x, y, prior, noise):
    """log p(y) with the weights integrated out, of what is left of the rows without a mean."""
    left = helmert(len(x))  # an orthonormal basis of what the bias cannot move
    x, y = left @ x, left @ y
    covariance = np.eye(len(x)) / noise + x @ x.T / prior
    return multivariate_normal(np.zeros(len(x)), covariance).logpdf(y[:, 0])


def test_the_evidence_is_largest(rows):
    x, y = rows
    model = learnt(x, y)
    values, vectors = np.linalg.eigh(np.cov(x.T, ddof=0) * 25)
    found = model.precisions(
        torch.tensor(values)[:, None],
        torch.tensor(vectors.T @ (x - x.mean(0)).T @ y),
        Moments.of(torch.tensor(x), torch.tensor(y)),
    )
    best = minimize(
        lambda logs: -marginal(x, y, *np.exp(logs)), [0.0, 0.0], method="Nelder-Mead",
        options={"xatol": 1e-9, "fatol": 1e-12},
    )  # fmt: skip
    np.testing.assert_allclose([*found.prior, *found.noise], np.exp(best.x), rtol=1e-5)
    np.testing.assert_allclose(1 / model.noise_variance, found.noise, rtol=1e-5)


@pytest.mark.parametrize("given", ["prior_precision", "noise_precision"])
def test_the_evidence_is_largest_beside_a_precision_that_is_given(rows, given):
    x, y = rows
    model = learnt(x, y, **{given: 2.0})

    def cost(log):
        pair = (2.0, np.exp(log[0])) if given == "prior_precision" else (np.exp(log[0]), 2.0)
        return -marginal(x, y, *pair)

    best = np.exp(minimize(cost, [0.0], method="Nelder-Mead", options={"xatol": 1e-9}).x[0])
    prior, noise = (2.0, best) if given == "prior_precision" else (best, 2.0)
    mean, _ = joint_posterior(x, y, prior, noise)
    np.testing.assert_allclose(model.output.weight[0].detach(), mean[1:], rtol=1e-4)
    np.testing.assert_allclose(1 / model.noise_variance, noise, rtol=1e-4)


def test_the_precisions_are_those_of_scikit_learns_bayesian_ridge(rows):
    """It does not integrate out the bias, so it gets rows from which the mean is gone."""
    x, y = rows
    left = helmert(len(x))
    flat = {"alpha_1": 0.0, "alpha_2": 0.0, "lambda_1": 0.0, "lambda_2": 0.0}
    wanted = BayesianRidge(fit_intercept=False, tol=1e-12, max_iter=10_000, **flat)
    wanted.fit(left @ x, (left @ y)[:, 0])
    model = learnt(x, y)
    np.testing.assert_allclose(1 / model.noise_variance, wanted.alpha_, rtol=1e-5)
    np.testing.assert_allclose(model.output.weight[0].detach(), wanted.coef_, rtol=1e-5)
    np.testing.assert_allclose(model.covariance()[0], wanted.sigma_, rtol=1e-4, atol=1e-8)


def test_each_target_has_precisions_of_its_own(rows):
    x, y = rows
    noisy = y + np.random.default_rng(3).normal(size=y.shape) * 3
    both, alone = learnt(x, np.column_stack((y, noisy))), learnt(x, noisy)
    torch.testing.assert_close(both.noise_variance[1:], alone.noise_variance)
    torch.testing.assert_close(both.covariance()[1:], alone.covariance())
    assert both.noise_variance[1] > 4 * both.noise_variance[0]


def test_without_any_signal_the_mean_is_predicted():
    random = np.random.default_rng(5)
    x, y = random.normal(size=(200, 3)), random.normal(size=(200, 1))
    y = y - x @ np.linalg.lstsq(x - x.mean(0), y, rcond=None)[0]  # no linear signal at all
    model = learnt(x, y)
    np.testing.assert_allclose(model.output.weight.detach(), 0, atol=1e-6)
    np.testing.assert_allclose(model.noise_variance, y.var(ddof=1), rtol=1e-4)


def test_the_mean_is_ridge_regression(rows):
    x, y = rows
    model = learnt(x, y, prior_precision=PRIOR, noise_precision=NOISE)
    wanted = Ridge(PRIOR / NOISE).fit(x, y)
    np.testing.assert_allclose(model.output.weight.detach(), wanted.coef_.reshape(1, -1), rtol=1e-5)


def test_scores_of_new_rows_are_those_of_the_density(tmp_path, monkeypatch):
    """Per row, in the target's own unit."""
    monkeypatch.setenv("DLARCH_RUNS", str(tmp_path))
    data = dlarch.create_data("table", batch_size=100)
    model = dlarch.create_model("bayesian_linear_regression", data)
    options = {"logger": False, "accelerator": "cpu", "devices": 1, "enable_progress_bar": False}
    found = dlarch.fit(model, data, max_epochs=1, **options).metrics
    batch = TableBatch(*data.dataset("test")[np.arange(44)])
    predictive = model.predictive(batch.features)
    unit, shift = data.processor.target_std[0], data.processor.target_mean[0]
    mean = predictive.mean[:, 0].detach().double().numpy() * unit + shift
    std = predictive.stddev[:, 0].double().numpy() * unit
    truth = np.array(data.processor.decode(batch.target))[:, 0]
    density = -0.5 * np.log(2 * np.pi * std**2) - (truth - mean) ** 2 / (2 * std**2)
    assert found["test/nll"] == pytest.approx(-density.mean(), rel=1e-5)
    for name, wide in (("50", 0.67449), ("90", 1.64485), ("95", 1.95996)):
        share = (np.abs(truth - mean) <= wide * std).mean()
        assert found[f"test/coverage_{name}"] == pytest.approx(share, rel=1e-5)
    line = model.predict_step(batch, 0)[3].split("\t")
    np.testing.assert_allclose([float(n) for n in line], [mean[3], std[3]], rtol=1e-4)


def test_impossible_options_are_refused():
    with pytest.raises(OptionError, match="prior_precision must be above 0"):
        BayesianLinearRegression(prior_precision=0.0)
    with pytest.raises(OptionError, match="noise_precision must be above 0"):
        BayesianLinearRegression(noise_precision=-1.0)
    with pytest.raises(OptionError, match="basis_size must be at least 1"):
        BayesianLinearRegression(basis="polynomial", basis_size=0)
