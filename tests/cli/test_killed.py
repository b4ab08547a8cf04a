"""`dlarch fit`, killed by the system in another process and resumed, ends as if nothing had been.

What Trainer options and hooks do to this is tested with the callbacks; here the command line, the
data and a model are the real ones.
"""

import hashlib
import json
import multiprocessing
import os
import random
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from dlarch.callbacks.resume import ExactResume, random_state, restore_random_state
from dlarch.runs import Run

from .conftest import dlarch

sys.path.insert(0, str(Path(__file__).parent))

import killed_harness as harness

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")

EPOCHS, BATCHES = 3, 16  # of 16 pairs
STEPS_BETWEEN_CHECKPOINTS = 3

FIT = f"""
    fit --config tiny --trainer.max_epochs {EPOCHS} --trainer.val_check_interval 0.5
    --save_every_n_steps {STEPS_BETWEEN_CHECKPOINTS} --test_after_fit false --model.dropout 0.3
    --data.batch_size 16 --data.train_size 256
    --trainer.callbacks+=killed_harness.Diary --trainer.callbacks.path=diary.jsonl
"""

PLAIN = "--data.num_workers 0 --trainer.accumulate_grad_batches 1"
WORKERS = "--data.num_workers 2 --trainer.accumulate_grad_batches 1"
ACCUMULATED = "--data.num_workers 0 --trainer.accumulate_grad_batches 2"
BOTH = "--data.num_workers 2 --trainer.accumulate_grad_batches 2"


class Result(NamedTuple):
    """What must be equal."""

    examples: dict[int, list[list[int]]]
    """Epoch: the examples of each batch."""
    tensors: dict[str, str]
    """Hashes of weights and optimizer states, by name."""
    best: dict[str, str]
    """The same of the checkpoint that validation chose."""
    metrics: dict[str, float]


class Life(NamedTuple):
    """One process after another in one run folder."""

    folder: Path
    environment: dict[str, str]

    @property
    def run(self) -> Run:
        (folder,) = self.folder.glob("runs/tiny/*")
        return Run(folder)

    @property
    def diary(self) -> list[list[Any]]:
        """Epoch, batch, step, examples."""
        lines = (self.folder / "diary.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def killed(self, command: str, moment: harness.Moment) -> None:
        """Run the command in a process that is killed."""
        log = self.folder / "log"
        arguments = (shlex.split(command), moment, self.environment, log)
        # A server that has imported torch and dlarch forks the victim, which so starts at once.
        victim = multiprocessing.get_context("forkserver").Process(
            target=harness.run, args=arguments
        )
        victim.start()
        victim.join()
        assert victim.exitcode == -signal.SIGKILL, log.read_text()

    def result(self) -> Result:
        batches: dict[tuple[int, int], list[int]] = {}
        for epoch, batch, _, examples in self.diary:
            # What was trained after the last checkpoint is repeated, and is the same.
            assert batches.setdefault((epoch, batch), examples) == examples, (epoch, batch)
        assert list(batches) == sorted(batches)
        by_epoch = {epoch: [] for epoch, _ in batches}
        for (epoch, _), examples in batches.items():
            by_epoch[epoch].append(examples)
        metrics = json.loads(self.run.metrics.read_text())["metrics"]
        return Result(by_epoch, hashes(self.run.last), hashes(self.run.best), metrics)


def hashes(path: Path) -> dict[str, str]:
    """Hash of each tensor among the weights and optimizer states of a checkpoint."""
    found: dict[str, str] = {}

    def add(name: str, value: Any) -> None:
        if isinstance(value, dict | list):
            for key, item in value.items() if isinstance(value, dict) else enumerate(value):
                add(f"{name}/{key}", item)
        elif isinstance(value, torch.Tensor):
            found[name] = hashlib.sha256(value.numpy().tobytes()).hexdigest()

    checkpoint = torch.load(path, weights_only=True)
    add("weights", checkpoint["state_dict"])
    add("optimizers", checkpoint["optimizer_states"])
    return found


def differences(one: Result, other: Result) -> list[str]:
    """What is not equal: the field, or the tensor."""
    fields = [name for name in one._fields if getattr(one, name) != getattr(other, name)]
    names = one.tensors.keys() | other.tensors.keys()
    return fields + sorted(n for n in names if one.tensors.get(n) != other.tensors.get(n))


@pytest.fixture(scope="module", autouse=True)
def server(here: Path) -> Iterator[None]:
    """The process that forks the victims, if another test has not started one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["killed_harness"])
        yield


@pytest.fixture
def start(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Makes an empty folder the working directory, with the recipe in it."""

    def make(name: str) -> Life:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "tiny.yaml").write_text((here / "tiny.yaml").read_text())
        monkeypatch.chdir(folder)
        environment = {key: os.environ[key] for key in ("DLARCH_CACHE", "OMP_NUM_THREADS")}
        return Life(folder, environment)

    return make


def uninterrupted(life: Life, options: str) -> Result:
    outcome = dlarch(f"{FIT} {options}")
    assert outcome.code == 0, outcome.err
    result = life.result()
    for batches in result.examples.values():
        assert sorted(sum(batches, [])) == list(range(16 * BATCHES))
    assert len(result.examples) == EPOCHS
    assert any(name.startswith("optimizers/") for name in result.tensors)
    return result


def resumed(life: Life, name: str | None = None) -> Result:
    outcome = dlarch(f"fit --ckpt_path {name or life.run.folder}")
    assert outcome.code == 0, outcome.err
    assert outcome.run.folder.samefile(life.run.folder)
    return life.result()


def moments(seed: int, count: int, after: int) -> list[harness.Moment]:
    """Random moments inside epochs, when `after` batches have been trained."""
    dice = random.Random(seed)
    places = [divmod(number, BATCHES) for number in range(after, EPOCHS * BATCHES)]
    inside = [(epoch, batch) for epoch, batch in places if batch < BATCHES - 1]
    return [
        harness.Moment(*place, dice.choice(harness.HOOKS)) for place in dice.sample(inside, count)
    ]


@pytest.mark.parametrize(
    ("options", "count"), [(PLAIN, 3), (WORKERS, 2), (ACCUMULATED, 3), (BOTH, 2)]
)
def test_killed_inside_an_epoch_ends_like_an_uninterrupted_run(start, options, count):
    whole = uninterrupted(start("whole"), options)
    batches_per_step = int(options[-1])
    first_checkpoint = STEPS_BETWEEN_CHECKPOINTS * batches_per_step
    repeated, seed = 0, len(options) + batches_per_step
    for number, moment in enumerate(moments(seed, count, first_checkpoint)):
        life = start(str(number))
        life.killed(f"{FIT} {options}", moment)
        # Not even the end of a step was reached
        trained = [(epoch, batch) for epoch, batch, *_ in life.diary]
        assert len(trained) == moment.epoch * BATCHES + moment.batch + (
            moment.hook == "on_train_batch_end"
        )
        again = resumed(life, "last" if number == 0 else None)
        assert not differences(again, whole), (moment, differences(again, whole))
        repeated += len(life.diary) - EPOCHS * BATCHES
    assert repeated > 0


def test_killed_again_and_again(start):
    pass
