"""Every line of the catalogue of techniques, on the real command line, does what is said of it."""

import json
import math
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dlarch import optim
from dlarch.cli.main import main
from dlarch.models.feedforward.mlp import MLP
from dlarch.nn import ACTIVATIONS, make_activation

DOCS = Path(__file__).parents[2] / "docs"


def table(heading: str, name: str = "techniques.md") -> dict[str, str]:
    """First cell to the option of each row under a heading, up to the next one."""
    text = (DOCS / name).read_text(encoding="utf-8")
    section = re.split(r"^##+ ", text, flags=re.MULTILINE)
    (part,) = [each for each in section if each.startswith(f"{heading}\n")]
    rows = re.findall(r"^\| ([^|]*) \|(?:.*\|)? `(--[^`|]*)` \|$", part, re.MULTILINE)
    return dict(rows)


class Built(BaseException):
    """Ends a fit when all has been made of the options, and nothing has been trained."""


@pytest.fixture
def build(tmp_path, session_cache, monkeypatch):
    """The model that a line makes, attached to its Trainer."""
    monkeypatch.setenv("DLARCH_CACHE", str(session_cache))
    monkeypatch.setenv("DLARCH_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    start = MLP.on_fit_start

    def stop(self):
        start(self)
        raise Built(self)

    def made(line, base="--config mlp"):
        monkeypatch.setattr(MLP, "on_fit_start", stop)
        words = f"fit {base} --trainer.accelerator cpu --trainer.enable_progress_bar false"
        with pytest.raises(Built) as found:
            main([*words.split(), *shlex.split(line)])
        monkeypatch.setattr(MLP, "on_fit_start", start)
        return found.value.args[0]

    return made


ACTIVATION, INITIALIZER = table("Activations"), table("Initialisers")


def test_the_catalogue_is_complete():
    assert {name.split(",")[0] for name in ACTIVATION} == set(ACTIVATIONS)
    assert len(INITIALIZER) == 6
    assert len(table("Losses")) == 4 + 5
    assert len(table("Optimizers")) == 11
    assert len(table("Batch normalisation")) == 2
    assert len(table("Regularisation")) == 8


@pytest.mark.parametrize("name", ACTIVATION)
def test_activations(name, build):
    model = build(ACTIVATION[name])
    kind = type(make_activation(name.split(",")[0]))
    assert [type(layer) for layer in model.hidden].count(kind) == len(model.hparams.hidden_sizes)
    fan_in = model.linear_layers()[1].weight.shape[1]
    variance = model.linear_layers()[1].weight.var().item() * fan_in
    shapes = model.linear_layers()[1].weight.shape
    usual = {nn.SELU: 1.0} | dict.fromkeys(
        (nn.Identity, nn.Sigmoid, nn.Tanh, nn.Softmax), 2 * fan_in / sum(shapes)
    )
    assert variance == pytest.approx(usual.get(kind, 2.0), rel=0.1)


@pytest.mark.parametrize("name", INITIALIZER)
def test_initialisers(name, build):
    kind, distribution = name.split(", ")
    for layer in build(INITIALIZER[name] + " --model.hidden_sizes [300,200]").linear_layers()[:2]:
        fan_out, fan_in = layer.weight.shape
        wanted = {"Glorot": 2 / (fan_in + fan_out), "He": 2 / fan_in, "LeCun": 1 / fan_in}[kind]
        assert layer.weight.var().item() == pytest.approx(wanted, rel=0.06)
        largest = layer.weight.abs().max().item() / math.sqrt(wanted)
        assert (largest <= math.sqrt(3) + 1e-4) == (distribution == "uniform")


def one_hot(z, y):
    return np.eye(z.shape[1])[y]


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


OF_CLASSES = {
    "cross-entropy, the default": lambda z, y: np.mean(
        [np.log(np.exp(row).sum()) - row[label] for row, label in zip(z, y, strict=True)]
    ),
    "binary log loss": lambda z, y: np.mean(
        -np.log(np.where(one_hot(z, y) == 1, sigmoid(z), 1 - sigmoid(z)))
    ),
    "hinge": lambda z, y: np.mean(
        [
            sum(max(0, 1 - row[label] + row[i]) for i in range(len(row)) if i != label) / len(row)
            for row, label in zip(z, y, strict=True)
        ]
    ),
    "squared error": lambda z, y: np.mean((z - one_hot(z, y)) ** 2),
}
OF_NUMBERS = {
    "MSE, the default": lambda e: np.mean(e**2),
    "RMSE": lambda e: np.sqrt(np.mean(e**2)),
    "MAE": lambda e: np.mean(np.abs(e)),
    "Huber": lambda e: np.mean(np.where(np.abs(e) < 1, e**2 / 2, np.abs(e) - 0.5)),
    "pseudo-Huber": lambda e: np.mean(np.sqrt(1 + e**2) - 1),
}


@pytest.mark.parametrize("name", OF_CLASSES)
def test_losses_of_classes(name, build):
    model = build(table("Losses")[name])
    outputs, labels = torch.randn(12, 10), torch.arange(12) % 10
    found = model._loss(outputs, labels).item()
    assert found == pytest.approx(OF_CLASSES[name](outputs.numpy(), labels.numpy()), rel=1e-5)


@pytest.mark.parametrize("name", OF_NUMBERS)
def test_losses_of_numbers(name, build):
    model = build(table("Losses")[name], base="--model mlp --data table")
    outputs, targets = torch.randn(40, 1), 2 * torch.randn(40, 1)
    found = model._loss(outputs, targets).item()
    assert found == pytest.approx(OF_NUMBERS[name]((outputs - targets).numpy()), rel=1e-5)


OPTIMIZERS = {
    "SGD on all examples at once": (optim.SGD, {"lr": 0.1}, 1),
    "SGD on single examples": (optim.SGD, {"lr": 0.01}, 1439),
    "SGD on small batches": (optim.SGD, {"lr": 0.1}, 45),
    "momentum": (optim.SGD, {"momentum": 0.9, "nesterov": False}, 45),
    "Nesterov's momentum": (optim.SGD, {"momentum": 0.9, "nesterov": True}, 45),
    "AdaGrad": (optim.Adagrad, {}, 45),
    "AdaDelta": (optim.Adadelta, {}, 45),
    "RMSprop": (optim.RMSprop, {}, 45),
    "Adam": (optim.Adam, {}, 45),
    "AdaMax": (optim.Adamax, {}, 45),
    "NAdam": (optim.NAdam, {}, 45),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(name, build):
    kind, settings, steps = OPTIMIZERS[name]
    model = build(table("Optimizers")[name])
    (optimizer,) = model.trainer.optimizers
    assert type(optimizer) is kind
    assert {key: optimizer.param_groups[0][key] for key in settings} == settings
    assert len(model.trainer.datamodule.train_dataloader()) == steps  # of an epoch


@pytest.mark.parametrize("place", ["before", "after"])
def test_batch_normalisation(place, build):
    model = build(table("Batch normalisation")[f"{place} the activation"])
    kinds = [type(layer).__name__ for layer in model.hidden]
    assert abs(kinds.index("BatchNorm1d") - kinds.index("ReLU")) == 1
    assert (kinds.index("BatchNorm1d") < kinds.index("ReLU")) == (place == "before")
    norm = model.hidden[kinds.index("BatchNorm1d")]
    learnt = sum(parameter.numel() for parameter in norm.parameters() if parameter.requires_grad)
    kept = sum(b.numel() for name, b in norm.named_buffers() if name.startswith("running"))
    assert (learnt, learnt + kept) == (2 * norm.num_features, 4 * norm.num_features)
    values = 3 * torch.randn(50, norm.num_features) + 2
    wanted = (values - values.mean(0)) / (values.var(0, unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(norm.train()(values), wanted, atol=1e-5, rtol=1e-5)


def test_regularisation(build):
    rows = table("Regularisation")
    for name, ratio in (("L2", 0.0), ("L1", 1.0), ("elastic net", 0.5)):
        model = build(rows[name])
        weights = torch.cat([layer.weight.flatten() for layer in model.linear_layers()])
        net = ratio * weights.abs().sum() + (1 - ratio) / 2 * weights.square().sum()
        torch.testing.assert_close(model.penalty(), 1e-4 * net)
    model = build(rows["max-norm"])
    with torch.no_grad():
        model.linear_layers()[0].weight.mul_(100)
        model.constrain()
    norms = model.linear_layers()[0].weight.norm(dim=1)
    torch.testing.assert_close(norms, torch.full_like(norms, 2.0))
    drops = [layer.p for layer in build(rows["dropout"]).hidden if isinstance(layer, nn.Dropout)]
    assert drops == [0.0, 0.3, 0.3]
    assert build(rows["dropout of inputs"]).hidden[0].p == 0.2


def test_early_stopping_restores_the_best_epoch_and_says_so(tmp_path, monkeypatch, capsys):
    for variable in ("CACHE", "RUNS"):
        monkeypatch.setenv(f"DLARCH_{variable}", str(tmp_path / variable.lower()))
    monkeypatch.chdir(tmp_path)
    (line,) = table("Early stopping").values()
    words = "fit --config mlp --monitor val/loss --trainer.max_epochs 60 --data.train_size 100"
    words += " --model.hidden_sizes [32] --model.optimizer.lr 0.03 --trainer.accelerator cpu"
    assert main([*words.split(), *line.split()]) == 0
    (path,) = (tmp_path / "runs").glob("*/*/metrics.json")
    record = json.loads(path.read_text(encoding="utf-8"))
    assert record["stopped_epoch"] == record["best_epoch"] + 5
    shown = capsys.readouterr().out
    assert f"Best checkpoint (tested): epoch {record['best_epoch'] + 1};" in shown
    assert f"training stopped early in epoch {record['stopped_epoch'] + 1};" in shown
    best = torch.load(path.parent / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["epoch"] == record["best_epoch"]


ILL = table("To make one ill", "gradient_health.md")


def test_every_illness_can_be_had():
    from dlarch.callbacks.diagnosis import ILLNESSES

    assert set(ILL) == set(ILLNESSES)


@pytest.mark.parametrize("illness", ILL)
def test_an_ill_network_is_told_so_on_the_command_line(
    illness, tmp_path, session_cache, monkeypatch, capsys
):
    monkeypatch.setenv("DLARCH_CACHE", str(session_cache))
    monkeypatch.setenv("DLARCH_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    words = "fit --config mlp --trainer.log_every_n_steps 5 --trainer.accelerator cpu"
    words += " --trainer.max_epochs 3 --trainer.limit_val_batches 1 --test_after_fit false"
    assert main([*words.split(), *shlex.split(ILL[illness])]) == 0
    told = re.findall(r"Step \d+\. ([^:]*):", capsys.readouterr().err)
    assert set(told) == {illness}
