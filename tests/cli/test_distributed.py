"""`dlarch fit` with two processes, and in mixed precision, scores as one process in float32 does.

Which examples the processes see, and their weights, are compared in tests/tasks.
"""

import functools
import json
import os
import random
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Outcome, dlarch

pytestmark = pytest.mark.slow

# An epoch has 8 batches of 32 pairs, or of 2 times 16, so that both set-ups train on the same ones.
FIT = (
    "fit --config tiny --data.source numbers.tsv --data.tokens words --data.train_size 256 "
    "--trainer.max_epochs 6 --model.embedding_size 16 --model.encoder_size 16 "
    "--model.hidden_size 16 --trainer.accelerator cpu"
)
ONE = "--data.batch_size 32"
TWO = "--data.batch_size 16 --trainer.strategy ddp --trainer.devices 2"
CLIPPED = "--trainer.gradient_clip_val 0.1"
MIXED = "--trainer.precision bf16-mixed"

NUMBERS = {"un": "one", "deux": "two", "trois": "three", "quatre": "four",
           "cinq": "five", "six": "six", "sept": "seven", "huit": "eight"}  # fmt: skip


def in_processes(command: str) -> Outcome:
    """Run `dlarch COMMAND` in a process of its own, which may start others."""
    words = [sys.executable, "-m", "dlarch", *shlex.split(command)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=200, env=os.environ)
    return Outcome(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def scores(here: Path) -> Callable[[str], dict[str, float]]:
    """The metrics that a fit with more options writes down."""
    dice = random.Random(0)
    with Path("numbers.tsv").open("w") as file:
        for _ in range(330):
            words = dice.choices(list(NUMBERS), k=dice.randint(4, 7))
            print(" ".join(words), " ".join(NUMBERS[word] for word in words), sep="\t", file=file)

    @functools.cache
    def fit(options: str) -> dict[str, float]:
        outcome = (in_processes if TWO in options else dlarch)(f"{FIT} {options}")
        assert outcome.code == 0, outcome.err
        assert outcome.out.count("Run folder: ") == 1
        assert outcome.err.count("\nepoch 6/6 ") == 1
        record = json.loads(outcome.run.metrics.read_text())
        return record["metrics"]

    return fit


def close(exact: dict[str, float], other: dict[str, float]) -> bool:
    """Whether losses differ by one percent at most, and BLEU by five of its points."""
    assert exact.keys() == other.keys()
    losses = {name: exact[name] for name in ("train/loss", "val/loss", "test/loss")}
    bleu = {name: exact[name] for name in ("val/bleu", "test/bleu")}
    return {name: other[name] for name in losses} == pytest.approx(losses, rel=0.01) and {
        name: other[name] for name in bleu
    } == pytest.approx(bleu, abs=5)


def test_two_processes_score_as_one_with_batches_twice_as_large(scores):
    single, double = scores(f"{ONE} {CLIPPED}"), scores(f"{TWO} {CLIPPED}")
    assert double == pytest.approx(single, rel=1e-3)
    assert single["val/bleu"] > 20  # there was something to get wrong
    assert scores(ONE) != pytest.approx(single, rel=1e-3)  # the clipping acts


@pytest.mark.parametrize("processes", [ONE, TWO], ids=["one", "two"])
def test_mixed_precision_scores_as_float32(scores, processes):
    exact, mixed = scores(f"{ONE} {CLIPPED}"), scores(f"{processes} {CLIPPED} {MIXED}")
    assert mixed != exact
    assert close(exact, mixed)


@pytest.mark.parametrize("broken", ["", f"{CLIPPED} --model.optimizer.lr 0.009"])
def test_that_comparison_notices_a_lost_clipping_and_smaller_steps(scores, broken):
    assert not close(scores(f"{ONE} {CLIPPED}"), scores(f"{ONE} {broken}".strip()))
