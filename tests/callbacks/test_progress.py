import io
import logging
import re
import sys

import pytest
import rich
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import RichProgressBar

from dlarch.callbacks import progress
from dlarch.callbacks.progress import EpochLines, TerminalBar, duration, progress_bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    for name in ("CI", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")

    def use(stderr):  # not in the fixture: pytest changes sys.stderr between setup and test
        monkeypatch.setattr(sys, "stderr", stderr)
        return stderr

    return use


@pytest.fixture
def lines(caplog):
    """The lines that were logged so far."""
    caplog.set_level(logging.INFO, logger="dlarch")
    return lambda: [r.getMessage() for r in caplog.records if r.name.startswith("dlarch")]


def test_a_terminal_gets_a_bar(terminal):
    terminal(Terminal())
    assert isinstance(progress_bar(), TerminalBar)


@pytest.mark.parametrize(("name", "value"), [("CI", "true"), ("NO_COLOR", "1"), ("TERM", "dumb")])
def test_ci_no_color_and_dumb_terminals_get_lines(terminal, monkeypatch, name, value):
    terminal(Terminal())
    monkeypatch.setenv(name, value)
    assert isinstance(progress_bar(), EpochLines)


def test_a_pipe_gets_lines(terminal):
    terminal(io.StringIO())
    assert isinstance(progress_bar(), EpochLines)


def test_each_epoch_gets_one_line_with_its_figures(runs, task, lines):
    trainer = runs.fit(task(), EpochLines(), enable_progress_bar=True)
    assert len(lines()) == 2
    for epoch, line in enumerate(lines()):
        pattern = r"epoch (\d)/2  train/loss (\S+)  val/loss (\S+)  val/exact_match (\S+)  \d\.\d s"
        number, *values = re.fullmatch(pattern, line).groups()
        logged = (
            runs.events.Scalars("train/loss_epoch")[epoch].value,
            *(runs.events.Scalars(name)[epoch].value for name in ("val/loss", "val/exact_match")),
        )
        assert int(number) == epoch + 1
        assert [float(value) for value in values] == pytest.approx(logged, rel=1e-3)
    assert isinstance(trainer.progress_bar_callback, EpochLines)  # Lightning added no other


def test_epochs_without_validation_show_no_old_figures(runs, task, lines):
    runs.fit(
        task(), EpochLines(), enable_progress_bar=True, check_val_every_n_epoch=2, max_epochs=3
    )
    assert ["val/loss" in line for line in lines()] == [False, True, False]


def test_a_limit_of_steps_is_shown_as_such(runs, task, lines):
    runs.fit(task(), EpochLines(), enable_progress_bar=True, max_epochs=-1, max_steps=8)
    assert [line.split("  train")[0] for line in lines()] == [
        "epoch 1  step 4/8",
        "epoch 2  step 8/8",
    ]


def test_other_ranks_are_silent(runs, task, lines, monkeypatch):
    monkeypatch.setattr(Trainer, "is_global_zero", False)
    runs.fit(task(), EpochLines(), enable_progress_bar=True, logger=False)
    assert lines() == []


def test_the_bar_shows_epochs_from_one_and_gives_the_console_back(
    runs, task, terminal, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "140")
    stderr = terminal(Terminal())
    runs.fit(task(), TerminalBar(), enable_progress_bar=True)
    screen = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stderr.getvalue())
    for epoch in (1, 2):
        assert re.search(rf"epoch {epoch}/2 .* 4/4 .* train/loss: 0\.\d+  val/loss: 0\.\d+", screen)
    assert "v_num" not in screen
    assert not rich.get_console().stderr


def test_the_bar_does_not_read_metrics_at_each_step(runs, task, terminal, monkeypatch):
    readings = []
    reading = RichProgressBar.get_metrics
    monkeypatch.setattr(
        RichProgressBar, "get_metrics", lambda *args: readings.append(1) or reading(*args)
    )
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_READINGS", 1000.0)
    terminal(Terminal())
    bar = TerminalBar()
    bar._read_at = float("inf")  # as if just read
    runs.fit(task(), bar, enable_progress_bar=True, max_epochs=1, log_every_n_steps=1)
    # Last batch and end of the epoch, the sanity check and the validation: not the first 3 steps.
    assert len(readings) == 4


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (119.4, "119 s"),
        (119.6, "2 min 00 s"),
        (185, "3 min 05 s"),
        (7199.6, "2 h 00 min"),
        (7620, "2 h 07 min"),
    ],
)
def test_durations_are_written_for_people(seconds, text):
    assert duration(seconds) == text
