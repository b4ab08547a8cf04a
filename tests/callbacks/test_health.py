import logging
from functools import partial

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule
from matplotlib.figure import Figure
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset

import dlarch
from dlarch.callbacks import health
from dlarch.callbacks.diagnosis import Layer, Look, Units
from dlarch.callbacks.gradients import GradientNorms
from dlarch.callbacks.health import (
    GradientHealth,
    activations_of,
    health_figure,
    weights_of,
    where_not_finite,
)
from dlarch.errors import NonFiniteLossError
from dlarch.nn import Constant, OneHotLoss


@pytest.fixture(autouse=True)
def _cache(session_cache, monkeypatch):
    monkeypatch.setenv("DLARCH_CACHE", str(session_cache))


def sgd(rate, **options):
    return partial(optim.SGD, lr=rate, **options)


# ---- networks that are ill, by options that anybody can set

ILL = {
    "Vanishing gradients": {
        "hidden_sizes": [64] * 8,
        "activation": "sigmoid",
        "optimizer": sgd(0.1),
    },
    # The curvature of this loss is 6.5 at most: above a rate of 2 / 6.5 descent goes uphill.
    "Exploding gradients": {
        "hidden_sizes": (),
        "loss": OneHotLoss(nn.MSELoss()),
        "optimizer": sgd(0.34),
    },
    "Dead units": {"optimizer": partial(optim.Adam, lr=0.1)},
    "Saturation": {"activation": "tanh", "initializer": Constant(2.0)},
    "Weights go to 0": {"alpha": 1.0, "optimizer": sgd(0.1)},
    "Stagnation": {"optimizer": sgd(1e-8)},
}
HEALTHY = {
    "relu": {},
    "tanh": {"activation": "tanh"},
    "sigmoid": {"activation": "sigmoid"},
    "plain descent": {"optimizer": sgd(0.1)},
    "deep": {"hidden_sizes": [64] * 10},
    "deep, self-normalising": {"hidden_sizes": [64] * 20, "activation": "selu"},
    "normalised": {"hidden_sizes": [64] * 8, "batch_norm": "before", "activation": "sigmoid"},
    "regularised": {"dropout": 0.5, "input_dropout": 0.2, "max_norm": 2.0, "alpha": 1e-4},
}


def sentences_of(runs, caplog, options, name="mlp", epochs=3, **trainer_options):
    torch.manual_seed(1)
    data = dlarch.create_data("digits", batch_size=32)
    sizes = {"hidden_sizes": (64, 64)} if name == "mlp" else {}
    model = dlarch.create_model(name, data, **sizes | options)
    trainer = runs.trainer(max_epochs=epochs, log_every_n_steps=5, **trainer_options)
    with caplog.at_level(logging.WARNING, logger="dlarch"):
        trainer.fit(model, datamodule=data)
    ours = "dlarch.callbacks.health"
    return [record.getMessage() for record in caplog.records if record.name == ours]


@pytest.mark.parametrize("illness", ILL)
def test_an_ill_network_is_told_its_illness_and_no_other(illness, runs, caplog):
    sentences = sentences_of(runs, caplog, ILL[illness])
    assert sentences
    for sentence in sentences:
        assert sentence.partition(". ")[2].startswith(f"{illness}: "), sentence
    texts = [
        tensor.tensor_proto.string_val[0].decode()
        for tensor in runs.events.Tensors("health/diagnosis/text_summary")
    ]
    assert texts == [sentence.partition(". ")[2] for sentence in sentences]


@pytest.mark.parametrize("kind", HEALTHY)
def test_a_healthy_network_is_told_nothing(kind, runs, caplog):
    assert sentences_of(runs, caplog, HEALTHY[kind]) == []


def test_a_healthy_cnn_is_told_nothing(runs, caplog):
    assert sentences_of(runs, caplog, {"widths": (16, 32)}, name="cnn") == []


def test_adam_moves_lower_layers_although_their_gradient_has_vanished(runs, caplog):
    options = {"hidden_sizes": [64] * 8, "activation": "sigmoid"}
    (sentence,) = sentences_of(runs, caplog, options, epochs=1)
    assert "Vanishing gradients: the gradient of hidden.1 is" in sentence
    assert "the optimizer enlarges it" in sentence


def test_what_explodes_before_anybody_looks_is_told_with_the_error(runs, caplog):
    options = {"hidden_sizes": [64] * 4, "initializer": Constant(2.0), "optimizer": sgd(1e-3)}
    with pytest.raises(NonFiniteLossError, match=r"largest gradient .* was that of hidden\.1: inf"):
        sentences_of(runs, caplog, options)


# ---- figures


