"""Proxies of the targets for bags of words, on 5,000 reviews; QUALITY.md names them D1 and D5."""

import pytest

pytestmark = pytest.mark.quality

SMALL = "--data.train_size 5000 --model.pictures false"


def test_words_alone_tell_good_reviews_from_bad_ones(fit, need_stored):
    need_stored("stanfordnlp/imdb")
    words = f"--config embedding_bag_imdb --model.ngrams 1 {SMALL}"
    assert fit(words).metrics["test/accuracy"] >= 0.82


def test_naive_bayes_ratios_tell_more(fit, need_stored):
    need_stored("stanfordnlp/imdb")
    words = f"--config embedding_bag_nb_imdb --model.ngrams 2 --trainer.max_epochs 10 {SMALL}"
    assert fit(words).metrics["test/accuracy"] >= 0.85
