"""`dlarch translate`: text from the command line, files and standard input."""

import io
import re
from pathlib import Path

import pytest

from dlarch.errors import DataError, OptionError
from dlarch.hub import AutoModel


@pytest.fixture(scope="module")
def run(cli, here):
    """A run that has learnt to write backwards, at least a little."""
    words = "--trainer.max_epochs 12 --model.hidden_size 32 --model.encoder_size 16"
    return cli(f"fit --config tiny {words} --test_after_fit false").run


@pytest.fixture(scope="module")
def model(run):
    return AutoModel.from_pretrained(run.folder)


SENTENCES = ["abc", "h", "deadbeef", "cab", "bad", "abc"]


def test_sentences_are_translated_in_the_order_given(cli, run, model):
    outcome = cli(f"translate {run.folder} {' '.join(SENTENCES)}")
    assert outcome.code == 0
    assert outcome.err == ""
    lines = outcome.out.splitlines()
    assert lines == model.translate(SENTENCES)
    assert lines[0] == lines[5]
    assert len(set(lines)) > 3


def test_standard_input_and_files_are_read_line_by_line(cli, run, model, monkeypatch):
    expected = model.translate(SENTENCES)
    text = "\n".join(SENTENCES) + "\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert cli(f"translate {run.folder}").out.splitlines() == expected
    Path("some.txt").write_bytes(text.replace("\n", "\r\n").encode())
    Path("more.txt").write_text("cab\n")
    outcome = cli(f"translate {run.folder} bad --file some.txt --file more.txt")
    assert outcome.out.splitlines() == [*model.translate(["bad"]), *expected, expected[3]]


def test_an_empty_line_has_a_line(cli, run, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("abc\n\ncab\n"))
    assert len(cli(f"translate {run.folder}").out.split("\n")) == 4


def test_long_input_is_translated_in_parts(cli, run, model, monkeypatch):
    monkeypatch.setattr("dlarch.cli.translate.CHUNK", 4)
    lines = cli(f"translate {run.folder} {' '.join(SENTENCES)} --batch_size 3").out.splitlines()
    assert lines == model.translate(SENTENCES)


def test_options_are_those_of_the_method(cli, run, model):
    words = f"translate {run.folder} deadbeef cab"
    best = cli(f"{words} --beam 5 --n_best 3 --length_penalty 0.5").out.splitlines()
    expected = model.translate(["deadbeef", "cab"], beam=5, n_best=3, length_penalty=0.5)
    assert best == [text for texts in expected for text in texts]
    drawn = f"{words} --temperature 2.0 --top_k 5"
    assert cli(f"{drawn} --seed 1").out == cli(f"{drawn} --seed 1").out
    assert len({cli(f"{drawn} --seed {seed}").out for seed in range(4)}) > 1
    assert all(len(line) <= 2 for line in cli(f"{words} --max_length 2").out.splitlines())


def test_best_and_last_mean_the_newest_run(cli, run):
    expected = cli(f"translate {run.best} cab").out
    assert cli("translate best cab").out == expected
    assert cli(f"translate {run.name} cab").out == expected  # below the root of runs
    assert cli(f"translate {run.last} cab").code == 0
    assert cli("translate tiny cab").out == expected  # the recipe's newest run


@pytest.mark.parametrize(
    ("texts", "options", "pattern"),
    [
        (["cab"], {"beam": 0}, "beam must be a whole number from 1 up, not 0"),
        (["cab"], {"beam": 2.5}, "beam must be a whole number from 1 up, not 2.5"),
        (["cab"], {"n_best": 0}, "n_best must be a whole number from 1 up, not 0"),
        (["cab"], {"batch_size": 0}, "batch_size must be a whole number from 1 up, not 0"),
        (["cab"], {"temperature": -1}, "temperature must be a number from 0 up, not -1"),
        (["cab"], {"temperature": float("nan")}, "temperature must be a number from 0 up"),
        (["cab"], {"length_penalty": float("nan")}, "length_penalty must be from -10 to 10"),
        (["cab", 5], {}, "Sentence 2 must be a text, not 5"),
        (["cab", None], {}, "Sentence 2 must be a text, not None"),
        ("cab", {}, "Give a list of sentences"),
    ],
)
def test_options_outside_their_range_are_refused(model, texts, options, pattern):
    with pytest.raises((DataError, OptionError), match=pattern):
        model.translate(texts, **options)


@pytest.mark.parametrize(
    ("words", "pattern"),
    [
        ("translate", "arguments are required: run"),
        ("translate {run} cab --bem 5", "no option '--bem'. Did you mean '--beam'"),
        ("translate {run} cab --bea 5", "no option '--bea'"),
        ("translate {run} cab --beam five", "--beam: invalid int value: 'five'"),
        ("translate {run} cab --beam 0", "beam"),
        ("translate {run} cab --batch_size 0", "batch_size"),
        ("translate {run} cab --max_length -1", "max_length"),
        ("translate {run} cab --temperature -1", "temperature"),
        ("translate {run} cab --top_p 7 --temperature 1", "top_p"),
        ("translate {run} cab --device mars", "mars"),
        ("translate {run} cab --n_best 0", "n_best"),
        ("translate {run} cab --length_penalty nan", "length_penalty must be from -10 to 10"),
        ("translate {run} cab --file missing.txt", "There is no file 'missing.txt'."),
        ("translate {run} --file latin.txt", "latin.txt is not UTF-8"),
        ("translate {run} --file {run}", "[Dd]irectory"),
    ],
)
def test_mistakes_are_told_in_one_line(cli, run, words, pattern):
    Path("latin.txt").write_bytes(b"\xe9t\xe9\n")
    outcome = cli(words.format(run=run.folder))
    assert outcome.out == ""
    assert outcome.err.count("\n") == 1
    assert re.search(pattern, outcome.complaint), outcome.complaint