class Chain(LightningModule):
    """Two layers and a ReLU in between; units 0 and 1 of it are 0 whatever comes in."""

    def __init__(self, rate=0.5):
        super().__init__()
        self.rate = rate
        self.body = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 4), nn.Sigmoid())
        self.head = nn.Linear(4, 1)
        self.end = nn.Tanh()
        with torch.no_grad():
            self.body[0].bias[:] = torch.tensor([-100.0, -100.0, 1.0, 1.0, 1.0])
            self.body[2].bias[:] = torch.tensor([50.0, -50.0, 0.0, 0.0])
        self.seen = []

    def training_step(self, batch, batch_idx):
        return self.end(self.head(self.body(batch[0]))).square().mean()

    def on_before_optimizer_step(self, optimizer):
        weights = {n: m.weight for n, m in self.named_modules() if isinstance(m, nn.Linear)}
        gradients = {n: torch.nn.utils.get_total_norm([w.grad]) for n, w in weights.items()}
        norms = {n: w.norm().item() for n, w in weights.items()}
        self.seen.append({n: (gradients[n].item(), norms[n]) for n in weights})

    def configure_optimizers(self):
        return optim.SGD(self.parameters(), lr=self.rate)

    def train_dataloader(self):
        generator = torch.Generator().manual_seed(0)
        return DataLoader(TensorDataset(torch.randn(480, 3, generator=generator)), batch_size=60)


def scalars(runs, tag):
    return {event.step: event.value for event in runs.events.Scalars(f"health/{tag}")}


def test_figures_of_layers_are_those_of_torch(runs):
    model = Chain()
    runs.fit(model, GradientHealth(), log_every_n_steps=3, gradient_clip_val=100.0)
    for name in ("body.0", "body.2", "head"):
        wanted = {step: model.seen[step][name][0] for step in (2, 5, 8, 11, 14)}
        assert scalars(runs, f"gradient/{name}") == pytest.approx(wanted, rel=1e-5)
        # Plain descent changes weights by rate times gradient.
        shares = {step: 0.5 * g / model.seen[step][name][1] for step, g in wanted.items()}
        assert scalars(runs, f"update/{name}") == pytest.approx(shares, rel=1e-3)
    total = {step: np.hypot.reduce([g for g, _ in model.seen[step].values()]) for step in wanted}
    growth = {step: norm / total[2] for step, norm in total.items()}
    assert scalars(runs, "growth") == pytest.approx(growth, rel=1e-4)


def test_dead_and_saturated_units_are_counted(runs):
    model = Chain(rate=0.0)
    runs.fit(model, GradientHealth(), log_every_n_steps=1, max_epochs=1)
    share = scalars(runs, "dead/body.1")
    assert share[0] == 0.0  # 60 examples are not enough to tell
    assert share[1] == pytest.approx(0.4)
    assert scalars(runs, "saturated/body.3")[0] == pytest.approx(0.5)
    tags = runs.events.Tags()["scalars"]
    assert "health/saturated/end" not in tags  # no layer follows


def test_accumulated_batches_are_one_look(runs):
    model = Chain()
    runs.fit(model, GradientHealth(), accumulate_grad_batches=4, log_every_n_steps=1, max_epochs=1)
    assert set(scalars(runs, "gradient/head")) == {0, 1}
    assert scalars(runs, "dead/body.1")[0] == pytest.approx(0.4)  # 240 examples
    wanted = {step: model.seen[step]["head"][0] for step in (0, 1)}
    assert scalars(runs, "gradient/head") == pytest.approx(wanted, rel=1e-5)


def test_units_of_maps_are_channels():
    watch = GradientHealth()
    maps = torch.ones(120, 3, 4, 5)
    maps[:, 1] = 0.0
    maps[1:, 2] = 0.0
    watch._watch("maps")(nn.ReLU(), None, maps)
    watch._watch("rows")(nn.ReLU(), None, torch.zeros(50, 7, 6))
    watch._watch("rows")(nn.ReLU(), None, torch.zeros(50, 7, 6))
    assert watch._silent["maps", 3].tolist() == [0, 120, 0]
    assert watch._silent["rows", 6].tolist() == [100] * 6


def test_between_looks_there_are_no_hooks_and_no_work(runs, monkeypatch):
    hooked, worked = [], []
    original = health._weights
    monkeypatch.setattr(health, "_weights", lambda *a: worked.append(1) or original(*a))

    class Watched(Chain):
        def training_step(self, batch, batch_idx):
            hooked.append(sum(len(module._forward_hooks) for module in self.modules()))
            return super().training_step(batch, batch_idx)

    runs.fit(Watched(), GradientHealth(), log_every_n_steps=4, max_epochs=1)
    assert hooked == [0, 0, 0, 2, 0, 0, 0, 2]
    assert len(worked) == 2
    hooked.clear()
    runs.fit(Watched(), GradientHealth(), logger=False, max_epochs=1)
    assert hooked == [0] * 8
    assert len(worked) == 2


def test_no_hook_is_left_when_training_breaks(runs):
    class Broken(Chain):
        def on_before_optimizer_step(self, optimizer):
            raise RuntimeError("broken")

    model = Broken()
    with pytest.raises(RuntimeError, match="broken"):
        runs.fit(model, GradientHealth(), log_every_n_steps=1)
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    "options", [{}, {"precision": "bf16-mixed"}, {"accumulate_grad_batches": 2}]
)
def test_weights_and_random_numbers_are_as_without(runs, options):
    ends = []
    for callback in (GradientNorms(), GradientHealth()):
        torch.manual_seed(3)
        model = dlarch.create_model("mlp", dlarch.create_data("digits"), dropout=0.5)
        data = dlarch.create_data("digits", batch_size=300)
        runs.fit(model, callback, datamodule=data, log_every_n_steps=1, **options)
        ends.append([*model.state_dict().values(), torch.rand(3)])
    for one, other in zip(*ends, strict=True):
        assert torch.equal(one, other)


