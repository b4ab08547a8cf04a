import warnings

import numpy as np
import pytest
import torch
from sklearn.neural_network import MLPClassifier
from torch import nn, optim

import dlarch
from dlarch.errors import MismatchError, OptionError
from dlarch.models.feedforward.mlp import MLP
from dlarch.nn import GaussianNoise
from dlarch.spec import DataSpec

MNIST = DataSpec(image_shape=(1, 28, 28), in_features=784, num_classes=10)


def parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


def test_the_network_of_the_textbooks_has_its_published_number_of_parameters():
    assert parameters(dlarch.create_model("mlp", MNIST)) == 266_610


def test_batch_normalisation_has_four_parameters_per_unit_of_which_two_are_trained():
    plain = dlarch.create_model("mlp", MNIST)
    after = dlarch.create_model("mlp", MNIST, batch_norm="after")
    before = dlarch.create_model("mlp", MNIST, batch_norm="before")
    assert parameters(after) == parameters(plain) + 2 * 400
    assert parameters(before) == parameters(plain) + 2 * 400 - 400  # it brings the bias
    running = [name for name, _ in after.named_buffers() if "running" in name]
    assert sum(after.get_buffer(name).numel() for name in running) == 2 * 400
    kinds = [type(layer).__name__ for layer in before.hidden]
    assert kinds[1:4] == ["Linear", "BatchNorm1d", "ReLU"]
    assert [type(layer).__name__ for layer in after.hidden][1:4] == [
        "Linear",
        "ReLU",
        "BatchNorm1d",
    ]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("relu", "relu"), ("sigmoid", "logistic"), ("tanh", "tanh"), ("identity", "identity")],
)
def test_equals_scikit_learns_with_the_same_weights(ours, theirs):
    random = np.random.default_rng(0)
    rows, labels = random.normal(size=(60, 5)), np.arange(60) % 3
    reference = MLPClassifier((7, 4), activation=theirs, max_iter=3, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # three iterations are not enough for it
        reference.fit(rows, labels)
    model = MLP(in_features=5, num_classes=3, hidden_sizes=(7, 4), activation=ours)
    with torch.no_grad():
        for layer, weight, bias in zip(
            model.linear_layers(), reference.coefs_, reference.intercepts_, strict=True
        ):
            layer.weight.copy_(torch.from_numpy(weight.T))
            layer.bias.copy_(torch.from_numpy(bias))
        found = model(torch.from_numpy(rows).float()).softmax(1)
    np.testing.assert_allclose(found, reference.predict_proba(rows), atol=1e-5)


@pytest.mark.parametrize("ratio", [0.0, 0.3, 1.0])
def test_the_elastic_net_is_its_formula(ratio):
    model = MLP(in_features=3, num_classes=2, hidden_sizes=(4,), alpha=0.1, l1_ratio=ratio)
    weights = [layer.weight.detach().numpy() for layer in model.linear_layers()]
    l1 = sum(np.abs(weight).sum() for weight in weights)
    l2 = sum(np.square(weight).sum() for weight in weights)
    wanted = 0.1 * (ratio * l1 + (1 - ratio) / 2 * l2)
    assert model.penalty().item() == pytest.approx(wanted, rel=1e-5)
    assert MLP(in_features=3, num_classes=2).penalty() is None


def test_l2_is_the_weight_decay_of_sgd(tmp_path):
    """The penalty's gradient is alpha times the weight, as torch.optim's weight_decay is."""
    spec, batch = MLP.example(6, seed=0)

    def step(alpha, decay):
        torch.manual_seed(0)
        model = dlarch.create_model("mlp", spec, hidden_sizes=(5,), alpha=alpha)
        groups = [
            {"params": [layer.weight for layer in model.linear_layers()], "weight_decay": decay},
            {"params": [layer.bias for layer in model.linear_layers()]},
        ]
        optimizer = optim.SGD(groups, lr=0.1)
        loss = nn.functional.cross_entropy(model(batch.image), batch.label)
        (loss if model.penalty() is None else loss + model.penalty()).backward()
        optimizer.step()
        return [parameter.detach() for parameter in model.parameters()]

    for one, other in zip(step(0.05, 0.0), step(0.0, 0.05), strict=True):
        torch.testing.assert_close(one, other)


def test_max_norm_shortens_only_what_is_too_long():
    model = MLP(in_features=3, num_classes=2, hidden_sizes=(4,), max_norm=1.0)
    hidden, output = model.linear_layers()
    with torch.no_grad():
        hidden.weight.copy_(torch.tensor([[3.0, 0, 4], [0.3, 0, 0.4], [0, 0, 0], [0, 2, 0]]))
        output.weight.fill_(5.0)
        model.constrain()
    wanted = torch.tensor([[0.6, 0, 0.8], [0.3, 0, 0.4], [0, 0, 0], [0, 1, 0]])
    torch.testing.assert_close(hidden.weight.detach(), wanted)
    assert output.weight.eq(5).all()


def test_max_norm_holds_after_each_step(tmp_path):
    data = dlarch.create_data("digits", batch_size=64)
    model = dlarch.create_model(
        "mlp", data, max_norm=0.5, optimizer=lambda parameters: optim.SGD(parameters, lr=1.0)
    )
    dlarch.fit(
        model, data, name=str(tmp_path / "run"), max_steps=5, logger=False, accelerator="cpu",
        limit_val_batches=1, enable_progress_bar=False, test_after_fit=False,
    )  # fmt: skip
    for layer in model.linear_layers()[:-1]:
        assert layer.weight.norm(dim=1).max() <= 0.5 + 1e-5


def test_noise_has_the_deviation_asked_for_in_training_alone():
    noise = GaussianNoise(0.3)
    x = torch.full((500, 1000), 2.0)
    added = noise(x) - x
    assert added.std().item() == pytest.approx(0.3, rel=0.01)
    assert added.mean().item() == pytest.approx(0.0, abs=0.003)
    assert torch.equal(noise.eval()(x), x)
    with pytest.raises(OptionError, match="at least 0"):
        GaussianNoise(-0.1)


def test_noise_stands_before_each_activation_and_at_the_inputs():
    model = MLP(
        in_features=4, num_classes=2, hidden_sizes=(3, 3), batch_norm="before", noise=0.5,
        input_noise=1.5,
    )  # fmt: skip
    kinds = [type(layer).__name__ for layer in model.hidden]
    layer = ["Linear", "BatchNorm1d", "GaussianNoise", "ReLU", "Dropout"]
    assert kinds == ["Dropout", "GaussianNoise", *layer, *layer]
    deviations = [layer.std for layer in model.hidden if isinstance(layer, GaussianNoise)]
    assert deviations == [1.5, 0.5, 0.5]


def test_dropout_leaves_out_the_share_asked_for():
    model = MLP(in_features=2000, num_classes=2, hidden_sizes=(), input_dropout=0.25).train()
    kept = (model.hidden(torch.ones(1, 2000)) != 0).float().mean()
    assert kept.item() == pytest.approx(0.75, abs=0.04)


def test_no_hidden_layer_is_a_linear_model():
    model = MLP(in_features=3, out_features=1, hidden_sizes=())
    inputs = torch.randn(5, 3)
    wanted = inputs @ model.output.weight.T + model.output.bias
    torch.testing.assert_close(model(inputs), wanted)


def test_impossible_options_are_refused(session_cache, monkeypatch):
    monkeypatch.setenv("DLARCH_CACHE", str(session_cache))
    with pytest.raises(OptionError, match="l1_ratio must be 0 to 1"):
        MLP(l1_ratio=2.0)
    with pytest.raises(MismatchError, match=r"'mlp' takes batches of type ImageBatch or TableB"):
        dlarch.create_model("mlp", dlarch.create_data("translation"))
