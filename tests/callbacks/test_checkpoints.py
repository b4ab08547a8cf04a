import logging
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from torch.utils.data import DataLoader

from dlarch.callbacks.checkpoints import LastCheckpoint, best_checkpoint
from dlarch.compat.checkpoint_io import load_checkpoint
from dlarch.errors import OptionError

sys.path.insert(0, str(Path(__file__).parent))

import resume_harness as harness

PLATEAU = {"scheduler": "plateau"}


@pytest.fixture(autouse=True)
def quiet():
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)


@pytest.fixture
def saves(monkeypatch):
    """(step, point) of each last.ckpt that is written."""
    made, save = [], LastCheckpoint.save

    def spy(self, trainer):
        save(self, trainer)
        if self.path.exists():
            point = load_checkpoint(self.path)["exact_resume"]["point"]
            made.append((trainer.global_step, point))

    monkeypatch.setattr(LastCheckpoint, "save", spy)
    return made


def test_last_is_saved_every_n_steps_between_epochs_and_at_the_end(tmp_path, saves):
    harness.fit(tmp_path, every_n_steps=3, limit_val_batches=0)
    expected = [(3, "step"), (6, "step"), (7, "epoch"), (9, "step"), (12, "step"), (14, "epoch")]
    assert saves == expected
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_the_last_batch_of_an_epoch_is_a_save_only_if_validation_follows(tmp_path, saves):
    harness.fit(tmp_path / "a", every_n_steps=7, max_epochs=1)
    assert saves == [(7, "validation due"), (7, "epoch")]
    saves.clear()
    harness.fit(tmp_path / "b", every_n_steps=7, max_epochs=1, limit_val_batches=0)
    assert saves == [(7, "epoch")]


def test_saves_fall_on_whole_optimizer_steps(tmp_path, saves):
    harness.fit(tmp_path, every_n_steps=1, accumulate_grad_batches=3, max_steps=5)
    assert [step for step, _ in saves] == [1, 2, 3, 3, 4, 5, 5]
    assert saves[-1] == (5, "cut")


def test_a_fast_dev_run_leaves_nothing(tmp_path, saves):
    harness.fit(tmp_path, fast_dev_run=2)
    assert not list(tmp_path.glob("*.ckpt"))


@pytest.mark.parametrize(
    ("limit", "short", "long", "options", "model_options"),
    [
        ("max_epochs", 1, 3, {"accumulate_grad_batches": 4}, PLATEAU),
        ("max_epochs", 2, 3, {"limit_train_batches": 5}, {}),
        ("max_steps", 6, 16, {"val_check_interval": 3}, PLATEAU),
        ("max_steps", 7, 16, {}, {}),
        ("max_steps", 4, 7, {"accumulate_grad_batches": 3, "val_check_interval": 3}, {}),
    ],
)
def test_a_finished_run_goes_on_to_what_the_long_run_gives(
    tmp_path, limit, short, long, options, model_options
):
    whole = harness.outcome(*harness.fit(tmp_path / "a", model_options, **{limit: long}, **options))
    harness.fit(tmp_path / "b", model_options, **{limit: short}, **options)
    options = {limit: long, **options}
    assert harness.outcome(*harness.fit(tmp_path / "b", model_options, resume=True, **options)) == (
        whole
    )


def test_a_finished_run_resumed_without_more_to_do_is_left_as_it_is(tmp_path, saves):
    whole = harness.outcome(*harness.fit(tmp_path))
    saves.clear()
    assert harness.outcome(*harness.fit(tmp_path, resume=True)).weights == whole.weights
    assert saves == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val_check_interval": "00:00:01:00"}, "val_check_interval given as a time"),
        ({"reload_dataloaders_every_n_epochs": 1}, "reload_dataloaders_every_n_epochs"),
        (
            {"more_callbacks": [GradientAccumulationScheduler({0: 1, 1: 2})]},
            "use a constant accumulate_grad_batches",
        ),
        ({"every_n_steps": 0}, "every_n_steps must be at least 1, not 0"),
    ],
)
def test_what_cannot_be_resumed_exactly_is_refused_at_the_start(tmp_path, options, message):
    with pytest.raises(OptionError, match=message) as caught:
        harness.fit(tmp_path, **options)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("*.ckpt"))


def test_foreign_parts_are_reported(tmp_path, caplog, monkeypatch):
    batches = [harness.Numbers()[np.array([i])] for i in range(4)]
    loader = DataLoader(batches, batch_size=None, collate_fn=lambda batch: batch)
    monkeypatch.setattr(harness.Tiny, "configure_callbacks", lambda self: [])
    trainer = harness.make_trainer(tmp_path, max_epochs=1, limit_val_batches=0)
    trainer.fit(harness.Tiny(), loader)
    assert "not a dlarch BatchLoader" in caplog.text
    assert "Without the callback ExactResume" in caplog.text


def test_best_keeps_its_name_and_its_score_also_in_a_moved_folder(tmp_path):
    trainer, _ = harness.fit(tmp_path / "a", val_check_interval=2, max_epochs=4)
    best = trainer.checkpoint_callback
    assert sorted(path.name for path in tmp_path.glob("a/*")) == ["best.ckpt", "last.ckpt"]
    assert Path(best.best_model_path) == tmp_path / "a" / "best.ckpt"
    scores = load_checkpoint(tmp_path / "a" / "best.ckpt")["exact_resume"]["metrics"]
    assert scores["val/loss"] == best.best_model_score
    shutil.move(tmp_path / "a", tmp_path / "b")
    trainer, _ = harness.fit(tmp_path / "b", val_check_interval=2, max_epochs=5, resume=True)
    again = trainer.checkpoint_callback
    assert Path(again.best_model_path) == tmp_path / "b" / "best.ckpt"
    assert again.best_model_score <= best.best_model_score
    assert set(again.best_k_models) == {str(tmp_path / "b" / "best.ckpt")}


def test_a_worse_model_does_not_replace_best_after_a_resume(tmp_path):
    harness.fit(tmp_path, max_epochs=1)
    before = (tmp_path / "best.ckpt").read_bytes()
    state = load_checkpoint(tmp_path / "last.ckpt")["callbacks"]
    (state,) = [value for key, value in state.items() if "BestCheckpoint" in key]
    best = best_checkpoint(tmp_path, "val/loss", "min")
    best.load_state_dict({**state, "best_model_score": state["best_model_score"] * 0})
    trainer = harness.make_trainer(tmp_path, max_epochs=2, callbacks=[best])
    trainer.fit(harness.Tiny(), harness.Data())
    assert (tmp_path / "best.ckpt").read_bytes() == before


def test_the_score_of_another_folder_is_not_taken_over(tmp_path):
    harness.fit(tmp_path / "a", max_epochs=1)
    state = load_checkpoint(tmp_path / "a" / "last.ckpt")["callbacks"]
    (state,) = [value for key, value in state.items() if "BestCheckpoint" in key]
    best = best_checkpoint(tmp_path / "b", "val/loss", "min")
    best.load_state_dict(state)
    assert best.best_model_score is None
    assert best.best_model_path == ""
