"""`dlarch fit` in a process that kills itself at a chosen moment."""

import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import NamedTuple

import lightning as L  # noqa: N812

import dlarch.cli.lightning
import dlarch.data.translation
import dlarch.models.seq2seq.seq2seq_attn  # noqa: F401  (a server that imported all this forks)
from dlarch.cli.main import main

HOOKS = ("on_train_batch_start", "on_after_backward", "on_train_batch_end")


class Moment(NamedTuple):
    """When a process is killed: in a hook of a batch of an epoch, all counted from 0."""

    epoch: int
    batch: int
    hook: str


death: Moment | None = None
"""When this process dies; None lets it live."""


class Diary(L.Callback):
    """Notes on which examples each batch trained, and ends the process at the moment of death."""

    def __init__(self, path: str) -> None:
        self.path = path

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.batch = batch_idx
        self.die(trainer, "on_train_batch_start")

    def on_after_backward(self, trainer, module):
        self.die(trainer, "on_after_backward")

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        line = [trainer.current_epoch, batch_idx, trainer.global_step, batch.example.tolist()]
        with Path(self.path).open("a") as file:
            file.write(json.dumps(line) + "\n")
        self.die(trainer, "on_train_batch_end")

    def die(self, trainer, hook):
        if death == (trainer.current_epoch, self.batch, hook):
            os.kill(os.getpid(), signal.SIGKILL)


def run(words: list[str], moment: Moment, environment: dict[str, str], log: Path) -> None:
    """Run `dlarch WORDS` until `moment`, with what it prints in `log`."""
    global death
    death = moment
    os.environ.update(environment)
    with log.open("w") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        sys.exit(main(words))
