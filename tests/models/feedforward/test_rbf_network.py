import logging
import os
import subprocess
import sys

import lightning as L  # noqa: N812
import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.linear_model import Ridge
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.neighbors import NearestNeighbors
from torch import optim
from torch.utils.data import DataLoader, TensorDataset

import dlarch
from dlarch import AutoModel
from dlarch.errors import OptionError
from dlarch.models.feedforward.rbf_network import (
    RadialBasis,
    RBFNetwork,
    k_means,
    mean_distances,
    ridge_regression,
    squared_distances,
)


@pytest.fixture(autouse=True)
def own_folders(tmp_path, session_cache, monkeypatch):
    monkeypatch.setenv("DLARCH_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("DLARCH_CACHE", str(session_cache))


def still(parameters):
    """Nothing but what a fit begins with."""
    return optim.SGD(parameters, lr=0.0)


def fit(model, data, **options):
    defaults = {"max_epochs": 1, "logger": False, "enable_progress_bar": False}
    return dlarch.fit(model, data, accelerator="cpu", **defaults | options)


def random_rows(count, columns, seed=0):
    return torch.randn((count, columns), generator=torch.Generator().manual_seed(seed))


def test_hidden_units_are_scikit_learns_gaussian_kernel():
    torch.manual_seed(0)
    layer = RadialBasis(5, 7)
    with torch.no_grad():
        layer.log_widths.normal_()
        rows = random_rows(20, 5)
        found = layer(rows)
    for unit in range(7):
        gamma = 1 / (2 * layer.log_widths[unit].exp().item() ** 2)
        center = layer.centers[unit : unit + 1].detach()
        wanted = rbf_kernel(rows.numpy(), center.numpy(), gamma=gamma)[:, 0]
        np.testing.assert_allclose(found[:, unit], wanted, atol=1e-5)


@pytest.mark.parametrize("shift", [0.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_distances_are_exact_far_from_zero_and_in_mixed_precision(shift, dtype):
    rows, centers = random_rows(30, 40) + shift, random_rows(9, 40, seed=1) + shift
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        found = squared_distances(rows, centers)
    wanted = cdist(rows.double(), centers.double(), "sqeuclidean")
    np.testing.assert_allclose(found, wanted, rtol=1e-3 if shift else 1e-5)
    assert squared_distances(rows, rows).min() >= 0


@pytest.mark.parametrize("ridge", [1e-3, 1.0, 100.0])
def test_output_weights_are_scikit_learns_ridge_regression(ridge):
    inputs, targets = random_rows(5000, 12), random_rows(5000, 3, seed=1)
    targets = targets + inputs[:, :3] + 2
    weight, bias = ridge_regression(inputs, targets, ridge)
    reference = Ridge(alpha=ridge).fit(inputs.double().numpy(), targets.double().numpy())
    np.testing.assert_allclose(weight, reference.coef_, atol=1e-6)
    np.testing.assert_allclose(bias, reference.intercept_, atol=1e-6)


def test_widths_are_mean_distances_to_the_nearest_centres():
    centers = random_rows(30, 4)
    distances, _ = NearestNeighbors(n_neighbors=6).fit(centers).kneighbors(centers)
    np.testing.assert_allclose(mean_distances(centers, 5), distances[:, 1:].mean(1), rtol=1e-4)
    assert mean_distances(centers[:1], 5).tolist() == [1.0]
    assert (mean_distances(centers[:1].repeat(3, 1), 2) > 0).all()


def test_a_fit_finds_the_middle_of_each_heap_and_keeps_random_states():
    middles = 10 * random_rows(5, 3, seed=2)
    rows = (middles[:, None] + 0.1 * random_rows(200, 3).reshape(5, 40, 3)).reshape(200, 3)
    labels = torch.arange(5).repeat_interleave(40)
    model = RBFNetwork(3, 5, num_centers=5, neighbors=2, optimizer=still)

    class State(L.Callback):
        def on_train_start(self, trainer, module):
            self.before = torch.get_rng_state(), np.random.get_state()[1].copy()

        def on_train_epoch_start(self, trainer, module):
            self.after = torch.get_rng_state(), np.random.get_state()[1].copy()

    state = State()
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[state],
    )  # fmt: skip
    loader = DataLoader(TensorDataset(rows, labels), batch_size=16, shuffle=True)
    trainer.fit(model, loader)  # a loader of torch, without a data module
    nearest = torch.cdist(middles, model.hidden.centers.detach()).min(1).values
    assert nearest.max() < 0.1
    assert torch.equal(model(rows).argmax(1), labels)
    assert torch.equal(state.before[0], state.after[0])
    assert (state.before[1] == state.after[1]).all()


def test_one_centre_per_example_interpolates():
    data = dlarch.create_data("curves_1d", size=100, noise=0.3)
    model = dlarch.create_model(
        "rbf_network", data, num_centers=80, neighbors=2, ridge=1e-9, optimizer=still
    )
    fit(model, data, test_after_fit=False)
    (batch,) = data.in_order("train")
    assert len(batch.features) == 80
    with torch.no_grad():
        error = (model(batch.features) - batch.target).abs()
    assert error.mean() < 1e-2


def test_least_squares_alone_are_good_and_likely():
    data = dlarch.create_data("digits", batch_size=200)
    model = dlarch.create_model("rbf_network", data, num_centers=200, optimizer=still)
    found = fit(model, data).metrics
    assert found["val/accuracy"] > 0.93
    assert found["val/loss"] < 0.3  # 2.303 before; the scale of the outputs is right


def test_the_gradient_goes_where_it_is_let():
    data = dlarch.create_data("toy_2d", size=200)

    def trained(**options):
        torch.manual_seed(0)
        model = dlarch.create_model("rbf_network", data, num_centers=10, **options)
        fit(model, data, max_epochs=3, test_after_fit=False)
        return model.hidden

    start = trained(optimizer=still)
    for centers in (True, False):
        for widths in (True, False):
            hidden = trained(train_centers=centers, train_widths=widths)
            assert torch.equal(hidden.centers, start.centers) != centers
            assert torch.equal(hidden.log_widths, start.log_widths) != widths


def test_a_second_fit_goes_on_from_the_first():
    data = dlarch.create_data("toy_2d", size=200)
    model = dlarch.create_model("rbf_network", data, num_centers=10)
    fit(model, data, max_epochs=5, test_after_fit=False)
    before = model.hidden.centers.detach().clone()
    model.make_optimizer = still
    fit(model, data, test_after_fit=False)
    assert torch.equal(before, model.hidden.centers)


def test_learns_xor(caplog):
    data = dlarch.create_data("logic_gates", gate="xor")
    model = dlarch.create_model("rbf_network", data, num_centers=6)
    assert fit(model, data).metrics["test/accuracy"] == 1.0
    assert "There are 4 training examples for 6 centres" in caplog.text


def test_regression_follows_a_curve():
    data = dlarch.create_data("curves_1d", noise=0.0)
    model = dlarch.create_model("rbf_network", data, num_centers=30, optimizer=still)
    assert fit(model, data).metrics["test/rmse"] < 0.01


def test_impossible_options_are_refused():
    for options in ({"num_centers": 0}, {"neighbors": 0}, {"ridge": 0.0}, {"width_scale": -1.0}):
        with pytest.raises(OptionError, match="must be"):
            RBFNetwork(**options)


def test_few_inputs_are_the_centres():
    rows = random_rows(4, 2)
    assert torch.equal(k_means(rows, 5, seed=0), rows)


@pytest.mark.slow
def test_two_processes_start_from_the_same_centres_as_one(tmp_path):
    hidden = []
    for name, processes in (("one", 1), ("two", 2)):
        words = (
            f"fit --model rbf_network --model.num_centers 20 --data digits --data.train_size 200 "
            f"--model.optimizer torch.optim.SGD --model.optimizer.lr 0 --trainer.max_steps 1 "
            f"--trainer.accelerator cpu --trainer.devices {processes} --trainer.logger false "
            f"--test_after_fit false --seed_everything 1"
        )
        words += " --trainer.strategy ddp" if processes > 1 else ""
        folder = tmp_path / name
        environment = os.environ | {"DLARCH_RUNS": str(folder), "CUDA_VISIBLE_DEVICES": ""}
        done = subprocess.run(
            [sys.executable, "-m", "dlarch", *words.split()],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=250,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        (last,) = folder.rglob("last.ckpt")
        hidden.append(AutoModel.from_pretrained(last))
    for one, other in zip(*(model.state_dict().values() for model in hidden), strict=True):
        assert torch.equal(one, other)
    assert bool(hidden[0].placed)


def test_says_nothing_where_there_are_examples_enough(caplog):
    caplog.set_level(logging.WARNING, "dlarch.models")
    data = dlarch.create_data("toy_2d", size=200)
    fit(dlarch.create_model("rbf_network", data, num_centers=20), data, test_after_fit=False)
    assert "centres" not in caplog.text
