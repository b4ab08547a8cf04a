"""Run folders and the checkpoints in them."""

import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dlarch.errors import CheckpointError, RunError
from dlarch.runs import Run, new_run, newest_run, resolve_checkpoint, runs_root


@pytest.fixture(autouse=True)
def root(monkeypatch, tmp_path):
    monkeypatch.setenv("DLARCH_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


def make(root: Path, name: str, *checkpoints: str) -> Run:
    run = Run(root / name)
    run.checkpoints.mkdir(parents=True)
    for checkpoint in checkpoints:
        (run.checkpoints / f"{checkpoint}.ckpt").touch()
    return run


def test_root_is_runs_unless_the_environment_says_otherwise(monkeypatch, root):
    assert runs_root() == root
    monkeypatch.setenv("DLARCH_RUNS", "")
    assert runs_root() == Path("runs")


def test_new_run_is_named_by_recipe_and_time(root):
    run = new_run("sweeps/x.yaml")
    assert run.folder.is_dir()
    assert run.folder.parent == root / "sweeps" / "x"
    assert re.fullmatch(r"sweeps/x/\d{4}(-\d\d){2}_\d\d(-\d\d){2}", run.name)
    assert run.best == run.folder / "checkpoints" / "best.ckpt"
    assert run.config.name == "config.yaml"
    assert run.metrics.name == "metrics.json"


def test_runs_that_start_in_the_same_second_get_folders_of_their_own_in_order(root):
    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(new_run, ["x"] * 24))
    assert len({run.folder for run in runs}) == 24
    assert newest_run("x").folder in {run.folder for run in runs}


def test_name_that_a_file_system_refuses_is_mended(root):
    assert new_run("../a:b\\c?.yml").folder.parent == root / "a-b" / "c-"


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs a folder it cannot write")
def test_folder_without_permission_is_an_error(root):
    root.mkdir(mode=0o500)
    with pytest.raises(RunError, match=r"Cannot write the run folder .*DLARCH_RUNS"):
        new_run("x")


def test_folder_that_cannot_be_made_is_an_error(root):
    root.write_text("a file")
    with pytest.raises(RunError, match=r"Cannot write the run folder .*DLARCH_RUNS"):
        new_run("x")


def test_newest_run_goes_by_time_then_number_and_recipe(root):
    for name in ("x/2026-01-02_00-00-00", "x/2026-01-02_00-00-00-2", "x/2026-01-02_00-00-00-10"):
        make(root, name)
    make(root, "x/2026-01-01_23-59-59")
    make(root, "sweeps/y/2026-02-01_00-00-00")
    make(root, "x/notes")
    assert newest_run("x").name == "x/2026-01-02_00-00-00-10"
    assert newest_run("x.yaml").name == "x/2026-01-02_00-00-00-10"
    assert newest_run().name == "sweeps/y/2026-02-01_00-00-00"
    with pytest.raises(RunError, match=r"no run in"):
        newest_run("z")


def test_last_and_best_are_those_of_the_newest_run_and_never_of_an_older_one(root):
    make(root, "x/2026-01-01_00-00-00", "last", "best")
    newest = make(root, "x/2026-01-02_00-00-00", "last")
    assert resolve_checkpoint("last", "x") == newest.last
    with pytest.raises(CheckpointError, match=r"2026-01-02_00-00-00, has no best checkpoint"):
        resolve_checkpoint("best", "x")


def test_run_folder_gives_the_preferred_checkpoint(root):
    run = make(root, "x/2026-01-01_00-00-00", "last", "best")
    assert resolve_checkpoint(str(run.folder)) == run.best
    assert resolve_checkpoint(str(run.folder), prefer="last") == run.last
    assert resolve_checkpoint(str(run.checkpoints), prefer="last") == run.last
    assert resolve_checkpoint(run.name) == run.best
    assert resolve_checkpoint(str(run.best), prefer="last") == run.best


def test_last_stands_in_for_best_but_best_never_for_last(root):
    run = make(root, "x/2026-01-01_00-00-00", "last")
    assert resolve_checkpoint(str(run.folder)) == run.last
    other = make(root, "x/2026-01-02_00-00-00", "best")
    with pytest.raises(CheckpointError, match=r"has no last checkpoint"):
        resolve_checkpoint(str(other.folder), prefer="last")


def test_missing_path_and_empty_run_are_refused(root):
    with pytest.raises(CheckpointError, match=r"no checkpoint or run folder 'nowhere.ckpt'"):
        resolve_checkpoint("nowhere.ckpt")
    run = make(root, "x/2026-01-01_00-00-00")
    with pytest.raises(CheckpointError, match=r"has no best checkpoint"):
        resolve_checkpoint(str(run.folder))


def test_a_run_exists_once_training_has_started_in_it(root):
    run = make(root, "x/2026-01-01_00-00-00", "last")
    assert not run.exists
    run.spec.touch()
    assert run.exists


def test_name_of_a_recipe_means_its_newest_run_and_never_an_older_one(root):
    make(root, "x/2026-01-01_00-00-00", "last", "best")
    newest = make(root, "x/2026-01-02_00-00-00", "last", "best")
    make(root, "y/2026-01-03_00-00-00", "last", "best")
    assert resolve_checkpoint("x") == newest.best
    assert resolve_checkpoint("x", prefer="last") == newest.last
    assert resolve_checkpoint(str(root / "x")) == newest.best
    newest.best.unlink()
    newest.last.unlink()
    with pytest.raises(CheckpointError, match=r"2026-01-02_00-00-00 has no best checkpoint"):
        resolve_checkpoint("x")