def test_two_optimizers_are_judged_apart(runs):
    class Adversaries(Chain):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch, batch_idx):
            for optimizer in self.optimizers():
                optimizer.zero_grad()
                self.manual_backward(super().training_step(batch, batch_idx))
                optimizer.step()

        def on_before_optimizer_step(self, optimizer):
            pass

        def configure_optimizers(self):
            return [optim.SGD(m.parameters(), 0.1) for m in (self.body, self.head)]

    watch = GradientHealth()
    runs.fit(Adversaries(), watch, max_epochs=1)
    tags = runs.events.Tags()["scalars"]
    assert {"health/growth_0", "health/growth_1", "health/update/head"} <= set(tags)
    assert [layer.name for layer in watch.last.layers] == ["head"]
    assert set(scalars(runs, "gradient/head")) == {1, 3, 5, 7}


def test_an_optimizer_that_searches_is_looked_at_once(runs):
    class Searching(Chain):
        def configure_optimizers(self):
            return optim.LBFGS(self.parameters(), lr=0.1, max_iter=4)

    looks = []

    class Watch(GradientHealth):
        def _log(self, trainer, look, optimizer):
            looks.append(look.step)

    model = Searching()
    runs.fit(model, Watch(), max_epochs=1)
    assert looks == [1, 3, 5, 7]
    assert len(model.seen) > 16


def test_a_model_without_optimizer_is_left_alone(runs):
    class ByRule(Chain):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch, batch_idx):
            pass

        def configure_optimizers(self):
            return None

    model = ByRule()
    runs.fit(model, GradientHealth(), max_epochs=1)
    assert not any(module._forward_hooks for module in model.modules())


# ---- what is looked at


def test_layers_are_modules_with_weights_and_shared_ones_count_once():
    model = nn.ModuleDict({"embedding": nn.Embedding(7, 4), "rnn": nn.GRU(4, 5)})
    model["norm"], model["output"] = nn.LayerNorm(5), nn.Linear(4, 7)
    model["output"].weight = model["embedding"].weight
    assert [name for name, _ in weights_of(model)] == ["embedding", "rnn"]
    assert len(dict(weights_of(model))["rnn"]) == 2


def test_activations_that_end_a_model_are_not_watched():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.GELU(), nn.Linear(2, 2), nn.Sigmoid())
    assert [name for name, _ in activations_of(model)] == ["1"]


def test_what_is_not_finite_is_found():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    assert where_not_finite(model) == ""
    model(torch.ones(1, 2)).sum().backward()
    model[1].weight.grad.fill_(300.0)
    assert "was that of 1: 6e+02" in where_not_finite(model)
    with torch.no_grad():
        model[1].weight[0, 0] = torch.nan
        model[2].weight[0, 0] = torch.inf
    assert "The weights of 1 and 1 more are not finite" in where_not_finite(model)


def test_the_picture_has_a_bar_per_layer_from_the_input_upwards():
    layers = [Layer(f"body.{n}", 10.0 ** (n - 6), 1.0, 1e-3) for n in range(6)]
    figure = health_figure(Look(49, 0.1, 1.0, layers, [Units("body.act", "ReLU", dead=0.25)]))
    assert isinstance(figure, Figure)
    gradient, update, dead = figure.axes
    ends = [bar.get_x() + bar.get_width() for bar in gradient.patches]
    assert ends == pytest.approx([-6, -5, -4, -3, -2, -1])  # exponents
    assert [label.get_text() for label in gradient.get_yticklabels()] == [n.name for n in layers]
    assert [bar.get_x() + bar.get_width() for bar in update.patches] == pytest.approx([-3] * 6)
    assert [bar.get_width() for bar in dead.patches] == [0.25]
    assert dead.get_xlim() == (0, 1)
    broken = Look(1, 0.1, 1.0, [Layer("a", float("nan"), 1.0, 0.0)])
    assert len(health_figure(broken).axes) == 2
    many = [Layer(f"l{n}", 1.0, 1.0, 1.0) for n in range(200)]
    assert len(health_figure(Look(1, 0.1, 1.0, many)).axes[0].patches) == 50


def test_the_picture_is_drawn_after_new_looks_only(runs):
    class Validated(Chain):
        def validation_step(self, batch, batch_idx):
            pass

        val_dataloader = Chain.train_dataloader

    options = {"max_epochs": 3, "log_every_n_steps": 13, "num_sanity_val_steps": 1}
    runs.fit(Validated(), GradientHealth(), **options)
    assert [event.step for event in runs.events.Images("health/layers")] == [16]
    runs.fit(Validated(), GradientHealth(picture=False), **options)
    assert len(runs.events.Images("health/layers")) == 1
