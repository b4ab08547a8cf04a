import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression as Reference
from sklearn.linear_model import Ridge
from sklearn.preprocessing import PolynomialFeatures
from torch import optim

import dlarch
from dlarch.batches import TableBatch
from dlarch.errors import MismatchError, OptionError
from dlarch.models.feedforward.linear_regression import LinearRegression, least_squares
from dlarch.tasks import Moments

OPTIONS = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "accelerator": "cpu",
    "devices": 1,
    "test_after_fit": False,
    "limit_val_batches": 0,
}


@pytest.fixture(autouse=True)
def _runs(tmp_path, monkeypatch):
    monkeypatch.setenv("DLARCH_RUNS", str(tmp_path / "runs"))


@pytest.fixture
def diabetes():
    data = dlarch.create_data("table")
    data.prepare_data()
    data.setup()
    return data


def rows(data):
    (batch,) = data.train_dataloader()
    return batch.features.double().numpy(), batch.target.double().numpy()


def weights(model):
    return np.append(model.output.weight.detach().numpy(), model.output.bias.detach().numpy())


def reference(x, y, alpha):
    """scikit-learn's penalty stands beside the sum of squared errors, ours beside their mean."""
    model = Ridge(len(x) * y.shape[1] * alpha / 2, tol=1e-12) if alpha else Reference()
    return model.fit(x, y)


@pytest.mark.parametrize("alpha", [0.0, 0.1])
def test_equals_scikit_learns(diabetes, alpha):
    model = dlarch.create_model("linear_regression", diabetes, alpha=alpha)
    dlarch.fit(model, diabetes, max_epochs=1, **OPTIONS)
    wanted = reference(*rows(diabetes), alpha)
    np.testing.assert_allclose(
        weights(model), np.append(wanted.coef_, wanted.intercept_), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_several_targets_and_few_rows_equal_scikit_learns(alpha):
    random = np.random.default_rng(0)
    for count in (40, 4):  # with four rows there are many perfect weights: the shortest are wanted
        x, y = random.normal(size=(count, 6)) + 50.0, random.normal(size=(count, 2))
        found = least_squares(Moments.of(torch.tensor(x), torch.tensor(y)), alpha)
        np.testing.assert_allclose(found, reference(x, y, alpha).coef_, atol=1e-9)


@pytest.mark.parametrize(
    ("alpha", "columns"),
    [(0.1, None), (0.0, ["age", "bmi", "bp", "s5"])],
    ids=["ridge", "ordinary"],
)
def test_the_three_solvers_agree(alpha, columns):
    """At alpha 0.1, or with few columns, the problem is conditioned well enough for 600 steps."""
    data = dlarch.create_data("table", columns=columns)
    data.prepare_data()
    data.setup()

    def fit(epochs, **options):
        model = dlarch.create_model("linear_regression", data, alpha=alpha, **options)
        dlarch.fit(model, data, max_epochs=epochs, **OPTIONS)
        return weights(model)

    solved = fit(1)
    descended = fit(600, solver="gradient_descent", learning_rate=0.2)
    optimised = fit(
        8,
        solver="optimizer",
        optimizer=lambda parameters: optim.LBFGS(parameters, line_search_fn="strong_wolfe"),
    )
    np.testing.assert_allclose(descended, solved, atol=2e-6)
    np.testing.assert_allclose(optimised, solved, atol=2e-5)


def test_the_gradient_written_out_is_that_of_autograd():
    model = LinearRegression(in_features=5, out_features=2, alpha=0.3)
    batch = LinearRegression.example(7, seed=0)[1]
    torch.nn.init.normal_(model.output.weight)
    torch.nn.init.normal_(model.output.bias)
    loss = torch.nn.functional.mse_loss(model(batch.features), batch.target) + model.penalty()
    loss.backward()
    weight, bias = model.gradient(Moments.of(batch.features, batch.target))
    torch.testing.assert_close(weight.float(), model.output.weight.grad)
    torch.testing.assert_close(bias.float(), model.output.bias.grad)


def test_a_written_out_step_is_one_of_sgd():
    steps = []
    for solver in ("gradient_descent", "optimizer"):
        data = dlarch.create_data("curves_1d", size=60, batch_size=16)
        model = dlarch.create_model(
            "linear_regression", data, solver=solver, learning_rate=0.05, basis="gaussian",
            alpha=0.1, optimizer=lambda parameters: optim.SGD(parameters, lr=0.05),
        )  # fmt: skip
        dlarch.fit(model, data, max_epochs=2, **OPTIONS)
        steps.append(weights(model))
    np.testing.assert_allclose(*steps, rtol=1e-5, atol=1e-6)


def test_powers_give_the_fit_of_scikit_learns_polynomials():
    data = dlarch.create_data("curves_1d", curve="cubic", size=60)
    model = dlarch.create_model("linear_regression", data, basis="polynomial", basis_size=4)
    dlarch.fit(model, data, max_epochs=1, **OPTIONS)
    x, y = rows(data)
    powers = PolynomialFeatures(4)
    wanted = Reference().fit(powers.fit_transform(x), y).predict(powers.transform(x))
    found = model(torch.from_numpy(x).float()).detach()
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_impossible_options_are_refused():
    with pytest.raises(OptionError, match="alpha must be 0 or more"):
        LinearRegression(alpha=-1.0)
    with pytest.raises(OptionError, match="basis_size must be at least 1"):
        LinearRegression(basis="gaussian", basis_size=0)


def test_classes_are_refused():
    with pytest.raises(MismatchError, match="out_features"):
        dlarch.create_model("linear_regression", dlarch.create_data("toy_2d"))


def test_the_weights_start_at_zero():
    batch = TableBatch(torch.ones(3, 2), torch.ones(3, 1))
    model = LinearRegression(in_features=2, out_features=1)
    assert model(batch.features).eq(0).all()
