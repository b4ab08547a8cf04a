"""Codes of a trained autoencoder as features of images: what a linear probe sees."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from dlarch import create_baseline, create_data, create_model
from dlarch.baselines import arrays, score
from dlarch.cli.main import main
from dlarch.errors import CheckpointError, MismatchError, OptionError


@pytest.fixture(scope="module")
def digits():
    data = create_data("digits")
    data.prepare_data()
    data.setup("fit")
    return data


@pytest.fixture(scope="module")
def coder(digits, tmp_path_factory):
    """An autoencoder with random weights, saved, and its codes of a split."""
    torch.manual_seed(0)
    model = create_model("autoencoder", digits, hidden_sizes=(), code_size=20).eval()
    folder = tmp_path_factory.mktemp("coder")
    model.save_pretrained(folder)

    @torch.no_grad()
    def codes(split):
        pixels, labels = arrays(digits, split)
        unit = digits.processor.to_unit(torch.from_numpy(pixels).view(-1, 1, 8, 8))
        return model.encode(unit).numpy(), labels

    return folder, codes


def test_the_probe_is_scikit_learns_on_codes_of_deviation_1(digits, coder):
    folder, codes = coder
    train, labels = codes("train")
    mean, std = train.mean(0), train.std(0)
    own = LogisticRegression(C=0.1, max_iter=1000, tol=1e-3).fit((train - mean) / std, labels)
    test, known = codes("test")
    expected = (own.predict((test - mean) / std) == known).mean()
    baseline = create_baseline("logistic_regression")
    found = score(baseline, digits, features="codes", run=str(folder)).metrics
    assert found["test/accuracy"] == pytest.approx(expected)
    assert score(baseline, digits, run=str(folder)).metrics == found
    pixels = score(baseline, digits, features="pixels").metrics
    assert pixels == score(baseline, digits).metrics != found


def test_dead_units_do_no_harm(digits, tmp_path):
    model = create_model("autoencoder", digits, hidden_sizes=(), code_size=20)
    with torch.no_grad():
        model.encoder[1][0].weight[3] = 0
    model.save_pretrained(tmp_path / "dead")
    found = score(
        create_baseline("logistic_regression"), digits, features="codes", run=str(tmp_path / "dead")
    ).metrics
    assert np.isfinite(found["test/accuracy"])
    assert found["test/accuracy"] > 0.8


def test_what_has_no_codes_is_refused(digits, coder, tmp_path):
    folder, _ = coder
    baseline = create_baseline("logistic_regression")
    with pytest.raises(OptionError, match="--run RUN, the run of an autoencoder"):
        score(baseline, digits, features="codes")
    with pytest.raises(OptionError, match=r"no features 'code' of images.*Did you mean 'codes'"):
        score(baseline, digits, features="code", run=str(folder))
    with pytest.raises(CheckpointError, match="none"):
        score(baseline, digits, features="codes", run=str(tmp_path / "none"))
    create_model("mlp", digits).save_pretrained(tmp_path / "mlp")
    with pytest.raises(MismatchError, match="no autoencoder of images"):
        score(baseline, digits, features="codes", run=str(tmp_path / "mlp"))
    create_model("autoencoder", image_shape=(1, 4, 4)).save_pretrained(tmp_path / "small")
    with pytest.raises(MismatchError, match=r"of the shape \(1, 4, 4\)"):
        score(baseline, digits, features="codes", run=str(tmp_path / "small"))
    table = create_data("logic_gates")
    table.prepare_data()
    table.setup("fit")
    with pytest.raises(OptionError, match="for texts and images"):
        score(baseline, table, run=str(folder))


def test_the_command_puts_codes_beside_pixels(coder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DLARCH_RUNS", str(tmp_path / "runs"))
    words = ["baseline", "logistic_regression", "--data", "digits", "--features", "pixels", "codes"]
    assert main([*words, "--run", str(coder[0])]) == 0
    said = capsys.readouterr().out
    assert "logistic_regression on pixels" in said
    assert "logistic_regression on codes of" in said
