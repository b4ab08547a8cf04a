"""Texts as features of baselines: by hand, and against scikit-learn on written words."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer

from dlarch import create_baseline, create_data
from dlarch.baselines import score
from dlarch.baselines.texts import read_texts, text_features
from dlarch.errors import OptionError
from dlarch.processing.vectors import write_vectors
from dlarch.spec import UNK


@pytest.fixture
def data(session_cache, monkeypatch):
    monkeypatch.setenv("DLARCH_CACHE", str(session_cache))
    found = create_data("labelled_text", tokens="words", min_frequency=1, train_size=300)
    found.prepare_data()
    found.setup()
    return found


def made(data, features, **options):
    maker = text_features(data, features, **options)
    rows, labels = read_texts(data, "train")
    return maker, maker.fit(rows, labels), rows, labels


def test_tfidf_is_that_of_the_written_words(data):
    _, found, rows, _ = made(data, "tfidf")
    words = data.processor.tokens.tokens_by_id
    texts = [" ".join(words[token] for token in row) for row in rows]
    reference = TfidfVectorizer(vocabulary=words[4:], token_pattern=r"\S+")
    np.testing.assert_allclose(found[:, 4:].toarray(), reference.fit_transform(texts).toarray())


def test_naive_bayes_features_are_ratios_where_there_is_the_word(data):
    maker, found, rows, labels = made(data, "naive_bayes")
    names = maker._counter.get_feature_names_out()
    assert {len(name) for name in names} == {1, 2}
    runs = [{*pairwise(row), *((token,) for token in row)} for row in rows]
    table = np.array([[name in row for name in names] for row in runs], dtype=float)
    p, q = 1 + table[labels == 1].sum(0), 1 + table[labels == 0].sum(0)
    ratios = np.log(p / p.sum()) - np.log(q / q.sum())
    np.testing.assert_allclose(found.toarray(), table * ratios, atol=1e-6)


def test_mean_vectors_leave_out_unknown_words_and_are_never_nan(data, tmp_path):
    words = data.processor.tokens.tokens_by_id
    table = np.random.default_rng(0).standard_normal((len(words) - 4, 5)).astype(np.float32)
    write_vectors(tmp_path / "words.vec", words[4:], torch.from_numpy(table))
    for features in ("mean_vectors", "tfidf_vectors"):
        maker, _, _, _ = made(data, features, vectors=str(tmp_path / "words.vec"))
        found = maker.transform([[UNK, UNK], [], [UNK, 6], [6, 6, 7]])
        assert not found[:2].any()
        np.testing.assert_allclose(found[2], table[2], rtol=1e-6)
        if features == "mean_vectors":
            np.testing.assert_allclose(found[3], (2 * table[2] + table[3]) / 3, rtol=1e-5)
    with pytest.raises(OptionError, match="vectors are for the features"):
        text_features(data, "tfidf", "words.vec")
    with pytest.raises(OptionError, match="choose words, tfidf"):
        text_features(data, "tdidf")


def test_characters_are_runs_with_the_ends_marked(session_cache, monkeypatch):
    monkeypatch.setenv("DLARCH_CACHE", str(session_cache))
    names = create_data("names", locales=["fi_FI"], label="gender")
    names.prepare_data()
    names.setup()
    maker, _, _, _ = made(names, None)  # tokens are characters
    runs = set(maker._counter.get_feature_names_out())
    assert {"a", "a\x03"} <= runs
    assert max(map(len, runs)) == 5
    found = score(create_baseline("logistic_regression", C=1.0), names)
    assert found.metrics["test/accuracy"] > 0.8
    assert set(found.metrics) == {
        f"{tag}/{name}" for tag in ("val", "test") for name in ("accuracy", "macro_recall")
    }


@pytest.mark.parametrize("name", ["linear_svc", "sgd", "naive_bayes", "random_forest"])
def test_each_method_takes_sparse_features(data, name):
    digits = create_data(
        "labelled_text", tokens="words", label_column="digits", train_size=300, min_frequency=1
    )
    digits.prepare_data()
    digits.setup()
    assert score(create_baseline(name), digits, features="words").metrics["test/accuracy"] > 0.9
