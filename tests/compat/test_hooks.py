"""Canaries for what is made cheaper around Lightning's hooks."""

import lightning as L  # noqa: N812
import pytest
import torch
from lightning.pytorch.profilers import PassThroughProfiler, SimpleProfiler
from lightning.pytorch.trainer import call
from torch import nn

from dlarch.compat.hooks import HOOKS_OF_A_STEP, NoProfiler, QuickHooks, skip_idle_hooks
from dlarch.training import scoring_arguments


class Plain(L.LightningModule):
    """Logs in two hooks; Lightning finds out by the hook's name how."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def training_step(self, batch, batch_idx):
        assert batch_idx in range(3)
        loss = self.layer(batch).square().mean()
        self.log("step", loss)
        return loss

    def on_train_epoch_end(self):
        self.log("epoch", 3.0)
        with pytest.raises(L.pytorch.utilities.exceptions.MisconfigurationException):
            self.log("epoch", 3.0, on_step=True)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Quick(QuickHooks, Plain):
    """The same, quicker."""


def fitted(kind, profiler, tmp_path):
    torch.manual_seed(0)
    model = kind()
    trainer = L.Trainer(
        max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, profiler=profiler, default_root_dir=tmp_path, accelerator="cpu",
    )  # fmt: skip
    trainer.fit(model, torch.ones(3, 1, 1))
    return model, {name: float(value) for name, value in trainer.callback_metrics.items()}


def test_hooks_work_as_they_did(tmp_path):
    slow, expected = fitted(Plain, None, tmp_path)
    quick, found = fitted(Quick, NoProfiler(), tmp_path)
    assert found == expected
    assert found["epoch"] == 3.0
    assert torch.equal(slow.layer.weight, quick.layer.weight)


def test_lightning_notes_the_hook_in_the_attribute_that_is_made_quick(monkeypatch, tmp_path):
    assert "_current_fx_name" in vars(L.LightningModule())
    noted = []
    original = nn.Module.__setattr__

    def spy(self, name, value):
        noted.append(name)
        original(self, name, value)

    monkeypatch.setattr(nn.Module, "__setattr__", spy)
    fitted(Plain, None, tmp_path)
    assert noted.count("_current_fx_name") > 3 * 30
    noted.clear()
    fitted(Quick, None, tmp_path)
    assert noted.count("_current_fx_name") <= 1  # in the constructor, if at all


class Counter(L.Callback):
    """Has two of the hooks of a step."""

    def __init__(self) -> None:
        self.calls = []

    def on_train_batch_end(self, *_):
        self.calls.append("end")

    def on_after_backward(self, *_):
        self.calls.append("backward")


def test_idle_hooks_are_passed_by_and_others_called(tmp_path):
    counter, idle, instance = Counter(), L.Callback(), L.Callback()
    instance.on_train_batch_start = lambda *_: counter.calls.append("start")
    callbacks = [counter, idle, instance]
    for _ in range(2):  # a second fit finds them as the first one left them
        skip_idle_hooks(callbacks)
    assert all(getattr(idle, name) is None for name in HOOKS_OF_A_STEP)
    assert sum(getattr(counter, name) is not None for name in HOOKS_OF_A_STEP) == 2
    trainer = L.Trainer(
        max_steps=2, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=callbacks, default_root_dir=tmp_path,
        accelerator="cpu",
    )  # fmt: skip
    trainer.fit(Quick(), torch.ones(3, 1, 1))
    assert counter.calls == ["start", "backward", "end"] * 2


def test_the_hooks_of_a_step_are_those_that_lightning_calls_often(tmp_path, monkeypatch):
    counted = {}
    original = call._call_callback_hooks

    def spy(trainer, name, *arguments, **options):
        counted[name] = counted.get(name, 0) + 1
        return original(trainer, name, *arguments, **options)

    monkeypatch.setattr(call, "_call_callback_hooks", spy)
    fitted(Quick, None, tmp_path)
    assert {name for name, times in counted.items() if times == 3} == set(HOOKS_OF_A_STEP)


def test_gradients_are_forgotten_as_the_optimizer_would():
    model = Quick()
    model.layer(torch.ones(1, 1)).sum().backward()
    model.optimizer_zero_grad(0, 0, torch.optim.SGD(model.parameters(), lr=0.1))
    assert model.layer.weight.grad is None

    class Own(torch.optim.SGD):
        def zero_grad(self, set_to_none=False):
            super().zero_grad(set_to_none=False)

    model.layer(torch.ones(1, 1)).sum().backward()
    model.optimizer_zero_grad(0, 0, Own(model.parameters(), lr=0.1))
    assert model.layer.weight.grad.item() == 0.0


def test_the_profiler_that_does_nothing_can_be_entered_again():
    profiler = NoProfiler()
    assert isinstance(profiler, PassThroughProfiler)
    with profiler.profile("outer"), profiler.profile("inner"):
        pass
    with pytest.raises(KeyError), profiler.profile("outer"):
        raise KeyError


def test_a_profiler_that_is_asked_for_is_used():
    assert isinstance(scoring_arguments({})["profiler"], NoProfiler)
    assert isinstance(scoring_arguments({"profiler": None})["profiler"], NoProfiler)
    assert scoring_arguments({"profiler": "simple"})["profiler"] == "simple"
    mine = SimpleProfiler()
    assert scoring_arguments({"profiler": mine})["profiler"] is mine
