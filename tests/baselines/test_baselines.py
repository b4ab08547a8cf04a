"""Baselines see what networks see, and are scored by the same metric."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes, load_digits
from sklearn.linear_model import LogisticRegression

from dlarch import create_baseline, create_data, create_model, fit, list_baselines
from dlarch.baselines import arrays, score
from dlarch.errors import MismatchError, OptionError, UnknownNameError


@pytest.fixture(scope="module")
def digits():
    data = create_data("digits", rotate=10.0, shift=0.1)
    data.prepare_data()
    data.setup("fit")
    return data


@pytest.fixture(scope="module")
def table():
    data = create_data("table")
    data.prepare_data()
    data.setup("fit")
    return data


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_arrays_are_the_split_normalised_and_never_augmented(digits, split):
    features, labels = arrays(digits, split)
    pixels = load_digits()
    known = {tuple(image.astype(int).ravel()): label for image, label in
             zip(pixels.images, pixels.target, strict=True)}  # fmt: skip
    raw = digits.processor.decode(torch.from_numpy(features).unflatten(1, (1, 8, 8)))
    found = [
        known.get(tuple(np.rint(image.astype(float).ravel() * 16 / 255).astype(int)))
        for image in raw
    ]
    assert found == labels.tolist()
    if split == "train":
        assert features.mean() == pytest.approx(0, abs=1e-4)
        assert features.std() == pytest.approx(1, abs=1e-4)


def test_splits_have_all_rows_once(table):
    targets = [arrays(table, split)[1] for split in ("train", "validation", "test")]
    mean, std = table.processor.target_mean[0], table.processor.target_std[0]
    back = np.sort(np.concatenate(targets)[:, 0] * std + mean)
    assert back == pytest.approx(np.sort(load_diabetes().target), abs=1e-3)


@pytest.mark.parametrize("name", list_baselines())
def test_every_baseline_beats_guessing(name, digits, table):
    baseline = create_baseline(name)
    if baseline.predicts == "classes":
        found = score(baseline, digits).metrics
        assert set(found) == {"val/accuracy", "test/accuracy"}
        assert found["test/accuracy"] > 0.85
    else:
        found = score(baseline, table).metrics
        _, targets = arrays(table, "test")
        guess = float(targets.std()) * table.processor.target_std[0]
        assert set(found) == {"val/rmse", "val/mae", "test/rmse", "test/mae"}
        assert found["test/rmse"] < 0.9 * guess


def test_the_accuracy_is_scikit_learns_own(digits):
    features, labels = arrays(digits, "train")
    own = LogisticRegression(C=0.1, max_iter=1000, tol=1e-3).fit(features, labels)
    expected = own.score(*arrays(digits, "test"))
    found = score(create_baseline("logistic_regression"), digits).metrics["test/accuracy"]
    assert found == pytest.approx(expected)


def test_a_network_of_the_same_weights_gets_the_same_accuracy(digits, tmp_path, monkeypatch):
    monkeypatch.setenv("DLARCH_RUNS", str(tmp_path))
    features, labels = arrays(digits, "train")
    own = LogisticRegression(C=0.1, max_iter=1000, tol=1e-3).fit(features, labels)
    model = create_model("mlp", digits, hidden_sizes=[])
    with torch.no_grad():
        model.output.weight.copy_(torch.from_numpy(own.coef_))
        model.output.bias.copy_(torch.from_numpy(own.intercept_))
    data = create_data("digits")
    trained = fit(model, data, max_epochs=0, accelerator="cpu", enable_progress_bar=False)
    found = score(create_baseline("logistic_regression"), digits).metrics
    assert trained.metrics["test/accuracy"] == pytest.approx(found["test/accuracy"], abs=1e-6)


def test_errors_are_in_the_targets_own_unit(table):
    found = score(create_baseline("ridge"), table).metrics
    assert 40 < found["test/rmse"] < 70  # of a disease score between 25 and 346
    assert found["test/mae"] < found["test/rmse"]


def test_a_seed_makes_a_forest_again(digits):
    one, same, other = (
        score(create_baseline("random_forest", trees=5), digits, seed).metrics for seed in (1, 1, 2)
    )
    assert one == same
    assert one != other


def test_what_does_not_fit_is_refused(digits, table):
    with pytest.raises(
        MismatchError, match=r"predicts numbers, .*: take a baseline that predicts classes"
    ):
        score(create_baseline("ridge"), digits)
    with pytest.raises(
        MismatchError, match=r"predicts classes, .*: take a baseline that predicts numbers"
    ):
        score(create_baseline("svc"), table)
    with pytest.raises(UnknownNameError, match="Did you mean 'svc'"):
        create_baseline("svm")
    with pytest.raises(OptionError, match="no option 'tree'"):
        create_baseline("random_forest", tree=3)
