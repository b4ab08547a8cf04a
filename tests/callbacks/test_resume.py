import logging
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from dlarch.callbacks import resume
from dlarch.callbacks.resume import random_state, restore_random_state
from dlarch.compat import fit_loop
from dlarch.compat.checkpoint_io import load_checkpoint
from dlarch.data.loading import BatchLoader

sys.path.insert(0, str(Path(__file__).parent))

import resume_harness as harness

PLATEAU = {"scheduler": "plateau"}


@pytest.fixture(autouse=True)
def quiet():
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)


def uninterrupted(tmp_path, model_options=None, **options):
    return harness.outcome(*harness.fit(tmp_path / "whole", model_options, **options))


def differences(one, other):
    return [name for name in one._fields if getattr(one, name) != getattr(other, name)]


def interrupted(folder, model_options, **options):
    """Fit until the model kills itself, resume from last.ckpt if there is one by then."""
    with pytest.raises(harness.Killed):
        harness.fit(folder, model_options, **options)
    alive = {k: v for k, v in model_options.items() if not k.startswith("kill")}
    there = (folder / "last.ckpt").exists()
    return harness.outcome(*harness.fit(folder, alive, resume=there, **options))


@pytest.mark.parametrize(
    ("model_options", "options"),
    [
        ({}, {}),
        (PLATEAU, {"accumulate_grad_batches": 4, "val_check_interval": 0.5, "max_epochs": 3}),
        ({}, {"max_steps": 11, "val_check_interval": 3}),
        ({}, {"every_n_steps": 4, "max_epochs": 3}),
    ],
)
def test_killed_before_any_batch_ends_like_an_uninterrupted_run(tmp_path, model_options, options):
    whole = uninterrupted(tmp_path, model_options, **options)
    assert len(whole.seen) in (11, 14, 21)
    for batch in range(1, len(whole.seen)):
        kill = {**model_options, "kill_at": batch}
        again = interrupted(tmp_path / str(batch), kill, **options)
        assert again == whole, (batch, differences(again, whole))


@pytest.mark.parametrize(
    ("model_options", "options"),
    [
        ({}, {"accumulate_grad_batches": 3}),
        ({}, {"accumulate_grad_batches": 3, "max_steps": 5}),
        ({}, {"check_val_every_n_epoch": None, "val_check_interval": 3, "max_steps": 9}),
        (PLATEAU, {"val_check_interval": 3}),
        (PLATEAU, {"val_check_interval": 3, "max_steps": 9, "accumulate_grad_batches": 2}),
        ({}, {"limit_train_batches": 5}),
        ({}, {"limit_val_batches": 0, "max_steps": 10}),
        ({}, {"check_val_every_n_epoch": 2, "num_sanity_val_steps": 0}),
    ],
)
def test_a_checkpoint_made_in_any_hook_resumes_exactly(tmp_path, model_options, options):
    snapshots = harness.Snapshots(tmp_path / "whole")
    callbacks = {"more_callbacks": [snapshots], "every_n_steps": None}
    whole = uninterrupted(tmp_path, model_options, **callbacks, **options)
    points, best = set(), tmp_path / "whole" / "best.ckpt"
    for path in sorted(tmp_path.glob("whole/0*.ckpt")):
        saved = load_checkpoint(path)
        points.add(saved["exact_resume"]["point"])
        finished = saved["global_step"] == whole.global_step  # nothing is left to be compared
        if saved["exact_resume"]["point"] == "inexact" or finished:
            continue
        folder = tmp_path / path.stem
        folder.mkdir()
        shutil.copy(path, folder / "last.ckpt")
        if best.exists():
            shutil.copy(best, folder)
        again = harness.outcome(*harness.fit(folder, model_options, resume=True, **options))
        assert again == whole, (
            path.name,
            saved["exact_resume"]["point"],
            differences(again, whole),
        )
    assert {"step", "epoch"} <= points
    assert ("validation due" in points) == (options.get("limit_val_batches") != 0)


@pytest.mark.parametrize("kill", [(7, 0), (7, 3), (14, 1)])
def test_killed_inside_validation(tmp_path, kill):
    whole = uninterrupted(tmp_path, PLATEAU, max_epochs=3)
    killed = {**PLATEAU, "kill_in_validation": kill}
    assert interrupted(tmp_path / "again", killed, max_epochs=3) == whole


