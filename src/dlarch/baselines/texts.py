"""Texts as rows of features, for methods that take nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Literal, get_args

import numpy as np
import torch
from scipy import sparse  # type: ignore[import-untyped]
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.preprocessing import normalize

from dlarch.errors import OptionError, did_you_mean
from dlarch.nn.bags import log_count_ratios
from dlarch.processing.vectors import read_vectors
from dlarch.spec import BOS, EOS, SPECIAL_TOKENS

Features = Literal["words", "tfidf", "characters", "naive_bayes", "mean_vectors", "tfidf_vectors"]
"""What a text is to a baseline; see `TextFeatures`."""

RANDOM_SIZE = 100
"""Numbers per word where vectors are drawn at random."""

LONGEST_NGRAM, FEWEST_TEXTS = 5, 2
"""Of `characters`: letters of the longest run, and texts that must have it."""


class TextFeatures:
    """Makes rows of features from texts that are tokens already, as networks see them.

    - words: how often each word of the vocabulary occurs;
    - tfidf: the same, rare words weighing more, on rows of length 1;
    - characters: whether each run of 1 to 5 characters occurs, the ends of the text among them;
    - naive_bayes: whether each word and pair of words occurs, times the log of how much more often
      it does in texts of a class than in others, one after another for more than two classes;
    - mean_vectors, tfidf_vectors: the mean of the vectors of all known words, plain or weighted by
      TF-IDF; zeros without a known word.

    Unknown words count in none.

    Args:
        features: one of these.
        tokens: the vocabulary, a token for each id.
        decode: of rows of ids to texts.
        vectors: a file of word vectors; drawn at random when not given.
        seed: of that draw.

    Raises:
        OptionError: there are no such features, or vectors are of no use for them.
    """

    def __init__(
        self,
        features: Features,
        tokens: Sequence[str],
        decode: Callable[[list[list[int]]], list[str]],
        vectors: str | None = None,
        seed: int = 1,
    ) -> None:
        if features not in (known := get_args(Features)):
            raise OptionError(
                f"There are no features {features!r}: choose {', '.join(known)}."
                f"{did_you_mean(features, known)}"
            )
        averages = features in ("mean_vectors", "tfidf_vectors")
        if vectors is not None and not averages:
            raise OptionError("vectors are for the features mean_vectors and tfidf_vectors.")
        self.features = features
        self._decode = decode
        words = range(len(tokens))
        counting = {
            "analyzer": _known,
            "vocabulary": {(word,): word for word in words},
            "lowercase": False,  # else a vocabulary must be of strings
        }
        if features in ("words", "mean_vectors"):
            self._counter: Any = CountVectorizer(**counting)
        elif features in ("tfidf", "tfidf_vectors"):
            self._counter = TfidfVectorizer(**counting)
        else:
            runs = _characters if features == "characters" else _words_and_pairs
            few = FEWEST_TEXTS if features == "characters" else 1
            self._counter = CountVectorizer(analyzer=runs, min_df=few, binary=True)
        self._table: Any = None
        if averages and vectors is not None:
            self._table = read_vectors(vectors, tokens).table.numpy()
        elif averages:
            shape = (len(tokens), RANDOM_SIZE)
            self._table = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
        self._ratios: Any = None

    def fit(self, rows: list[list[int]], labels: Any) -> Any:
        """Learn which features there are from the training texts; their rows."""
        table = self._counter.fit_transform(self._written(rows))
        if self.features == "naive_bayes":
            classes = int(labels.max()) + 1
            counts = [np.asarray(table[labels == label].sum(0))[0] for label in range(classes)]
            ratios = log_count_ratios(torch.from_numpy(np.stack(counts, axis=1))).numpy()
            self._ratios = ratios[:, 1:] if classes == 2 else ratios  # two are each other's mirror
        return self._finished(table)

    def transform(self, rows: list[list[int]]) -> Any:
        """Rows (n, F) of other texts."""
        return self._finished(self._counter.transform(self._written(rows)))

    def _written(self, rows: list[list[int]]) -> Sequence[Any]:
        return self._decode(rows) if self.features == "characters" else rows

    def _finished(self, table: Any) -> Any:
        if self._table is not None:
            return normalize(table, "l1") @ self._table
        if self._ratios is not None:
            parts = [table.multiply(ratio[None]) for ratio in self._ratios.T]
            return sparse.hstack(parts).tocsr()
        return table


def _known(row: list[int]) -> list[tuple[int, ...]]:
    return [(token,) for token in row if token >= len(SPECIAL_TOKENS)]


def _words_and_pairs(row: list[int]) -> list[tuple[int, ...]]:
    pairs = [pair for pair in pairwise(row) if min(pair) >= len(SPECIAL_TOKENS)]
    return [*_known(row), *pairs]


def _characters(text: str) -> list[str]:
    marked = f"\x02{text}\x03"  # where it begins and ends
    lengths = range(1, LONGEST_NGRAM + 1)
    return [marked[i : i + n] for n in lengths for i in range(len(marked) - n + 1)]


def read_texts(data: Any, split: str) -> tuple[list[list[int]], Any]:
    """Ids without the ends and padding, and the classes (n,), of a split."""
    rows: list[list[int]] = []
    labels = []
    for batch in data.in_order(split):
        for row in batch.tokens.tolist():
            rows.append(row[1 : row.index(EOS)] if row[0] == BOS else row[: row.index(EOS)])
        labels.append(batch.label.numpy())
    return rows, np.concatenate(labels)


def text_features(
    data: Any, features: Features | None = None, vectors: str | None = None, seed: int = 1
) -> TextFeatures:
    """Features of the texts of a data module.

    Args:
        data: a data module of texts that is set up.
        features: characters for tokens that are characters, else tfidf, when not given.
        vectors: a file of word vectors.
        seed: of random vectors.
    """
    processor = data.processor
    usual: Features = "characters" if processor.tokens.level == "characters" else "tfidf"
    make = partial(TextFeatures, features or usual, processor.tokens.tokens_by_id)
    return make(processor.decode, vectors, seed)
