"""Numbers from sequences: at the end or after each step, fed or running freely."""

import numpy as np
import pytest
import torch
from torch import nn

from dlarch import create_data, create_model
from dlarch.batches import SequenceBatch
from dlarch.callbacks.forecasts import Forecast, forecast_figure


class Lines:
    """Batches as a loader."""

    def __init__(self, *batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)

    def __len__(self):
        return len(self.batches)


def make(**options):
    torch.manual_seed(0)
    facts = {"in_features": 1, "out_features": 1, "hidden_size": 8} | options
    return create_model("rnn_regressor", **facts).eval()


def scores(model, trainer, *batches):
    return trainer().validate(model, Lines(*batches), verbose=False)[0]


@pytest.fixture
def waves():
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(6, 12, 1, generator=generator)
    return SequenceBatch(values[:, :-1], values[:, 1:])


def test_a_target_at_the_end_is_compared_with_the_last_output(make_trainer):
    model = make(in_features=2)
    sequence, target = torch.randn(4, 7, 2), torch.randn(4, 1)
    found = scores(model, make_trainer, SequenceBatch(sequence, target))
    error = model(sequence)[:, -1] - target
    assert found["val/loss"] == pytest.approx(error.square().mean().item(), rel=1e-5)
    assert found["val/rmse"] == pytest.approx(error.square().mean().sqrt().item(), rel=1e-5)
    assert found["val/mae"] == pytest.approx(error.abs().mean().item(), rel=1e-5)
    assert "val/free_mse" not in found


def test_targets_after_each_step_are_compared_with_all_outputs(make_trainer, waves):
    model = make()
    found = scores(model, make_trainer, waves)
    wanted = nn.functional.mse_loss(model(waves.sequence), waves.target)
    assert found["val/loss"] == pytest.approx(wanted.item(), rel=1e-5)


def test_the_free_run_is_scored_on_the_second_half(make_trainer, waves):
    """A network that always says the same is wrong by as much as the values are away from it."""
    model = make()
    with torch.no_grad():
        model.output.weight.zero_()
        model.output.bias.fill_(0.25)
    found = scores(model, make_trainer, waves)
    wanted = (waves.sequence[:, 5:] - 0.25).square().mean().item()  # 5 of 11 steps are read
    assert found["val/free_mse"] == pytest.approx(wanted, rel=1e-5)


def test_the_second_half_is_not_read_by_the_free_run(make_trainer, waves):
    model = make()
    free, truth = model._continued(waves.sequence)
    assert torch.equal(truth, waves.sequence[:, 5:])
    changed = waves.sequence.clone()
    changed[:, 5:] = 100.0
    assert torch.equal(model._continued(changed)[0], free)


def test_numbers_at_the_end_alone_are_not_continued(make_trainer):
    """With one number in and one out, it may still be another number."""
    found = scores(make(), make_trainer, SequenceBatch(torch.randn(4, 7, 1), torch.randn(4, 1)))
    assert sorted(found) == ["val/loss", "val/mae", "val/rmse"]


def test_what_is_predicted_is_the_number_at_the_end():
    data = create_data("adding", length=6, train_size=20, eval_size=10)
    data.setup()
    model = create_model("rnn_regressor", data)
    batch = next(iter(data.test_dataloader()))
    wanted = model(batch.sequence)[:, -1, 0]
    told = [float(line) for line in model.predict_step(batch, 0)]
    assert told == pytest.approx(wanted.tolist(), rel=1e-4)


def test_forecasts_are_the_free_run_beside_the_truth(make_trainer, waves):
    model = make()
    assert model.forecasts(2) == []  # nothing was scored yet
    scores(model, make_trainer, waves)
    shown = model.forecasts(2)
    assert len(shown) == 2
    with torch.no_grad():
        fed = model(waves.sequence[:2, :5])[..., 0]
    free = model.free_run(waves.sequence[:2, :5], 6)[..., 0]
    for row, each in enumerate(shown):
        np.testing.assert_allclose(each.truth, waves.sequence[row, :, 0], rtol=1e-5)
        np.testing.assert_allclose(each.fed, fed[row], rtol=1e-5)
        np.testing.assert_allclose(each.free, free[row], rtol=1e-5)
    sums = make(in_features=2)
    scores(sums, make_trainer, SequenceBatch(torch.randn(4, 7, 2), torch.randn(4, 1)))
    assert sums.forecasts(2) == []


def test_the_figure_shades_what_runs_freely():
    truth = np.arange(6.0)
    shown = Forecast("value", truth, truth[1:5], np.array([4.0, 7.0]))
    figure = forecast_figure([shown, shown])
    axes, _ = figure.axes
    true, fed, free = axes.lines
    assert true.get_xydata().tolist() == [[n + 1, n] for n in range(6)]
    assert fed.get_xydata().tolist() == [[n + 1, n] for n in range(1, 5)]
    assert free.get_xydata().tolist() == [[5, 4], [6, 7]]
    assert "mean squared error 2" in axes.get_title(loc="left")
    (shade,) = axes.patches
    assert shade.get_x() == 4.5
