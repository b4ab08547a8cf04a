"""Translators: what minutes of one core must reach, on generated pairs and on Multi30k."""

import pytest

from dlarch.models.seq2seq.seq2seq_attn import Seq2SeqAttn

pytestmark = [pytest.mark.quality, pytest.mark.timeout(3600)]


@pytest.fixture
def metrics(fit):
    """A function from the words after `dlarch fit` to the metrics of the run."""
    return lambda words: fit(f"{words} --model.pictures false").metrics


@pytest.fixture
def multi30k(need_stored):
    need_stored("bentrevett/multi30k")


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
    assert found["test/exact_match"] >= 0.95  # 0.970 measured


@pytest.mark.long
def test_a_thousand_numbers_teach_the_others(metrics):
    words = "--config seq2seq_attn --data.source number_words --data.source_language en"
    words += " --data.target_language digits --data.train_size 1000 --trainer.max_epochs 30"
    words += " --trainer.val_check_interval 1.0 --trainer.check_val_every_n_epoch 10"
    assert metrics(words)["test/exact_match"] >= 0.95


@pytest.mark.long
def test_sums_of_two_digits(metrics):
    words = "--config seq2seq --data.source addition --data.digits 2 --trainer.max_epochs 30"
    words += " --trainer.check_val_every_n_epoch 10"
    assert metrics(words)["test/exact_match"] >= 0.95


@pytest.mark.long
def test_short_captions_are_learnt_with_attention(metrics, multi30k):
    words = "--config seq2seq_attn_multi30k --data.max_length 9 --trainer.max_epochs 8"
    words += " --model.encoder_size 64 --model.hidden_size 128 --model.embedding_size 128"
    words += (
        " --model.optimizer.lr 0.004 --model.dropout 0.1 --data.batch_size 32 --score_train true"
    )
    assert metrics(words)["train/token_accuracy"] >= 0.8


@pytest.mark.long
def test_a_small_transformer_on_five_thousand_captions(metrics, multi30k):
    words = "--config transformer_multi30k --data.train_size 5000 --trainer.max_epochs 5"
    words += " --model.layers 2 --model.hidden_size 128 --model.heads 4 --data.batch_size 32"
    words += " --model.optimizer.lr 0.002 --model.scheduler.warmup_steps 200"
    assert metrics(words)["val/loss"] <= 3.6
