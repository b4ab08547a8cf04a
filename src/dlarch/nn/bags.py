"""Texts as bags: which words and n-grams they have, how often, and what these weigh."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

NONE = 0
"""The id that stands where there is no word, as padding does."""

_MULTIPLIER = 6364136223846793005  # of Knuth's generator: it spreads over all 64 bits


def words_and_ngrams(words: Tensor, ngrams: int, vocab_size: int, buckets: int) -> Tensor:
    """The ids of all words of texts, and of all runs of 2 to `ngrams` words.

    A word has its own id. A run has one of `buckets` ids from `vocab_size` on, found by a hash of
    its words (1607.01759): runs that share a bucket cannot be told apart. There is no run over a
    place without a word.

    Args:
        words: ids (B, T), NONE where there is no word.
        ngrams: longest run, n.
        vocab_size: number of token ids, V.
        buckets: number of ids for runs.

    Returns:
        (B, n T) ids below V + buckets, NONE where there is no word or run.
    """
    found, hashes, whole = [words], words, words != NONE
    for order in range(1, ngrams):
        following = F.pad(words, (0, order), value=NONE)[:, order:]
        whole = whole & (following != NONE)
        hashes = hashes * _MULTIPLIER + following  # an overflow is part of the hash
        for _ in range(2):
            hashes = (hashes ^ (hashes >> 32)) * _MULTIPLIER
        high = (hashes >> 33) & 0x7FFFFFFF  # these bits depend on all of the words
        found.append((vocab_size + high % buckets).masked_fill(~whole, NONE))
    return torch.cat(found, dim=1)


def occurrences(features: Tensor) -> Tensor:
    """How often each of the ids (B, F) stands in its row, (B, F)."""
    ordered = features.sort(1).values
    after = torch.searchsorted(ordered, features.contiguous(), right=True)
    return after - torch.searchsorted(ordered, features.contiguous())


def distinct(features: Tensor) -> Tensor:
    """Each id of a row (B, F) once, sorted; `NONE` in the place of its repetitions."""
    ordered = features.sort(1).values
    repeated = F.pad(ordered[:, 1:] == ordered[:, :-1], (1, 0))
    return ordered.masked_fill(repeated, NONE)


class DocumentCounts(NamedTuple):
    """In how many texts of each class words occur.

    Attributes:
        features: (F, K), texts of a class with a feature.
        texts: (K,), texts of a class.
    """

    features: Tensor
    texts: Tensor


def count_documents(features: Tensor, labels: Tensor, size: int, classes: int) -> DocumentCounts:
    """Count the texts that have each of `size` features, by class.

    Args:
        features: ids (B, F), NONE where there is none.
        labels: (B,), from 0 to `classes` - 1.
        size: number of features.
        classes: K.
    """
    once = distinct(features)
    keys = (once * classes + labels[:, None])[once != NONE]
    counts = torch.bincount(keys, minlength=size * classes).view(size, classes)
    return DocumentCounts(counts, torch.bincount(labels, minlength=classes))


def log_count_ratios(counts: Tensor, smoothing: float = 1.0) -> Tensor:
    r"""How much more often a feature comes with a class than with the others, (F, K).

    $$r_{jk} = \log \frac{(s + n_{jk}) / \sum_i (s + n_{ik})}
    {(s + \bar n_{jk}) / \sum_i (s + \bar n_{ik})}$$

    with n the texts of class k that have feature j, and $\bar n$ those of all other classes
    (S. Wang and C. Manning 2012). 0 for a feature that no text has.

    Args:
        counts: n, (F, K).
        smoothing: s.
    """
    counts = counts.double()
    inside, outside = smoothing + counts, smoothing + counts.sum(1, keepdim=True) - counts
    ratios = (inside / inside.sum(0)).log() - (outside / outside.sum(0)).log()
    return ratios.masked_fill(counts.sum(1, keepdim=True) == 0, 0.0).float()


def inverse_frequencies(counts: Tensor, texts: int) -> Tensor:
    """How rare features are: log((1 + texts) / (1 + counts)) + 1, (F,), that of NONE included.

    Args:
        counts: texts that have each feature, (F,).
        texts: number of all.
    """
    return ((1 + texts) / (1 + counts.double())).log().float() + 1
