import json
import logging
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dlarch.callbacks.checkpoints import LastCheckpoint
from dlarch.callbacks.signals import GracefulStop, StopRequested
from dlarch.compat.checkpoint_io import load_checkpoint

sys.path.insert(0, str(Path(__file__).parent))

import resume_harness as harness

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")


@pytest.fixture(autouse=True)
def quiet():
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)


class SignalAt(harness.Tiny):
    """Sends a signal to its own process inside a given batch of training or of validation."""

    def __init__(self, number, train=None, validation=None):
        super().__init__()
        self.number, self.at = number, (train, validation)

    def training_step(self, batch, batch_idx):
        if self.total == self.at[0]:
            os.kill(os.getpid(), self.number)
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch, batch_idx):
        if (self.total, batch_idx) == self.at[1]:
            os.kill(os.getpid(), self.number)
        return super().validation_step(batch, batch_idx)


def stopped(folder, number, moment, **options):
    """Fit until a signal stops it; return (exit code, point, seen batches)."""
    harness.L.seed_everything(1, verbose=False)
    model = SignalAt(number, **moment)
    trainer = harness.make_trainer(folder, None, **options)
    with pytest.raises(StopRequested) as caught:
        trainer.fit(model, harness.Data())
    saved = load_checkpoint(folder / "last.ckpt")
    return caught.value.code, saved["exact_resume"]["point"], saved["notes"][2]


@pytest.mark.parametrize(
    ("number", "moment", "options", "expected"),
    [
        (signal.SIGTERM, {"train": 2}, {}, (143, "step", 3)),
        (signal.SIGINT, {"train": 2}, {}, (130, "step", 3)),
        (signal.SIGTERM, {"train": 3}, {"accumulate_grad_batches": 3}, (143, "step", 6)),
        (signal.SIGTERM, {"train": 6}, {}, (143, "validation due", 7)),
        (signal.SIGTERM, {"train": 6}, {"limit_val_batches": 0}, (143, "epoch", 7)),
        (signal.SIGINT, {"train": 13}, {"limit_val_batches": 0}, (130, "epoch", 14)),
        (signal.SIGTERM, {"validation": (7, 1)}, {}, (143, "validation due", 7)),
        (signal.SIGTERM, {"validation": (7, 3)}, {}, (143, "epoch", 7)),
        (signal.SIGTERM, {"validation": (14, 3)}, {}, (143, "epoch", 14)),
    ],
)
def test_the_first_signal_finishes_the_step_and_saves_exactly(
    tmp_path, number, moment, options, expected
):
    whole = harness.outcome(*harness.fit(tmp_path / "whole", **options))
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    assert stopped(tmp_path / "again", number, moment, **options) == expected
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before
    again = harness.outcome(*harness.fit(tmp_path / "again", resume=True, **options))
    if len(whole.seen) == expected[2]:  # nothing was left to do, so Lightning starts no loop
        assert again.weights == whole.weights
    else:
        assert again == whole


def test_the_resume_command_is_reported(tmp_path, caplog):
    folder = tmp_path / "my run" / "checkpoints"
    stopped(folder, signal.SIGTERM, {"train": 2})
    assert f"dlarch.fit(..., ckpt_path={str(tmp_path / 'my run')!r})" in caplog.text
    assert "Stopped by SIGTERM after step 3." in caplog.text


def test_without_a_last_checkpoint_it_says_that_nothing_was_saved(tmp_path, caplog):
    trainer = harness.make_trainer(tmp_path, callbacks=[GracefulStop()])
    with pytest.raises(StopRequested):
        trainer.fit(SignalAt(signal.SIGTERM, train=2), harness.Data())
    assert "Nothing was saved" in caplog.text


def test_outside_the_main_thread_training_runs_without_handlers(tmp_path):
    thread = threading.Thread(target=harness.fit, args=(tmp_path,), kwargs={"max_epochs": 1})
    thread.start()
    thread.join()
    assert load_checkpoint(tmp_path / "last.ckpt")["global_step"] == 7


@pytest.fixture
def start(monkeypatch):
    """Start a process that trains; it sees signals as a process on the command line does."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["resume_harness"])
    started = []

    def start(folder, sleep, workers=0, **options):
        victim = context.Process(
            target=harness.fit, args=(folder, {"sleep": sleep}, workers), kwargs=options
        )
        victim.start()
        started.append(victim)
        while not (folder / "last.ckpt").exists():
            assert victim.is_alive()
            time.sleep(0.005)
        return victim

    yield start
    for victim in started:
        victim.kill()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_process_exits_with_the_code_of_the_signal(tmp_path, start, number, code):
    options = {"max_epochs": 4, "accumulate_grad_batches": 2}
    victim = start(tmp_path / "again", 0.02, 2 * (code == 130), **options)
    os.kill(victim.pid, number)
    victim.join()
    assert victim.exitcode == code
    again = harness.outcome(*harness.fit(tmp_path / "again", resume=True, **options))
    assert again == harness.outcome(*harness.fit(tmp_path / "whole", **options))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_second_signal_stops_at_once(tmp_path, start, number):
    victim = start(tmp_path, 1.5, max_epochs=1)
    whole = (tmp_path / "last.ckpt").read_bytes()
    time.sleep(0.2)  # well inside the second step
    begin = time.monotonic()
    os.kill(victim.pid, number)
    time.sleep(0.2)
    assert victim.is_alive()  # it is finishing its step
    os.kill(victim.pid, number)
    victim.join()
    assert time.monotonic() - begin < 1
    assert victim.exitcode == -number
    assert (tmp_path / "last.ckpt").read_bytes() == whole


@pytest.mark.slow
def test_two_processes_agree_to_stop_and_resume_exactly_with_random_states_of_their_own(tmp_path):
    options = {"devices": 2, "strategy": "ddp", "max_epochs": 3, "accumulate_grad_batches": 2}

    def command(folder, *more):
        script = Path(__file__).with_name("resume_harness.py")
        arguments = [str(tmp_path / folder), "--options", json.dumps(options), *more]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            environment = {**os.environ, "MASTER_PORT": str(free.getsockname()[1])}
        return subprocess.Popen([sys.executable, str(script), *arguments], env=environment)

    whole = command("whole")
    stopping = command("again", "--sleep", "0.2")
    while not (tmp_path / "again" / "last.ckpt").exists():
        assert stopping.poll() is None
        time.sleep(0.02)
    stopping.send_signal(signal.SIGTERM)
    assert stopping.wait() == 143
    assert whole.wait() == 0
    states = load_checkpoint(tmp_path / "again" / "last.ckpt")["exact_resume"]["random"]
    assert len({state["torch"].numpy().tobytes() for state in states}) == 2
    assert command("again", "--resume").wait() == 0
    assert json.loads((tmp_path / "again" / "outcome.json").read_text()) == json.loads(
        (tmp_path / "whole" / "outcome.json").read_text()
    )


def test_it_comes_after_the_callback_that_saves(tmp_path):
    trainer = harness.make_trainer(tmp_path)
    kinds = [type(callback) for callback in trainer.callbacks]
    assert kinds.index(GracefulStop) == kinds.index(LastCheckpoint) + 1 == len(kinds) - 1
