"""Bags of words and n-grams, by brute force and against scikit-learn."""

import math

import pytest
import torch
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

from dlarch.nn.bags import (
    count_documents,
    distinct,
    inverse_frequencies,
    log_count_ratios,
    occurrences,
    words_and_ngrams,
)
from dlarch.processing.translation import pad
from dlarch.spec import BOS, EOS, PAD, UNK
from dlarch.tasks.counts import known_words

V, BUCKETS = 30, 1000


def rows(count=20, most=12):
    generator = torch.Generator().manual_seed(3)
    lengths = torch.randint(0, most, (count,), generator=generator).tolist()
    draw = [torch.randint(UNK, V, (n,), generator=generator) for n in lengths]
    return [[BOS, *row[(row == UNK) | (row > EOS)].tolist(), EOS] for row in draw]


def runs(row, longest):
    """All runs of known words, one after another as a person would list them."""
    found = []
    for length in range(1, longest + 1):
        for start in range(len(row) - length + 1):
            run = tuple(row[start : start + length])
            if all(token > EOS for token in run):
                found.append(run)
    return found


@pytest.mark.parametrize("longest", [1, 2, 3, 4])
def test_ngrams_are_those_that_brute_force_finds(longest):
    texts = rows()
    found = words_and_ngrams(known_words(pad(texts)), longest, V, BUCKETS)
    ids = {}  # of each run wherever it stands
    for features, row in zip(found.tolist(), texts, strict=True):
        features = [each for each in features if each != PAD]
        assert len(features) == len(runs(row, longest))
        for feature, run in zip(features, runs(row, longest), strict=True):
            assert ids.setdefault(run, feature) == feature
            assert feature == run[0] if len(run) == 1 else V <= feature < V + BUCKETS


def test_padding_changes_no_feature():
    row = [BOS, 7, 8, UNK, 9, 10, 11, EOS]
    alone = words_and_ngrams(known_words(torch.tensor([row])), 3, V, BUCKETS)[0]
    padded = words_and_ngrams(known_words(pad([row, [*row, *row]])), 3, V, BUCKETS)[0]
    assert alone[alone != PAD].tolist() == padded[padded != PAD].tolist()


def test_the_order_of_words_matters_and_buckets_fill_evenly():
    words = torch.arange(4, 404)
    pairs = torch.cartesian_prod(words, words)
    ids = words_and_ngrams(pairs, 2, 404, 1000)[:, 2] - 404
    assert (ids.view(400, 400) == ids.view(400, 400).T).float().mean() < 0.01
    counts = torch.bincount(ids, minlength=1000).float()  # 160 each, deviation 12.6 if random
    assert counts.std() < 16
    assert counts.min() > 90
    many = words_and_ngrams(pairs, 2, 404, 1 << 30)[:, 2]
    assert len(many.unique()) > 160_000 - 40  # 12 collisions are expected of a random function


def test_occurrences_and_distinct_are_those_of_a_loop():
    features = words_and_ngrams(known_words(pad(rows())), 2, V, 20)
    for row, counts, once in zip(
        features.tolist(), occurrences(features).tolist(), distinct(features).tolist(), strict=True
    ):
        assert counts == [row.count(each) for each in row]
        assert sorted(each for each in once if each != PAD) == sorted(set(row) - {PAD})


def test_document_counts_are_those_of_scikit_learn():
    texts, labels = rows(), torch.arange(20) % 3
    written = [" ".join(f"w{token}" for token in row if token > EOS) for row in texts]
    words = [f"w{token}" for token in range(4, V)]
    table = CountVectorizer(vocabulary=words, binary=True).fit_transform(written).toarray()
    counts = count_documents(words_and_ngrams(known_words(pad(texts)), 1, V, 1), labels, V, 3)
    for label in range(3):
        wanted = table[labels.numpy() == label].sum(0)
        assert counts.features[4:, label].tolist() == wanted.tolist()
    assert counts.texts.tolist() == [7, 7, 6]
    assert not counts.features[:4].any()
    idf = TfidfVectorizer(vocabulary=words).fit(written).idf_
    found = inverse_frequencies(counts.features.sum(1), 20)[4:]
    torch.testing.assert_close(found, torch.from_numpy(idf).float())


def test_log_count_ratios_are_those_of_the_formula():
    counts = torch.tensor([[0, 0], [3, 1], [0, 2]])
    ratios = log_count_ratios(counts)
    # p = 1 + (0, 3, 0), q = 1 + (0, 1, 2), both summing to 6
    wanted = torch.tensor([0.0, math.log(4 / 2), math.log(1 / 3)])
    torch.testing.assert_close(ratios, torch.stack([wanted, -wanted], dim=1))
    three = log_count_ratios(torch.tensor([[2, 0, 5], [1, 1, 1]]))
    assert float(three[0, 2]) == pytest.approx(math.log((6 / 8) / (3 / 6)))
