import time

import pytest
import torch
from lightning.pytorch import Callback
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

import dlarch
from dlarch.callbacks.cost import TrainingCost
from dlarch.errors import NonFiniteLossError

QUIET = {
    "logger": False,
    "accelerator": "cpu",
    "devices": 1,
    "enable_progress_bar": False,
    "test_after_fit": False,
}


@pytest.fixture
def fit(tmp_path, session_cache, monkeypatch):
    monkeypatch.setenv("DLARCH_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("DLARCH_CACHE", str(session_cache))

    def run(*callbacks, **options):
        data = dlarch.create_data("digits", batch_size=10, train_size=50)
        model = dlarch.create_model("mlp", data, hidden_sizes=(7,))
        return dlarch.fit(model, data, callbacks=list(callbacks), **QUIET | options)

    return run


def test_operations_are_those_of_the_matrix_products(fit):
    """Two per weight forwards, two for its gradient, and two for that of a hidden layer's input."""
    weights = 64 * 7 + 7 * 10
    wanted = 3 * 50 * (2 * 2 * weights + 2 * 7 * 10)
    result = fit(TrainingCost(), max_epochs=3)
    # Lightning logs in 32 bits.
    assert result.metrics["train/pflop"] == pytest.approx(wanted / 1e15, rel=1e-6)


def test_a_resumed_run_adds_up(fit):
    whole = fit(TrainingCost(), max_epochs=3, name="whole").metrics
    half = fit(TrainingCost(), max_epochs=1, name="half")
    rest = fit(TrainingCost(), max_epochs=3, name="half", ckpt_path=half.run.folder).metrics
    assert rest["train/pflop"] == whole["train/pflop"]
    assert rest["train/seconds"] > half.metrics["train/seconds"] > 0


def test_validation_takes_none_of_the_seconds(fit):
    class Slow(Callback):
        def on_validation_epoch_start(self, *_):
            time.sleep(0.5)

    begin = time.monotonic()
    seconds = fit(Slow(), TrainingCost(), max_epochs=3).metrics["train/seconds"]
    assert 0 < seconds < time.monotonic() - begin - 1.5


def test_nothing_goes_on_counting_after_an_error(fit):
    class Broken(Callback):
        def on_before_backward(self, trainer, module, loss):
            raise NonFiniteLossError("broken")

    before = len(_get_current_dispatch_mode_stack())
    with pytest.raises(NonFiniteLossError, match="broken"):
        fit(TrainingCost(), Broken(), max_epochs=1)
    assert len(_get_current_dispatch_mode_stack()) == before
    assert torch.ones(2).sum() == 2
