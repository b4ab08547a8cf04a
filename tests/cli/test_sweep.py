"""`dlarch sweep` as a user runs it: real trainings, a failure, kills, reports."""

import csv
import os
import signal
import subprocess
import sys
import time

import pytest

from dlarch.cli.main import main

RECIPE = """\
# A perceptron on XOR.
model: mlp
data:
  class_path: logic_gates
  init_args: {inputs: 4, batch_size: 4}
trainer:
  max_epochs: 2
  log_every_n_steps: 1
"""

SWEEP = """\
recipe: gates.yaml
set: {score_train: true}
seeds: [1]
runs:
  relu: {}
  tanks: {model.activation: tanks}
  tanh: {model.activation: tanh}
"""


@pytest.fixture
def sweep(tmp_path):
    """Start `dlarch sweep`; returns the process."""
    (tmp_path / "gates.yaml").write_text(RECIPE, encoding="utf-8")
    (tmp_path / "small.yaml").write_text(SWEEP, encoding="utf-8")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}

    def start(*words: str, config: str = "small.yaml", runs: str = "runs") -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "dlarch", "sweep", "--config", config, *words],
            cwd=tmp_path,
            env=environment | {"DLARCH_RUNS": str(tmp_path / runs)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def runs_of(tmp_path, name="small", runs="runs"):
    """The lines of the file of runs."""
    with (tmp_path / runs / "sweeps" / name / "runs.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_sweep_goes_past_a_failure_and_reports(sweep, tmp_path):
    process = sweep()
    out, err = process.communicate(timeout=250)
    assert process.returncode == 1, err
    assert "Did you mean" in out or "tanks" in out
    table = out[out.index("setting") :]
    assert "0, 1 failed" in table
    assert "train/accuracy" in table
    lines = runs_of(tmp_path)
    assert [line["state"] for line in lines] == ["finished", "failed", "finished"]
    for line in (lines[0], lines[2]):
        assert 0 <= float(line["train/accuracy"]) <= 1
        assert 0 <= float(line["test/accuracy"]) <= 1
        assert line["stopped_epoch"] == "1"
        assert line["command"].startswith("dlarch fit --config gates.yaml")
    assert "tanks" in lines[1]["error"]
    assert (tmp_path / "runs/sweeps/small/curves.png").read_bytes().startswith(b"\x89PNG")

    changed = SWEEP.replace(
        "{model.activation: tanh}", "{model.activation: tanh, model.dropout: 0.1}"
    )
    (tmp_path / "small.yaml").write_text(changed, encoding="utf-8")
    out, _ = sweep().communicate(timeout=250)
    assert "finished  tanh, seed 1" in out  # anew, though a run of its name is finished
    assert "finished  relu" not in out
    assert "--model.dropout 0.1" in runs_of(tmp_path)[2]["command"]


@pytest.mark.parametrize(
    "number",
    [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.long)],
    ids=lambda number: number.name,
)
def test_a_killed_sweep_goes_on_without_repeating(sweep, tmp_path, number):
    long = SWEEP.replace("score_train: true", "trainer.max_epochs: 80")
    long = long.replace("  tanks: {model.activation: tanks}\n", "  relu: {trainer.max_epochs: 2}\n")
    long = long.replace("  relu: {}\n", "").replace("  tanh: ", "  slow tanh: ")
    (tmp_path / "long.yaml").write_text(long, encoding="utf-8")
    process = sweep(config="long.yaml")
    runs = tmp_path / "runs/sweeps/long/slow_tanh"
    wait_for(lambda: any("epoch 5/" in text_of(path) for path in runs.glob("seed_1_*/output.txt")))
    (folder,) = runs.iterdir()
    process.send_signal(number)
    process.communicate(timeout=60)
    process = sweep(config="long.yaml")
    out, err = process.communicate(timeout=250)
    assert process.returncode == 0, err
    assert "finished  slow tanh, seed 1" in out
    assert "finished  relu" not in out  # it was before the kill
    assert [line["stopped_epoch"] for line in runs_of(tmp_path, "long")] == ["1", "79"]
    # One folder: what was interrupted went on, or was waited for.
    assert len([path for path in folder.iterdir() if path.is_dir()]) == 1


def text_of(path):
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def wait_for(holds, seconds=120):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


@pytest.mark.long
def test_machines_that_share_a_storage_divide_the_trials(sweep, tmp_path):
    words = ("--seeds", "3", "4", "--storage", "shared.journal")
    here = sweep(*words, "--workers", "2")
    there = sweep(*words, runs="elsewhere")
    finished = [*told(here), *told(there)]
    assert sorted(finished) == [
        f"{setting}, seed {seed}" for setting in ("relu", "tanh") for seed in (3, 4)
    ]
    assert told(sweep(*words, "--report")) == []
    found = [(line["setting"], line["seed"], line["state"]) for line in runs_of(tmp_path)]
    assert found == [
        (setting, seed, "failed" if setting == "tanks" else "finished")
        for setting in ("relu", "tanks", "tanh")
        for seed in ("3", "4")
    ]
    assert told(sweep(*words, "--retry_failed"), "failed") == ["tanks, seed 3", "tanks, seed 4"]


def told(process, state="finished"):
    """The trials that ended so, as the process told while it ran."""
    out, _ = process.communicate(timeout=250)
    lines = [line.split() for line in out.splitlines()]
    return sorted(" ".join(words[1:]).split(":")[0] for words in lines if words[:1] == [state])


def test_a_sweep_is_no_recipe(tmp_path, monkeypatch, capsys):
    (tmp_path / "small.yaml").write_text(SWEEP, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "--config", "small.yaml"]) == 2
    assert "dlarch sweep --config small.yaml" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--config", "mnist_mlp_20"), "Did you mean"),
        (("--config", "mlp"), "is a recipe, not a sweep"),
        (("--config", "mnist_mlp_21", "--worker", "2"), "Did you mean '--workers'"),
    ],
)
def test_mistakes_are_named(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", *words]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
