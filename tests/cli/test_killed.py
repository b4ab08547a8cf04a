"""`dlarch fit`, killed by the system in another process and resumed, ends as if nothing had been.

What other Trainer options and hooks mean for it is tested with the callbacks; here the command
line, the data and the model are the real ones.
"""

import functools
import hashlib
import json
import random
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from dlarch.callbacks.resume import ExactResume, random_state, restore_random_state
from dlarch.runs import Run

from .conftest import dlarch

sys.path.insert(0, str(Path(__file__).parent))  # recipes name the harness's callback

import killed_harness as harness

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL and fork")

EPOCHS, BATCHES, BATCH_SIZE = 3, 16, 16
CHECKPOINT_STEPS = 3

FIT = (
    f"fit --config tiny --trainer.max_epochs {EPOCHS} --trainer.val_check_interval 0.5 "
    f"--save_every_n_steps {CHECKPOINT_STEPS} --test_after_fit false --model.dropout 0.3 "
    f"--data.train_size {BATCHES * BATCH_SIZE} --data.batch_size {BATCH_SIZE} "
    "--trainer.callbacks+=killed_harness.Diary --trainer.callbacks.path=diary.jsonl"
)


class Result(NamedTuple):
    """What a run came to; all of it must be equal.

    Attributes:
        examples: of each batch of each epoch.
        last: hashes of weights and optimizer states, by name.
        best: the same of the checkpoint that validation chose.
        scores: all metrics of the run.
    """

    examples: list[list[list[int]]]
    last: dict[str, str]
    best: dict[str, str]
    scores: dict[str, float]


class Life(NamedTuple):
    """A folder with one run in it, in which one process follows another."""

    folder: Path

    @property
    def run(self) -> Run:
        (folder,) = self.folder.glob("runs/tiny/*")
        return Run(folder)

    @property
    def diary(self) -> list[tuple[int, int, list[int]]]:
        """Epoch, batch and examples."""
        lines = (self.folder / "diary.jsonl").read_text().splitlines()
        return [tuple(json.loads(line)) for line in lines]

    def finish(self, command: str) -> Result:
        """Run a command in this process, to the end of training."""
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            outcome = dlarch(command)
            assert outcome.code == 0, outcome.err
            assert outcome.run.folder.samefile(self.run.folder)
        metrics = json.loads(self.run.metrics.read_text())["metrics"]
        return Result(self._examples(), hashes(self.run.last), hashes(self.run.best), metrics)

    def _examples(self) -> list[list[list[int]]]:
        found: dict[tuple[int, int], list[int]] = {}
        for epoch, batch, examples in self.diary:
            # What was trained after the last checkpoint comes again, and is the same.
            assert found.setdefault((epoch, batch), examples) == examples, (epoch, batch)
        assert list(found) == [
            (epoch, batch) for epoch in range(EPOCHS) for batch in range(BATCHES)
        ]
        batches = list(found.values())
        return [batches[epoch * BATCHES :][:BATCHES] for epoch in range(EPOCHS)]


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
    """The fields that differ, with the tensors."""
    names = one.last.keys() | other.last.keys()
    tensors = sorted(name for name in names if one.last.get(name) != other.last.get(name))
    return [name for name in one._fields if getattr(one, name) != getattr(other, name)] + tensors


def moments(options: str, count: int) -> list[harness.Moment]:
    """Random moments inside epochs, later than the first checkpoint."""
    dice, first = random.Random(options), CHECKPOINT_STEPS * int(options[-1])
    places = [divmod(number, BATCHES) for number in range(first, EPOCHS * BATCHES)]
    inside = [(epoch, batch) for epoch, batch in places if batch < BATCHES - 1]
    return [
        harness.Moment(*place, dice.choice(harness.HOOKS)) for place in dice.sample(inside, count)
    ]


