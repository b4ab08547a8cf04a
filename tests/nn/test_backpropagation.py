"""Hand-derived gradients against autograd and finite differences; they train."""

from itertools import pairwise

import lightning as L  # noqa: N812
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

import dlarch
from dlarch.errors import OptionError
from dlarch.models.feedforward.mlp import MLP
from dlarch.nn.backpropagation import (
    DERIVATIVES,
    WrittenOut,
    backward,
    cross_entropy_delta,
    forward,
    mse_delta,
)


def network(*sizes, dtype=torch.float64, seed=0):
    """Random weights and biases."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=dtype).requires_grad_()

    pairs = [(draw(high, low), draw(high)) for low, high in pairwise(sizes)]
    return [list(each) for each in zip(*pairs, strict=True)]


def batch(features, classes, dtype=torch.float64):
    generator = torch.Generator().manual_seed(9)
    inputs = torch.randn((7, features), generator=generator, dtype=dtype)
    return inputs, torch.randint(classes, (7,), generator=generator)


def relative(found, expected):
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 5e-7), (torch.float64, 1e-15)])
@pytest.mark.parametrize("activation", DERIVATIVES)
@pytest.mark.parametrize("sizes", [(5, 4, 3), (5, 3), (5, 6, 4, 4, 3)])
def test_gradients_are_those_of_autograd(sizes, activation, dtype, most):
    weights, biases = network(*sizes, dtype=dtype)
    inputs, labels = batch(sizes[0], sizes[-1], dtype)
    inputs.requires_grad_()
    layers = forward(inputs, weights, biases, activation)
    wanted = torch.autograd.grad(F.cross_entropy(layers[-1], labels), [*weights, *biases, inputs])
    with torch.no_grad():
        delta = cross_entropy_delta(layers[-1], labels)
        found = backward(layers, weights, delta, activation)
    for mine, autograd in zip((*found.weights, *found.biases, found.inputs), wanted, strict=True):
        assert relative(mine, autograd) <= most * (len(sizes) - 1)


@pytest.mark.parametrize("activation", DERIVATIVES)
def test_gradients_are_finite_differences(activation):
    weights, biases = network(3, 4, 2)
    inputs, labels = batch(3, 2)
    with torch.no_grad():
        layers = forward(inputs, weights, biases, activation)
        delta = cross_entropy_delta(layers[-1], labels)
        found = backward(layers, weights, delta, activation)
        step = 1e-6
        for tensors, gradients in ((weights, found.weights), (biases, found.biases)):
            for tensor, gradient in zip(tensors, gradients, strict=True):
                for place in range(tensor.numel()):
                    losses = []
                    for sign in (1, -1):
                        tensor.view(-1)[place] += sign * step
                        outputs = forward(inputs, weights, biases, activation)[-1]
                        losses.append(F.cross_entropy(outputs, labels))
                        tensor.view(-1)[place] -= sign * step
                    difference = (losses[0] - losses[1]) / (2 * step)
                    assert float(gradient.view(-1)[place]) == pytest.approx(
                        float(difference), rel=1e-6, abs=1e-8
                    )


@pytest.mark.parametrize(("loss", "delta"), [(F.mse_loss, mse_delta)])
def test_gradient_of_the_squared_error(loss, delta):
    outputs, targets = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(1))
    outputs.requires_grad_()
    (wanted,) = torch.autograd.grad(loss(outputs, targets), outputs)
    assert relative(delta(outputs.detach(), targets), wanted) <= 1e-6


def test_what_is_forward_is_the_network_of_torch():
    weights, biases = network(5, 4, 3)
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    for layer, weight, bias in zip(model[::2], weights, biases, strict=True):
        layer.weight, layer.bias = nn.Parameter(weight.detach()), nn.Parameter(bias.detach())
    inputs, _ = batch(5, 3)
    layers = forward(inputs, weights, biases, "tanh")
    assert [layer.shape for layer in layers] == [(7, 5), (7, 4), (7, 3)]
    torch.testing.assert_close(layers[-1], model(inputs), rtol=0, atol=1e-14)


def test_autograd_asks_for_the_written_gradients():
    weights, biases = network(3, 4, 2)
    inputs, _ = batch(3, 2)
    arguments = (inputs.requires_grad_(), "tanh", *weights, *biases)
    assert torch.autograd.gradcheck(WrittenOut.apply, arguments)


def truth_table():
    data = dlarch.create_data("logic_gates", gate="xor")
    data.prepare_data()
    data.setup()
    inputs, labels, _ = next(iter(data.val_dataloader()))
    return inputs, labels


def test_xor_is_learnt_with_them():
    inputs, labels = truth_table()
    assert sorted(labels.tolist()) == [0, 0, 1, 1]
    weights, biases = network(2, 4, 2, dtype=torch.float32, seed=1)
    with torch.no_grad():
        for _ in range(500):
            layers = forward(inputs, weights, biases, "tanh")
            delta = cross_entropy_delta(layers[-1], labels)
            found = backward(layers, weights, delta, "tanh")
            for tensor, gradient in zip(
                (*weights, *biases), (*found.weights, *found.biases), strict=True
            ):
                tensor -= 0.5 * gradient
        outputs = forward(inputs, weights, biases, "tanh")[-1]
        assert outputs.argmax(1).equal(labels)
        assert F.cross_entropy(outputs, labels) < 0.02


# ---- as an option of the model


def trained(tmp_path, precision="32-true", **options):
    torch.manual_seed(0)
    model = MLP(hidden_sizes=(8, 8), activation="tanh", alpha=1e-3, max_norm=2.0, **options)
    trainer = L.Trainer(
        max_epochs=30, accelerator="cpu", precision=precision, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        gradient_clip_val=1.0, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(model, datamodule=dlarch.create_data("logic_gates", inputs=4, batch_size=4))
    return model, float(trainer.callback_metrics["val/loss"])


def test_a_training_with_them_is_that_of_autograd(tmp_path, monkeypatch):
    asked = []
    original = WrittenOut.backward
    monkeypatch.setattr(WrittenOut, "backward", lambda *all_: asked.append(1) or original(*all_))
    autograd, expected = trained(tmp_path)
    assert not asked
    written, found = trained(tmp_path, gradients="written")
    assert len(asked) == 30 * 4
    assert found == pytest.approx(expected, rel=1e-4)
    for mine, theirs in zip(written.parameters(), autograd.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_mixed_precision_is_left_to_the_rest(tmp_path):
    _, expected = trained(tmp_path, gradients="written")
    _, found = trained(tmp_path, gradients="written", precision="bf16-mixed")
    assert found == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(
    "options",
    [{"dropout": 0.1}, {"input_dropout": 0.1}, {"batch_norm": "before"}, {"activation": "gelu"}],
)
def test_what_they_are_not_derived_for_is_refused(options):
    with pytest.raises(OptionError, match="written gradients are derived for layers without"):
        MLP(gradients="written", **options)