def test_workers_change_nothing_and_are_resumed_exactly(tmp_path):
    whole = uninterrupted(tmp_path)
    for batch in (3, 9):
        folder = tmp_path / str(batch)
        again = interrupted(folder, {"kill_at": batch}, num_workers=2, accumulate_grad_batches=1)
        assert again == whole


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_sigkill_at_random_moments(tmp_path, monkeypatch):
    options = {"max_epochs": 5, "val_check_interval": 0.5, "accumulate_grad_batches": 2}
    whole = uninterrupted(tmp_path, **options)
    # A server that has imported torch forks the victims, so that each starts at once.
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["resume_harness"])
    moments, steps = random.Random(0), []
    for number in range(6):
        folder, workers = tmp_path / str(number), 2 * (number == 5)
        arguments = (folder, {"sleep": 0.02}, workers)
        victim = context.Process(target=harness.fit, args=arguments, kwargs=options)
        victim.start()
        while not (folder / "last.ckpt").exists():
            assert victim.is_alive()
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.5))
        os.kill(victim.pid, signal.SIGKILL)
        victim.join()
        assert victim.exitcode == -signal.SIGKILL
        steps.append(load_checkpoint(folder / "last.ckpt")["global_step"])
        again = harness.outcome(*harness.fit(folder, {}, workers, resume=True, **options))
        assert again == whole, (steps[-1], differences(again, whole))
    assert len(set(steps)) > 1


def test_validation_does_not_move_the_random_state(tmp_path):
    with_validation = uninterrupted(tmp_path, val_check_interval=2)
    without = uninterrupted(tmp_path, limit_val_batches=0)
    assert with_validation.weights == without.weights


# The guards guarded: each repair is taken away, and the result has to differ.


def test_without_the_random_states_the_result_differs(tmp_path, monkeypatch):
    whole = uninterrupted(tmp_path)
    monkeypatch.setattr(resume, "restore_random_state", lambda state, device: None)
    again = interrupted(tmp_path / "again", {"kill_at": 4})
    assert {"weights", "optimizer"} <= set(differences(again, whole))
    assert again.seen == whole.seen  # the data do not depend on the global random state


def test_without_the_loader_state_the_examples_differ(tmp_path, monkeypatch):
    whole = uninterrupted(tmp_path)
    monkeypatch.setattr(BatchLoader, "load_state_dict", lambda self, state: None)
    assert interrupted(tmp_path / "again", {"kill_at": 4}).seen != whole.seen


def test_without_finish_epoch_a_limited_epoch_goes_on(tmp_path, monkeypatch):
    options = {"limit_train_batches": 5, "max_epochs": 3}
    whole = uninterrupted(tmp_path, **options)
    monkeypatch.setattr(BatchLoader, "finish_epoch", lambda self: None)
    again = interrupted(tmp_path / "again", {"kill_at": 5}, every_n_steps=None, **options)
    assert again.seen != whole.seen


@pytest.mark.parametrize(
    ("name", "options", "kill_at", "field"),
    [
        ("settle", {"val_check_interval": 3}, 3, "validated"),
        ("prepare_restart", {"max_epochs": 3}, 4, "learning_rate"),
    ],
)
def test_without_the_settled_loops_the_result_differs(
    tmp_path, monkeypatch, name, options, kill_at, field
):
    whole = uninterrupted(tmp_path, PLATEAU, **options)
    monkeypatch.setattr(fit_loop, name, lambda *_: None)
    again = interrupted(tmp_path / "again", {**PLATEAU, "kill_at": kill_at}, **options)
    assert field in differences(again, whole)


def test_resuming_from_an_inexact_checkpoint_is_reported(tmp_path, caplog):
    snapshots = harness.Snapshots(tmp_path)
    harness.fit(tmp_path, {}, limit_val_batches=0, max_epochs=1, more_callbacks=[snapshots])
    inexact = [
        path
        for path in sorted(tmp_path.glob("0*.ckpt"))
        if load_checkpoint(path)["exact_resume"]["point"] == "inexact"
    ]
    assert [path.name.split("-")[1] for path in inexact] == ["on_train_batch_end.ckpt"]
    shutil.copy(inexact[0], tmp_path / "last.ckpt")
    harness.fit(tmp_path, {}, limit_val_batches=0, max_epochs=2, resume=True)
    assert "differ from an uninterrupted run" in caplog.text


def test_a_bare_trainer_with_lightnings_checkpoints_resumes_exactly(tmp_path):
    whole = uninterrupted(tmp_path)
    bare = {"callbacks": [ModelCheckpoint(tmp_path, "last", save_top_k=1)], "plugins": None}
    harness.fit(tmp_path, {}, max_epochs=1, **bare)
    _, model = harness.fit(tmp_path, {}, resume=True, callbacks=[], plugins=None)
    assert harness.digest(model.state_dict()) == whole.weights


def test_random_states_survive_a_file_and_repeat_the_same_numbers(tmp_path):
    def draw():
        return torch.rand(2).tolist(), np.random.standard_normal(3).tolist(), random.gauss(0, 1)

    draw()  # leaves a half-used pair of Gaussians in numpy and in Python
    torch.save(random_state(torch.device("cpu")), tmp_path / "state")
    first = draw()
    assert draw() != first
    restore_random_state(torch.load(tmp_path / "state", weights_only=True), torch.device("cpu"))
    assert draw() == first
