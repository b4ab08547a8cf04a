"""`dlarch fit` in processes that kill themselves at a chosen moment.

As a script it is the server of such processes: it has imported what a fit needs, and forks one for
each line of its input, so that they start at once.
"""

import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import NamedTuple

import lightning as L  # noqa: N812

LOG = "killed.log"


class Moment(NamedTuple):
    """A hook of a batch of an epoch, both counted from 0."""

    epoch: int
    batch: int
    hook: str


HOOKS = ("on_train_batch_start", "on_after_backward", "on_train_batch_end")


class Diary(L.Callback):
    """Notes which examples each batch trained, and kills its process at a moment."""

    death: Moment | None = None  # of this process; None lets it live

    def __init__(self, path: str) -> None:
        self.path = path
        self.batch = 0

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.batch = batch_idx
        self.live_or_die(trainer, "on_train_batch_start")

    def on_after_backward(self, trainer, module):
        self.live_or_die(trainer, "on_after_backward")

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        line = json.dumps([trainer.current_epoch, batch_idx, batch.example.tolist()])
        with Path(self.path).open("a") as file:
            file.write(line + "\n")
        self.live_or_die(trainer, "on_train_batch_end")

    def live_or_die(self, trainer, hook):
        if Diary.death == (trainer.current_epoch, self.batch, hook):
            os.kill(os.getpid(), signal.SIGKILL)


def run(folder: str, words: list[str], moment: Moment) -> int:
    """Run `dlarch WORDS` in a folder until `moment`; what it prints comes into a file there."""
    import killed_harness  # which the command line imports too, and which __main__ is not

    from dlarch.cli.main import main

    killed_harness.Diary.death = moment
    os.chdir(folder)
    with (
        Path(LOG).open("w") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        return main(words)


def serve() -> None:
    """Fork a process for each line, [folder, words, moment], and print its exit code."""
    import dlarch.cli.lightning
    import dlarch.models.seq2seq.seq2seq_attn  # noqa: F401

    for line in sys.stdin:
        folder, words, moment = json.loads(line)
        child = os.fork()
        if not child:
            code = 1
            try:
                code = run(folder, words, Moment(*moment))
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve()
