import json
import subprocess
import sys
from pathlib import Path

import lightning as L  # noqa: N812
import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import dlarch
from dlarch.batches import TableBatch
from dlarch.compat.checkpoint_io import load_checkpoint
from dlarch.errors import NonFiniteLossError, OptionError
from dlarch.models.feedforward.bayesian_linear_regression import BayesianLinearRegression
from dlarch.models.feedforward.linear_regression import LinearRegression

OPTIONS = {
    "accelerator": "cpu",
    "devices": 1,
    "enable_progress_bar": False,
    "test_after_fit": False,
}


@pytest.fixture(autouse=True)
def _runs(tmp_path, monkeypatch):
    monkeypatch.setenv("DLARCH_RUNS", str(tmp_path / "runs"))


def fit(batch_size=None, name="bayesian_linear_regression", **options):
    """A model of 1 in 16 parts, learnt from 48 points."""
    data = dlarch.create_data("curves_1d", size=60, batch_size=batch_size)
    model = dlarch.create_model(name, data, basis="gaussian")
    run = dlarch.fit(model, data, **{"max_epochs": 1, "logger": False} | OPTIONS | options).run
    return model, run


def same(one, other):
    for (name, mine), theirs in zip(
        one.state_dict().items(), other.state_dict().values(), strict=True
    ):
        if name != "directions":  # eigenvectors may point either way
            torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)


def test_batches_and_epochs_do_not_matter():
    whole, _ = fit()
    same(whole, fit(batch_size=7)[0])
    same(whole, fit(batch_size=7, max_epochs=3)[0])


def test_validation_within_an_epoch_sees_the_rows_so_far():
    scores = []

    class Model(LinearRegression):
        def on_validation_epoch_end(self):
            scores.append((self.moments.count, self.output.weight.detach().clone()))
            super().on_validation_epoch_end()

    data = dlarch.create_data("curves_1d", size=60, batch_size=16)
    options = {"val_check_interval": 1, "num_sanity_val_steps": 0, "logger": False}
    dlarch.fit(Model(basis="gaussian"), data, max_epochs=1, name="x", **OPTIONS, **options)
    assert [count for count, _ in scores] == [16, 32, 48]
    assert not torch.equal(scores[0][1], scores[1][1])


@pytest.mark.parametrize("option", [{"gradient_clip_val": 1.0}, {"accumulate_grad_batches": 2}])
def test_options_of_gradients_are_refused(option):
    with pytest.raises(OptionError, match="leave out gradient_clip_val and accumulate_grad_batche"):
        fit(**option)


def test_an_optimizer_may_clip_and_accumulate():
    data = dlarch.create_data("curves_1d", size=60, batch_size=16)
    model = LinearRegression(solver="optimizer")
    options = {"gradient_clip_val": 1.0, "accumulate_grad_batches": 3, "logger": False}
    dlarch.fit(model, data, max_epochs=2, **OPTIONS, **options)
    assert model.output.weight.ne(0).all()


def test_a_number_that_is_not_finite_is_named():
    features = torch.ones(4, 2)
    features[1, 1] = torch.nan
    batches = [
        TableBatch(torch.ones(4, 2), torch.ones(4, 1)),
        TableBatch(features, torch.ones(4, 1)),
    ]
    model = LinearRegression(in_features=2, out_features=1)
    trainer = L.Trainer(
        accelerator="cpu", logger=False, max_epochs=1, enable_checkpointing=False,
        enable_progress_bar=False,
    )  # fmt: skip
    loader = torch.utils.data.DataLoader(batches, batch_size=None)
    with pytest.raises(NonFiniteLossError, match="Batch 1 of the training rows"):
        trainer.fit(model, loader)


def test_moments_travel_in_checkpoints_and_not_in_pretrained_folders(tmp_path):
    model, run = fit(batch_size=16, max_steps=2)
    saved = load_checkpoint(run.last)["dlarch"]["moments"]
    assert saved["count"] == model.moments.count == 32
    torch.testing.assert_close(saved["scatter"], model.moments.scatter)
    model.save_pretrained(tmp_path / "saved")
    loaded = dlarch.AutoModel.from_pretrained(tmp_path / "saved")
    assert loaded.moments is None
    inputs = torch.linspace(-2, 2, 9)[:, None]
    for ours, theirs in (
        (model.predictive(inputs).mean, loaded.predictive(inputs).mean),
        (model.predictive(inputs).stddev, loaded.predictive(inputs).stddev),
    ):
        assert torch.equal(ours, theirs)


