import csv
import math

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from PIL import Image

from dlarch.callbacks.curves import History, best_row, learning_curves
from dlarch.callbacks.progress import EpochLines

ROWS = [
    {"epoch": 0, "step": 4, "val/loss": 3.0, "train/loss": 5.0, "val/exact_match": 0.5},
    {"epoch": 1, "step": 8, "val/loss": 1.0, "train/loss": 2.0, "val/exact_match": 0.9},
    {"epoch": 2, "step": 12, "val/loss": 2.0, "train/loss": 0.1, "val/exact_match": 0.9},
]


def drawn(axes):
    return {
        line.get_label(): list(zip(*line.get_data(), strict=True))
        for line in axes.lines
        if len(line.get_xdata()) == len(ROWS)
    }


def test_training_and_validation_share_a_panel():
    loss, match = learning_curves(ROWS, ("val/exact_match", "max")).axes
    assert loss.get_title(loc="left") == "loss"
    assert drawn(loss) == {
        "train": [(1, 5.0), (2, 2.0), (3, 0.1)],
        "val": [(1, 3.0), (2, 1.0), (3, 2.0)],
    }
    assert match.get_title(loc="left") == "exact match"
    assert drawn(match) == {"val": [(1, 0.5), (2, 0.9), (3, 0.9)]}


@pytest.mark.parametrize(
    ("monitor", "epoch"),
    [(("val/exact_match", "max"), 2), (("val/loss", "min"), 2), (("train/loss", "min"), 3)],
)
def test_the_first_best_epoch_is_marked_in_each_panel(monitor, epoch):
    figure = learning_curves(ROWS, monitor)
    for axes in figure.axes:
        marks = [line for line in axes.lines if len(line.get_xdata()) == 2]
        assert [list(mark.get_xdata()) for mark in marks] == [[epoch, epoch]]
    assert f"in epoch {epoch} (step {4 * epoch})" in figure.get_suptitle()


def test_values_that_are_not_finite_are_never_best():
    rows = [{"epoch": i, "step": i, "loss": x} for i, x in enumerate((math.nan, 2.0, -math.inf))]
    assert best_row(rows, ("loss", "min"))["epoch"] == 1
    assert best_row(rows, ("loss", "max"))["epoch"] == 1
    assert best_row(rows, ("other", "max")) is None
    assert len(learning_curves(rows, ("other", "max")).axes) == 1


def test_only_wide_positive_ranges_are_logarithmic():
    loss, match = learning_curves(ROWS, ("val/exact_match", "max")).axes
    assert (loss.get_yscale(), match.get_yscale()) == ("log", "linear")
    below = [{**row, "train/loss": row["train/loss"] - 1} for row in ROWS]
    assert learning_curves(below).axes[0].get_yscale() == "linear"


def test_several_rows_per_epoch_are_drawn_over_steps():
    rows = [{**row, "epoch": 0} for row in ROWS]
    axes = learning_curves(rows).axes[0]
    assert axes.get_xlabel() == "step"
    assert [x for x, _ in drawn(axes)["val"]] == [4, 8, 12]


def test_a_history_without_metrics_is_refused():
    with pytest.raises(ValueError, match="no metrics"):
        learning_curves([{"epoch": 0, "step": 4}])


def test_rows_hold_what_was_logged(runs, task):
    history = History()
    runs.fit(task(), history)
    assert [(row["epoch"], row["step"]) for row in history.rows] == [(0, 4), (1, 8)]
    for name, tag in [("train/loss", "train/loss_epoch"), ("val/loss", "val/loss")]:
        values = [event.value for event in runs.events.Scalars(tag)]
        assert [row[name] for row in history.rows] == pytest.approx(values)
    assert [row["val/exact_match"] for row in history.rows] == [0.25, 0.5]
    assert {name for row in history.rows for name in row} == {
        *("epoch", "step", "train/loss", "val/loss", "val/exact_match")
    }


def test_mid_epoch_validations_get_their_own_rows(runs, task):
    history = History()
    runs.fit(task(), history, val_check_interval=0.5, max_epochs=1)
    assert [(row["step"], "train/loss" in row) for row in history.rows] == [(2, False), (4, True)]


def test_epochs_without_validation_repeat_no_old_figures(runs, task):
    history = History()
    runs.fit(task(), history, check_val_every_n_epoch=2, max_epochs=3)
    assert ["val/loss" in row for row in history.rows] == [False, True, False]


def test_a_resumed_run_continues_its_history(runs, task, tmp_path):
    def fit(epochs, name, ckpt_path=None):
        history = History()
        saving = ModelCheckpoint(tmp_path / name, save_last=True)
        options = {"max_epochs": epochs, "enable_checkpointing": True, "ckpt_path": ckpt_path}
        torch.manual_seed(0)
        runs.fit(task(), history, saving, **options)
        return history.rows

    whole = fit(4, "whole")
    fit(2, "parts")
    last = tmp_path / "parts" / "last.ckpt"
    state = torch.load(last, weights_only=True)["callbacks"]["History"]
    assert state["rows"] == whole[:2]
    resumed = fit(4, "resumed", ckpt_path=last)
    assert resumed[:2] == whole[:2]
    assert [(row["epoch"], row["step"]) for row in resumed] == [(0, 4), (1, 8), (2, 12), (3, 16)]
    assert [set(row) for row in resumed] == [set(row) for row in whole]


def test_table_and_picture_are_in_the_run_folder(runs, task):
    history = History()
    runs.fit(task(), history)
    with (runs.folder / "history.csv").open(encoding="utf-8", newline="") as file:
        table = [{name: float(x) for name, x in row.items()} for row in csv.DictReader(file)]
    assert table == history.rows
    picture = runs.folder / "learning_curves.png"
    assert picture.stat().st_size < 60_000
    low, high = Image.open(picture).convert("L").getextrema()
    assert high - low > 100


def test_nothing_is_written_without_a_folder_or_on_other_ranks(runs, task, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs.fit(task(), History(), default_root_dir=None, logger=False)
    monkeypatch.setattr(Trainer, "is_global_zero", False)
    runs.fit(task(), History(), EpochLines(), logger=False, enable_progress_bar=True)
    assert not list(tmp_path.rglob("history.csv"))
    assert not list(tmp_path.rglob("*.png"))
