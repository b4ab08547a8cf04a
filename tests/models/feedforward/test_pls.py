import numpy as np
import pytest
import torch
from sklearn.cross_decomposition import PLSRegression
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression

import dlarch
from dlarch.errors import OptionError
from dlarch.models.feedforward.pls import PLS, partial_least_squares
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


def reference(x, y, components, scale=False):
    return PLSRegression(components, scale=scale, tol=1e-14, max_iter=10_000).fit(x, y)


def predictions(x, y, components):
    rows = Moments.of(torch.tensor(x), torch.tensor(y))
    rotation, loadings = partial_least_squares(rows.xx, rows.xy, components)
    return (torch.tensor(x) - rows.x_mean) @ rotation @ loadings.T + rows.y_mean


@pytest.mark.parametrize("components", range(1, 9))
def test_equals_scikit_learns_on_diabetes(components):
    """Centred, not scaled."""
    x, y = load_diabetes(return_X_y=True, scaled=False)
    wanted = reference(x, y, components).predict(x).reshape(-1, 1)
    np.testing.assert_allclose(predictions(x, y[:, None], components), wanted, rtol=1e-9)


def test_several_targets_equal_scikit_learns():
    random = np.random.default_rng(0)
    x = random.normal(size=(50, 6)) @ random.normal(size=(6, 6)) + 3.0
    y = x[:, :3] @ random.normal(size=(3, 4)) + random.normal(size=(50, 4))
    for components in (1, 2, 3, 5):
        wanted = reference(x, y, components).predict(x)
        np.testing.assert_allclose(predictions(x, y, components), wanted, atol=1e-6)


def test_all_components_are_least_squares():
    random = np.random.default_rng(1)
    x, y = random.normal(size=(30, 5)), random.normal(size=(30, 2))
    wanted = LinearRegression().fit(x, y).predict(x)
    np.testing.assert_allclose(predictions(x, y, 5), wanted, atol=1e-8)


def test_components_that_nothing_is_left_for_are_zero():
    random = np.random.default_rng(2)
    x = random.normal(size=(20, 2)) @ random.normal(size=(2, 5))  # of rank 2
    y = x @ random.normal(size=(5, 1)) + random.normal(size=(20, 1))
    rows = Moments.of(torch.tensor(x), torch.tensor(y))
    rotation, loadings = partial_least_squares(rows.xx, rows.xy, 4)
    assert rotation[:, 2:].eq(0).all()
    assert loadings[:, 2:].eq(0).all()
    wanted = LinearRegression().fit(x, y).predict(x)
    np.testing.assert_allclose(predictions(x, y, 4), wanted, atol=1e-8)


@pytest.mark.parametrize("normalize", [True, False])
def test_normalised_data_stand_for_scikit_learns_scale(normalize):
    data = dlarch.create_data("table", normalize=normalize)
    model = dlarch.create_model("pls", data, components=3)
    dlarch.fit(model, data, max_epochs=1, **OPTIONS)
    (batch,) = data.train_dataloader()
    found = np.array(data.processor.decode(model(batch.features).detach()))
    mean, std = np.array(data.processor.mean), np.array(data.processor.std)
    x = batch.features.double().numpy() * std + mean
    y = np.array(data.processor.decode(batch.target))
    wanted = reference(x, y, 3, scale=normalize).predict(x).reshape(-1, 1)
    np.testing.assert_allclose(found, wanted, rtol=2e-5)  # weights of 32 bits


def test_scores_are_uncorrelated_and_those_of_scikit_learn():
    data = dlarch.create_data("table")
    model = dlarch.create_model("pls", data, components=4)
    dlarch.fit(model, data, max_epochs=1, **OPTIONS)
    (batch,) = data.train_dataloader()
    scores = model.scores(batch.features).detach().double().numpy()
    gram = scores.T @ scores
    assert np.abs(gram - np.diag(np.diag(gram))).max() < 1e-5 * gram.max()
    x, y = batch.features.double().numpy(), batch.target.double().numpy()
    wanted = reference(x, y, 4).transform(x)
    np.testing.assert_allclose(np.abs(scores), np.abs(wanted), atol=2e-5)


def test_impossible_numbers_of_components_are_refused():
    with pytest.raises(OptionError, match="components must be at least 1"):
        PLS(components=0)
    with pytest.raises(OptionError, match="at most the number of inputs, 3, not 4"):
        PLS(in_features=3, out_features=1, components=4)
