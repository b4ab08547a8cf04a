"""`dlarch baseline`: the table, the networks in it, the file, and mistakes."""

import csv
import shutil

import pytest

from dlarch.cli.main import main


@pytest.fixture
def baseline(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("DLARCH_RUNS", str(tmp_path / "runs"))

    def run(*words):
        capsys.readouterr()
        code = main(["baseline", *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_networks_on_the_same_examples_stand_beside(baseline, capsys, tmp_path):
    options = ["--trainer.max_epochs", "2", "--trainer.accelerator", "cpu"]
    assert main(["fit", "--config", "mlp", "--name", "mine", *options]) == 0
    shorter = ["--data.train_size", "100"]
    assert main(["fit", "--config", "mlp", "--name", "shorter", *options, *shorter]) == 0
    shutil.copytree(tmp_path / "runs/mine", tmp_path / "runs/sweeps/rates/lr_0.1")
    code, out, err = baseline("svc", "naive_bayes", "--config", "mlp")
    assert code == 0, err
    with (tmp_path / "runs/baselines/digits.csv").open(encoding="utf-8") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"svc", "naive_bayes", "mine"}  # not of fewer examples or a sweep
    assert rows["mine"]["kind"] == "mlp"
    assert 0.5 < float(rows["mine"]["test/accuracy"]) <= 1
    assert 0.5 < float(rows["mine"]["val/accuracy"]) <= 1
    assert float(rows["svc"]["test/accuracy"]) > float(rows["naive_bayes"]["test/accuracy"])
    assert "mine" in out


def test_options_of_the_data_are_taken(baseline):
    code, out, err = baseline("random_forest", "--data", "digits", "--data.train_size", "50")
    assert code == 0, err
    assert "random_forest" in out


def test_all_that_fit_are_run_when_none_is_named(baseline):
    code, out, err = baseline("--data", "table")
    assert code == 0, err
    assert "ridge" in out
    assert "random_forest_regressor" in out
    assert "svc" not in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "Say which data"),
        (("--data", "digitz"), "Did you mean 'digits'"),
        (("svm", "--data", "digits"), "There is no baseline 'svm'"),
        (("--data", "digits", "--data.train_sizes", "5"), "no option --data.train_sizes"),
        (("--data", "digits", "--dat.size", "5"), "has no option '--dat.size'"),
        (("ridge", "--data", "digits"), "predicts numbers"),
        (
            ("--data", "translation", "--data.source", "copy"),
            "There is no baseline for translation",
        ),
    ],
)
def test_mistakes_are_named(baseline, words, said):
    code, _, err = baseline(*words)
    assert code == 2
    assert said in err
    assert err.count("\n") == 1
