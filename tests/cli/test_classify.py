"""`dlarch classify`: images by their files, rows by their numbers."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from dlarch.hub import AutoModel

QUICK = "--trainer.max_epochs 5 --trainer.accelerator cpu --model.pictures false"


@pytest.fixture(scope="module")
def run(cli, here):
    outcome = cli(f"fit --model mlp --data digits --data.batch_size 32 {QUICK}")
    assert outcome.code == 0, outcome.err
    assert f"dlarch classify {outcome.run.folder} IMAGE.png --top 3" in outcome.out
    return outcome.run


@pytest.fixture(scope="module")
def files(here):
    found = load_digits()
    paths = []
    for number in range(8):
        path = Path(f"digit{number}.png")
        Image.fromarray(np.rint(found.images[number] * 255 / 16).astype(np.uint8)).save(path)
        paths.append(str(path))
    return paths


def test_images_are_classified_as_the_method_does(cli, run, files):
    outcome = cli(f"classify {run.folder} {' '.join(files)} --top 2")
    assert outcome.code == 0, outcome.err
    model = AutoModel.from_pretrained(run.folder)
    wanted = [
        "\t".join([path, *(f"{p.name}\t{p.probability:.4f}" for p in predictions)])
        for path, predictions in zip(files, model.classify(files, top=2), strict=True)
    ]
    assert outcome.out.splitlines() == wanted
    right = [line.split("\t")[1] == str(n) for n, line in enumerate(wanted)]
    assert sum(right) >= 6


def test_many_images_are_classified_in_parts(cli, run, files, monkeypatch):
    whole = cli(f"classify {run.folder} {' '.join(files)}").out
    monkeypatch.setattr("dlarch.cli.classify.CHUNK", 3)
    assert cli(f"classify {run.folder} {' '.join(files)}").out == whole


def test_rows_of_a_table_are_classified(cli, here):
    gate = cli(f"fit --model mlp --data logic_gates {QUICK}").run
    outcome = cli(f"classify {gate.folder} 0,1 1,1")
    assert [line.split("\t")[0] for line in outcome.out.splitlines()] == ["0,1", "1,1"]
    assert "is no row of numbers" in cli(f"classify {gate.folder} 0,x").complaint
    assert "has 3 numbers instead of 2" in cli(f"classify {gate.folder} 0,1,1").complaint


def test_mistakes_are_one_line(cli, run, trained, files):
    assert "no image 'none.png'" in cli(f"classify {run.folder} none.png").complaint
    assert "is no image" in cli(f"classify {run.folder} pairs.tsv").complaint
    assert "does not classify" in cli(f"classify {trained.run.folder} a.png").complaint
    assert "must be at least 1" in cli(f"classify {run.folder} {files[0]} --top 0").complaint
    assert "cannot be used" in cli(f"classify {run.folder} {files[0]} --device moon").complaint


def test_texts_are_classified_as_the_method_does(cli, here):
    words = (
        "--data labelled_text --data.train_size 300 --model.hidden_size 16 --model.pictures false"
    )
    fitted = cli(f"fit --model rnn_classifier {words} --trainer.max_epochs 1")
    assert fitted.code == 0, fitted.err
    assert f"dlarch classify {fitted.run.folder} 'SOME TEXT' --top 3" in fitted.out
    outcome = cli(f"classify {fitted.run.folder} seven eight --top 2")
    lines = [line.split("\t") for line in outcome.out.splitlines()]
    found = AutoModel.from_pretrained(fitted.run.folder).classify(["seven", "eight"], top=2)
    for line, text, (first, second) in zip(lines, ["seven", "eight"], found, strict=True):
        assert line[0] == text
        assert line[1::2] == [first.name, second.name]
        assert float(line[2]) == pytest.approx(first.probability, abs=1e-4)
    assert "Text 1 is empty" in cli(f"classify {fitted.run.folder} ' '").complaint


def test_the_weight_of_each_word_is_printed(cli, here):
    words = "--data labelled_text --data.train_size 300 --data.tokens words --model.hidden_size 8"
    words += " --model.pictures false --trainer.max_epochs 1"
    run = cli(f"fit --model lstm_attention {words}").run
    outcome = cli(f"classify {run.folder} SEVEN eleventyone")
    assert outcome.code == 0, outcome.err
    lines = outcome.out.splitlines()
    assert [line.split("\t")[0] for line in lines[::2]] == ["SEVEN", "eleventyone"]
    for line, word in zip(lines[1::2], ("seven", "eleventyone"), strict=True):
        pairs = [part.split(" ") for part in line.strip().split("  ")]
        assert [pair[0] for pair in pairs] == ["<bos>", word, "<eos>"]
        assert sum(float(pair[1]) for pair in pairs) == pytest.approx(1.0, abs=2e-4)
