import logging

import lightning as L  # noqa: N812
import numpy as np
import pytest
import torch
from sklearn.linear_model import Perceptron as Reference
from sklearn.svm import SVC
from torch import optim
from torch.utils.data import DataLoader, TensorDataset

import dlarch
from dlarch.models.feedforward.perceptron import Perceptron, perceptron_criterion


@pytest.fixture(autouse=True)
def own_folders(tmp_path, session_cache, monkeypatch):
    monkeypatch.setenv("DLARCH_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("DLARCH_CACHE", str(session_cache))


class Mistakes(L.Callback):
    """Counts the steps that changed the weights, and can end training after an epoch without."""

    def __init__(self):
        self.count = self.before = 0

    def on_train_batch_start(self, trainer, module, *_):
        self.weights = torch.cat([p.detach().flatten().clone() for p in module.parameters()])

    def on_train_batch_end(self, trainer, module, *_):
        weights = torch.cat([p.detach().flatten() for p in module.parameters()])
        self.count += int(not torch.equal(weights, self.weights))

    def on_train_epoch_end(self, trainer, module):
        trainer.should_stop = self.count == self.before
        self.before = self.count


def train(model, rows, labels, epochs, *callbacks):
    """One example after the other, in their order."""
    loader = DataLoader(TensorDataset(rows, labels), batch_size=1)
    trainer = L.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=list(callbacks),
    )  # fmt: skip
    trainer.fit(model, loader)
    return model


def test_equals_scikit_learns_on_the_same_order_of_examples():
    random = np.random.default_rng(0)
    rows = random.normal(size=(60, 5)).astype(np.float32)
    labels = (rows @ random.normal(size=5) + 0.7 * random.normal(size=60) > 0.3).astype(int)
    reference = Reference(max_iter=4, tol=None, shuffle=False).fit(rows.astype(float), labels)
    model = Perceptron(in_features=5, num_classes=2)
    train(model, torch.from_numpy(rows), torch.from_numpy(labels), 4)
    assert (reference.predict(rows) != labels).any()  # the rule has not come to rest
    np.testing.assert_allclose(model.units.weight.detach(), reference.coef_, atol=1e-4)
    np.testing.assert_allclose(model.units.bias.detach(), reference.intercept_, atol=1e-4)


def test_several_classes_are_one_perceptron_on_keslers_long_inputs():
    random = np.random.default_rng(1)
    rows, labels = random.normal(size=(40, 3)).astype(np.float32), np.arange(40) % 4
    model = Perceptron(in_features=3, num_classes=4)
    train(model, torch.from_numpy(rows), torch.from_numpy(labels), 2)

    def long(row, label):
        placed = np.zeros((4, 4))
        placed[label] = [*row, 1.0]
        return placed.reshape(-1)

    reference = Reference(fit_intercept=False, shuffle=False)
    weights = np.zeros(16)
    for row, label in [*zip(rows, labels, strict=True)] * 2:
        scores = weights.reshape(4, 4) @ [*row, 1.0]
        scores[label] = -np.inf
        difference = long(row, label) - long(row, scores.argmax())
        reference.partial_fit(difference[None], [1], classes=[0, 1])
        weights = reference.coef_[0]
    ours = torch.cat([model.units.weight, model.units.bias[:, None]], 1).detach()
    np.testing.assert_allclose(ours, weights.reshape(4, 4), atol=1e-4)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_separable_examples_cost_no_more_mistakes_than_novikoff_proved(seed):
    random = np.random.default_rng(seed)
    rows = random.normal(size=(400, 2))
    height = rows @ [0.6, 0.8] + 0.2
    rows, labels = rows[abs(height) > 0.25], (height > 0)[abs(height) > 0.25].astype(int)
    augmented = np.hstack([rows, np.ones((len(rows), 1))])
    # The widest margin through the origin of the augmented space, found by another method.
    both = np.vstack([augmented, -augmented])
    signs = np.concatenate([labels, 1 - labels])
    plane = SVC(kernel="linear", C=1e6).fit(both, signs)
    normal = plane.coef_[0] / np.linalg.norm(plane.coef_)
    margin = np.abs(augmented @ normal).min()
    assert ((augmented @ normal > 0) == labels).all()
    bound = (np.linalg.norm(augmented, axis=1).max() / margin) ** 2
    mistakes = Mistakes()
    model = Perceptron(in_features=2, num_classes=2)
    inputs, targets = torch.from_numpy(rows).float(), torch.from_numpy(labels)
    train(model, inputs, targets, 100, mistakes)
    assert 0 < mistakes.count <= bound
    assert torch.equal(model(inputs).argmax(1), targets)


@pytest.mark.parametrize("gate", ["and", "or", "nand", "nor"])
def test_learns_the_gates_that_a_plane_divides(gate, caplog):
    caplog.set_level(logging.INFO, "dlarch")
    torch.manual_seed(0)
    data = dlarch.create_data("logic_gates", gate=gate, batch_size=1)
    options = {"max_epochs": 10, "logger": False, "enable_progress_bar": False}
    found = dlarch.fit("perceptron", data, accelerator="cpu", **options)
    assert found.metrics["test/accuracy"] == 1.0
    assert "The perceptron errs on none of 4 training examples." in caplog.text


def test_says_that_it_cannot_learn_xor(caplog):
    data = dlarch.create_data("logic_gates", gate="xor", batch_size=1)
    options = {"max_epochs": 10, "logger": False, "enable_progress_bar": False}
    found = dlarch.fit("perceptron", data, accelerator="cpu", **options)
    assert found.metrics["test/accuracy"] < 1.0
    (said,) = [record.message for record in caplog.records if "The perceptron" in record.message]
    assert "of 4 training examples" in said
    assert "only if a plane divides the classes" in said
    assert "use mlp or rbf_network" in said


@pytest.mark.parametrize(("label", "sum_", "fired"), [(1, -0.5, 0), (0, 0.5, 1), (1, 0.5, 1)])
def test_the_gradient_is_rosenblatts_rule(label, sum_, fired):
    sums = torch.tensor([[0.0, sum_]], requires_grad=True)
    perceptron_criterion(sums, torch.tensor([label])).backward()
    assert sums.grad[0, 1].item() == fired - label


def test_the_learning_rate_only_scales_what_starts_at_zero():
    rows, labels = torch.randn(30, 4, generator=torch.Generator().manual_seed(0)), torch.arange(30)
    slow = Perceptron(4, 3, optimizer=lambda parameters: optim.SGD(parameters, lr=0.25))
    one = train(Perceptron(4, 3), rows, labels % 3, 2)
    other = train(slow, rows, labels % 3, 2)
    torch.testing.assert_close(one.units.weight, 4 * other.units.weight)