def test_the_card_shows_how_numbers_are_predicted(tmp_path):
    model, _ = fit()
    model.save_pretrained(tmp_path / "saved")
    card = (tmp_path / "saved" / "README.md").read_text(encoding="utf-8")
    assert "pipeline_tag: tabular-regression" in card
    assert "classify" not in card
    (code,) = card.split("```python\n")[1:]
    lines = code.split("```")[0].replace("[[5.1, 3.5]]", "[[0.25]]").replace('"saved"', "folder")
    lines = lines.replace("model.processor.decode", "found = model.processor.decode")
    names = {"folder": tmp_path / "saved"}
    exec(lines, names)
    assert names["found"][0][0] == pytest.approx(1.0, abs=0.2)  # the sine at a quarter


def test_a_model_that_has_learnt_nothing_predicts_as_its_prior():
    model = BayesianLinearRegression(
        in_features=1, out_features=1, prior_precision=2.0, noise_precision=4.0
    )
    found = model.predictive(torch.tensor([[3.0]]))
    assert found.mean.item() == 0.0
    assert found.variance.item() == pytest.approx(1 / 4 + 9 / 2)


def pictures(run):
    events = EventAccumulator(str(run.folder / "logs"), size_guidance={"images": 0}).Reload()
    return set(events.Tags()["images"]), set(events.Tags()["scalars"])


def test_tensorboard_shows_predictions_and_the_curve_of_a_single_input():
    images, scalars = pictures(fit(logger=True, log_every_n_steps=1)[1])
    assert images == {"predictions", "curve"}
    assert {"val/nll", "val/coverage_90", "train/loss"} <= scalars
    assert not {"train/lr", "gradients/total"} & scalars
    data = dlarch.create_data("table")
    run = dlarch.fit(dlarch.create_model("pls", data), data, max_epochs=1, **OPTIONS).run
    assert pictures(run)[0] == {"predictions"}


def test_what_is_drawn_is_in_the_units_of_the_data():
    model, _ = fit()
    data = dlarch.create_data("curves_1d", size=60)
    data.setup()
    raw = data.read()
    curve, predicted = model.curve(), model.predicted()
    rows = {
        (round(x, 4), round(y, 4))
        for x, y in zip(raw.features[:, 0], raw.targets[:, 0], strict=True)
    }
    shown = zip(curve.inputs.tolist(), curve.targets.tolist(), strict=True)
    assert {(round(x, 4), round(y, 4)) for x, y in shown} <= rows
    assert len(curve.inputs) == 48
    inside = np.abs(curve.grid) < 0.9
    assert np.abs(curve.mean - np.sin(2 * np.pi * curve.grid))[inside].max() < 0.3
    assert np.all((curve.deviation > 0.05) & (curve.deviation < 3))
    assert len(predicted.truth) == 6
    assert np.abs(predicted.mean - predicted.truth).max() < 0.5


SCRIPT = """
import json, logging, sys
import dlarch

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


def main(out, processes):
    data = dlarch.create_data("curves_1d", size=60, batch_size=16 // processes)
    model = dlarch.create_model("bayesian_linear_regression", data, basis="gaussian")
    import lightning as L
    trainer = L.Trainer(
        accelerator="cpu", devices=processes, strategy="ddp" if processes > 1 else "auto",
        max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, datamodule=data)
    if trainer.is_global_zero:
        found = {
            "rows": model.moments.count,
            "weight": model.output.weight.tolist(),
            "variances": model.variances.tolist(),
            "loss": float(trainer.callback_metrics["val/nll"]),
        }
        with open(out, "w") as file:
            json.dump(found, file)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
"""


@pytest.mark.slow
def test_two_processes_learn_what_one_does(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    found = []
    for processes in (1, 2):
        out = tmp_path / f"{processes}.json"
        command = [sys.executable, str(script), str(out), str(processes)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, done.stderr[-2000:]
        found.append(json.loads(Path(out).read_text(encoding="utf-8")))
    one, two = found
    assert one["rows"] == two["rows"] == 48
    for name in ("weight", "variances", "loss"):
        np.testing.assert_allclose(two[name], one[name], rtol=1e-4, atol=1e-5)
