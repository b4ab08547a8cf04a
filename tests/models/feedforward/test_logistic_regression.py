import math
import os
import subprocess
import sys
import warnings

import lightning as L  # noqa: N812
import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.linear_model import LogisticRegression as Reference
from sklearn.preprocessing import scale
from torch import optim
from torch.nn import functional as F  # noqa: N812
from torch.optim.lr_scheduler import ExponentialLR
from torch.utils.data import DataLoader, TensorDataset

import dlarch
from dlarch import AutoModel
from dlarch.errors import OptionError
from dlarch.models.feedforward.logistic_regression import LogisticRegression


def lbfgs(parameters, **options):
    return optim.LBFGS(parameters, line_search_fn="strong_wolfe", **options)


def exact(parameters):
    return lbfgs(parameters, max_iter=500, tolerance_grad=1e-9, tolerance_change=1e-12)


@pytest.fixture(autouse=True)
def own_folders(tmp_path, session_cache, monkeypatch):
    monkeypatch.setenv("DLARCH_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("DLARCH_CACHE", str(session_cache))


def trained(rows, labels, epochs, **options):
    """All examples in each step."""
    model = LogisticRegression(rows.shape[1], int(labels.max()) + 1, **options)
    examples = TensorDataset(torch.from_numpy(rows).float(), torch.from_numpy(labels))
    trainer = L.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(model, DataLoader(examples, batch_size=len(rows)))
    return model, trainer


def probabilities(model, rows):
    with torch.no_grad():
        return model(torch.from_numpy(rows).float()).softmax(1).numpy()


@pytest.mark.parametrize("load", [load_wine, load_breast_cancer])  # three classes, and two
@pytest.mark.parametrize("alpha", [0.3, 0.01])
def test_equals_scikit_learns(load, alpha):
    rows, labels = load(return_X_y=True)
    rows = scale(rows)
    reference = Reference(C=1 / (alpha * len(rows)), tol=1e-8, max_iter=5000).fit(rows, labels)
    model, _ = trained(rows, labels, 3, alpha=alpha, optimizer=exact)
    weight, bias = model.linear.weight.detach().numpy(), model.linear.bias.detach().numpy()
    np.testing.assert_allclose(weight, reference.coef_, atol=1e-3)
    np.testing.assert_allclose(bias, reference.intercept_, atol=1e-3)
    np.testing.assert_allclose(probabilities(model, rows), reference.predict_proba(rows), atol=2e-4)
    if len(weight) > 1:
        np.testing.assert_allclose(weight.sum(0), 0, atol=1e-3)  # which L2 chooses


def objective(logits, labels, weight, alpha, ratio):
    loss = F.cross_entropy(torch.from_numpy(logits).float(), torch.from_numpy(labels)).item()
    return loss + alpha * (ratio * abs(weight).sum() + (1 - ratio) / 2 * np.square(weight).sum())


# L1 alone leaves the probabilities of a flat minimum loose.
@pytest.mark.parametrize(("ratio", "tolerance"), [(0.5, 1e-3), (1.0, 2e-2)])
def test_the_elastic_net_equals_scikit_learns(ratio, tolerance):
    rows, labels = load_wine(return_X_y=True)
    rows, alpha = scale(rows), 0.03
    strength = 1 / (alpha * len(rows))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # later versions say it without `penalty`
        reference = Reference(
            penalty="elasticnet", l1_ratio=ratio, C=strength, solver="saga", tol=1e-6, max_iter=5000
        ).fit(rows, labels)
    model, _ = trained(
        rows,
        labels,
        1500,
        alpha=alpha,
        l1_ratio=ratio,
        optimizer=lambda parameters: optim.Adam(parameters, lr=0.05),
        scheduler=lambda optimizer: ExponentialLR(optimizer, 0.995),
    )
    found, wanted = probabilities(model, rows), reference.predict_proba(rows)
    np.testing.assert_allclose(found, wanted, atol=tolerance)
    weight = model.linear.weight.detach().numpy()
    assert (np.abs(weight[reference.coef_ == 0]) < 1e-2).all()
    assert (reference.coef_ == 0).any()
    ours = objective(np.log(found), labels, weight, alpha, ratio)
    theirs = objective(np.log(wanted), labels, reference.coef_, alpha, ratio)
    assert ours == pytest.approx(theirs, rel=1e-3)


def test_biases_are_not_penalised():
    """Even without any weights the frequencies of the classes are learnt."""
    rows = np.random.default_rng(0).normal(size=(200, 3))
    labels = (np.arange(200) < 150).astype(np.int64)
    model, _ = trained(rows, labels, 2, alpha=1e4, optimizer=exact)
    np.testing.assert_allclose(probabilities(model, rows)[:, 1], 0.75, atol=1e-3)


def test_the_loss_of_a_step_counts_once_though_lbfgs_looks_at_it_often():
    rows, labels = load_wine(return_X_y=True)
    looks = []

    class Watched(LogisticRegression):
        def forward(self, inputs):
            looks.append(len(inputs))
            return super().forward(inputs)

    model = Watched(13, 3, optimizer=lbfgs)
    examples = TensorDataset(torch.from_numpy(scale(rows)).float(), torch.from_numpy(labels))
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=1,
    )  # fmt: skip
    trainer.fit(model, DataLoader(examples, batch_size=178))
    assert len(looks) > 10
    # At weights of 0 all classes are equally probable.
    assert trainer.callback_metrics["train/loss"].item() == pytest.approx(math.log(3), rel=1e-5)


