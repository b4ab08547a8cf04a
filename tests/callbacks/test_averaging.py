"""The mean of the last checkpoints of a training."""

import json
import shutil

import lightning as L  # noqa: N812
import pytest
import torch
from torch import optim

import dlarch
from dlarch.callbacks.averaging import AverageLast, averaged
from dlarch.compat.checkpoint_io import load_checkpoint
from dlarch.errors import OptionError


@pytest.fixture
def fit(tmp_path, session_cache, monkeypatch):
    """Train a small network on digits; returns its result."""
    monkeypatch.setenv("DLARCH_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("DLARCH_CACHE", str(session_cache))

    def run(count=3, rate=1.0, **options):
        torch.manual_seed(0)
        model = dlarch.create_model(
            "mlp",
            hidden_sizes=[16],
            batch_norm="before",
            optimizer=lambda parameters: optim.Adam(parameters, lr=rate),
            pictures=False,
        )
        return dlarch.fit(
            model,
            dlarch.create_data("digits"),
            callbacks=[AverageLast(count)] if count else [],
            accelerator="cpu",
            enable_progress_bar=False,
            **{"max_epochs": 5} | options,
        )

    return run


def test_the_last_checkpoints_are_kept_and_averaged(fit):
    folder = fit().run.checkpoints
    kept = sorted(folder.glob("step_*.ckpt"), key=lambda path: int(path.stem.split("_")[1]))
    assert len(kept) == 3
    weights = [load_checkpoint(path)["state_dict"] for path in kept]
    found = load_checkpoint(folder / "averaged.ckpt")["state_dict"]
    last = load_checkpoint(folder / "last.ckpt")["state_dict"]
    for name, value in found.items():
        parts = [each[name] for each in weights]
        torch.testing.assert_close(parts[-1], last[name])
        if value.is_floating_point():
            torch.testing.assert_close(value, torch.stack(parts).mean(0))
            assert value.dtype == torch.float32
        else:  # a count of batches
            assert torch.equal(value, parts[-1])


def scores(path, verb, split):
    model = dlarch.AutoModel.from_pretrained(path)
    trainer = L.Trainer(logger=False, enable_progress_bar=False, accelerator="cpu")
    found = getattr(trainer, verb)(model, dlarch.create_data("digits"), verbose=False)[0]
    return found[f"{split}/loss"]


@pytest.mark.parametrize("rate", [0.001, 1.0], ids=["still falling", "wandering"])
def test_the_better_one_on_validation_is_what_is_used(fit, rate):
    """While the loss still falls the last one is better than the mean; else the mean."""
    result = fit(rate=rate)
    better = rate > 0.1
    assert result.run.averaged.exists() == better
    best = scores(result.run.folder, "validate", "val")
    assert result.best_score == pytest.approx(best)
    assert result.averaged == (3 if better else 1)
    assert json.loads(result.run.metrics.read_text())["averaged"] == result.averaged
    assert result.metrics["test/loss"] == pytest.approx(scores(result.run.folder, "test", "test"))
    single = scores(result.run.best, "validate", "val")
    assert (best < single - 1e-4) == better
    assert single == pytest.approx(fit(rate=rate, count=None).best_score)


def test_a_resumed_run_averages_what_an_uninterrupted_one_does(fit):
    whole = load_checkpoint(fit().run.checkpoints / "averaged.ckpt")["state_dict"]
    half = fit(max_epochs=3)
    resumed = fit(ckpt_path=half.run.folder)
    found = load_checkpoint(resumed.run.checkpoints / "averaged.ckpt")["state_dict"]
    for name, value in whole.items():
        assert torch.equal(value, found[name])


def test_a_mean_that_is_no_longer_the_best_is_forgotten(fit):
    run = fit(rate=0.001).run
    shutil.copyfile(run.best, run.averaged)  # as if it had been the best so far
    result = fit(rate=0.001, max_epochs=7, ckpt_path=run.folder)
    assert result.run.folder == run.folder
    assert result.averaged == 1
    assert not run.averaged.exists()
    assert result.best_score == pytest.approx(scores(run.folder, "validate", "val"))


def test_a_single_checkpoint_is_no_mean(fit):
    result = fit(max_epochs=1)
    assert not (result.run.checkpoints / "averaged.ckpt").exists()
    assert "test/accuracy" in result.metrics
    with pytest.raises(OptionError, match="at least 2"):
        AverageLast(1)


def test_a_mean_of_equal_checkpoints_is_the_checkpoint(fit):
    path = fit().run.checkpoints / "last.ckpt"
    for name, value in averaged([path, path])["state_dict"].items():
        torch.testing.assert_close(value, load_checkpoint(path)["state_dict"][name])