@pytest.fixture(scope="module")
def live(here: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Life]:
    """Makes a folder with the recipe in it."""

    def make() -> Life:
        folder = tmp_path_factory.mktemp("life")
        (folder / "tiny.yaml").write_text((here / "tiny.yaml").read_text())
        return Life(folder)

    return make


@pytest.fixture(scope="module")
def whole(live: Callable[[], Life]) -> Callable[[str], Result]:
    """What an uninterrupted run comes to."""

    @functools.cache
    def fit(options: str) -> Result:
        result = live().finish(f"{FIT} {options}")
        for batches in result.examples:
            assert sorted(chain(*batches)) == list(range(BATCHES * BATCH_SIZE))
        assert {name.partition("/")[0] for name in result.last} == {"weights", "optimizers"}
        return result

    return fit


@pytest.fixture(scope="module")
def kill(here: Path) -> Iterator[Callable[[Life, str, harness.Moment], None]]:
    """Runs a command in a process of its own that is killed at a moment."""
    command = [sys.executable, harness.__file__]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:

        def run(life: Life, command: str, moment: harness.Moment) -> None:
            line = json.dumps([str(life.folder), shlex.split(command), moment])
            print(line, file=server.stdin, flush=True)
            code = int(server.stdout.readline())
            assert code == -signal.SIGKILL, (moment, (life.folder / harness.LOG).read_text())

        yield run
        server.kill()


PLAIN = "--data.num_workers 0 --trainer.accumulate_grad_batches 1"
WORKERS = "--data.num_workers 2 --trainer.accumulate_grad_batches 1"
ACCUMULATED = "--data.num_workers 0 --trainer.accumulate_grad_batches 2"
BOTH = "--data.num_workers 2 --trainer.accumulate_grad_batches 2"


@pytest.mark.parametrize(
    ("options", "kills"),
    [
        *(pytest.param(*each, marks=pytest.mark.long) for each in ((PLAIN, 3), (WORKERS, 2))),
        pytest.param(ACCUMULATED, 3, marks=pytest.mark.long),
        (BOTH, 2),
    ],
)
def test_killed_at_random_moments_ends_like_an_uninterrupted_run(whole, live, kill, options, kills):
    repeated = 0
    for moment in moments(options, kills):
        life = live()
        kill(life, f"{FIT} {options}", moment)
        trained = moment.epoch * BATCHES + moment.batch + (moment.hook == "on_train_batch_end")
        assert len(life.diary) == trained
        again = life.finish(f"fit --ckpt_path {life.run.folder}")
        found = differences(again, whole(options))
        assert not found, (moment, found)
        repeated += len(life.diary) - EPOCHS * BATCHES
    assert repeated > 0


def test_killed_twice_and_resumed_by_the_word_last(whole, live, kill):
    life = live()
    kill(life, f"{FIT} {BOTH}", harness.Moment(0, 9, "on_after_backward"))
    kill(life, "fit --ckpt_path last", harness.Moment(1, 6, "on_train_batch_end"))
    again = life.finish("fit --ckpt_path last")
    assert not differences(again, whole(BOTH))


def test_without_the_random_states_the_comparison_finds_a_difference(
    whole, live, kill, monkeypatch
):
    restore = ExactResume.on_train_start

    def restore_the_rest(self, trainer, module):
        device = trainer.strategy.root_device
        state = random_state(device)
        restore(self, trainer, module)
        restore_random_state(state, device)

    monkeypatch.setattr(ExactResume, "on_train_start", restore_the_rest)
    life = live()
    kill(life, f"{FIT} {PLAIN}", harness.Moment(1, 8, "on_train_batch_start"))
    again = life.finish(f"fit --ckpt_path {life.run.folder}")
    found = differences(again, whole(PLAIN))
    assert {"last", "best", "scores"} <= set(found)
    assert {name for name in again.last if name.startswith("weights/")} <= set(found)
    assert again.examples == whole(PLAIN).examples  # the data have a random state of their own