def test_lbfgs_resumes_exactly():
    options = {"test_after_fit": False, "enable_progress_bar": False, "logger": False}

    def fit(name, steps, **more):
        torch.manual_seed(0)
        model = LogisticRegression(optimizer=lambda parameters: lbfgs(parameters, max_iter=4))
        data = dlarch.create_data("digits", train_size=100, batch_size=50)
        found = dlarch.fit(model, data, name=name, max_steps=steps, accelerator="cpu", **options,
                           **more)  # fmt: skip
        return model, found.run

    whole, _ = fit("whole", 6)
    _, half = fit("half", 3)
    resumed, _ = fit("half", 6, ckpt_path=half.folder)
    assert torch.equal(whole.linear.weight, resumed.linear.weight)
    assert whole.linear.weight.abs().max() > 0


def test_lbfgs_does_not_accumulate():
    data = dlarch.create_data("digits", train_size=100, batch_size=50)
    model = LogisticRegression(optimizer=lbfgs)
    with pytest.raises(OptionError, match=r"give a larger --data.batch_size instead"):
        dlarch.fit(model, data, max_steps=1, accumulate_grad_batches=2, accelerator="cpu")


@pytest.mark.slow
def test_two_processes_search_along_the_same_line_as_one(tmp_path):
    """L-BFGS goes by the loss, so that of all processes must be the mean over all examples."""
    weights = []
    for name, processes in (("one", 1), ("two", 2)):
        words = (
            f"fit --model logistic_regression --model.alpha 0.01 --data digits "
            f"--data.train_size 400 --data.batch_size {400 // processes} "
            f"--model.optimizer torch.optim.LBFGS --model.optimizer.line_search_fn strong_wolfe "
            f"--model.optimizer.lr 1 "
            f"--trainer.max_epochs 2 --trainer.accelerator cpu --trainer.devices {processes} "
            f"--trainer.logger false --test_after_fit false --seed_everything 1"
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
        weights.append(AutoModel.from_pretrained(last).linear.weight)
    assert weights[0].abs().max() > 0.1
    torch.testing.assert_close(*weights, atol=1e-3, rtol=1e-3)


def test_two_classes_have_the_logistic_function():
    model = LogisticRegression(4, 2)
    rows = torch.randn(5, 4)
    with torch.no_grad():
        model.linear.weight.normal_()
        found = model(rows).softmax(1)[:, 1]
    wanted = torch.sigmoid(F.linear(rows, model.linear.weight, model.linear.bias))[:, 0]
    torch.testing.assert_close(found, wanted)
