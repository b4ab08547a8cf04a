"""N-grams of characters by counting: the bars that neural language models must clear, exactly."""

import random
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from dlarch.data.resolve import LocalFile, resolve_source
from dlarch.errors import DataError
from dlarch.nn.kneser_ney import KneserNey
from dlarch.spec import BOS, EOS, SPECIAL_TOKENS

pytestmark = pytest.mark.quality

FIRST = len(SPECIAL_TOKENS)
"""Id of the first character."""


def read(source: str) -> str:
    """The text of a file under $DLARCH_DATA, or a skip that says so."""
    try:
        found = resolve_source(source)
    except DataError:
        found = None
    if not isinstance(found, LocalFile):
        pytest.skip(f"needs $DLARCH_DATA/{source}")
    return Path(found.path).read_text(encoding="utf-8")


class Names:
    """Training, development and test names, the split of the lectures on them."""

    letters = 26

    def __init__(self, distinct=False):
        words = read("names/makemore/names.txt").split()
        if distinct:
            words = sorted(set(words))
        random.Random(42).shuffle(words)
        ends = [0, int(0.8 * len(words)), int(0.9 * len(words)), len(words)]
        self.train, self.dev, self.test = (words[first:last] for first, last in pairwise(ends))

    def tokens(self, words):
        rows = [[BOS, *(ord(letter) - ord("a") + FIRST for letter in word), EOS] for word in words]
        return pad_sequence([torch.tensor(row) for row in rows], batch_first=True)

    def model(self, order, discount=0.75, **options):
        size = FIRST + self.letters
        ids = [EOS, *range(FIRST, size)]
        model = KneserNey(order, size, discount, predictable=ids, **options)
        model.update(self.tokens(self.train))
        model.finish()
        return model

    def nats(self, model, words):
        """Mean over letters and ends, to 4 digits."""
        scores = model.score(self.tokens(words))
        return round(-float(scores.double().sum()) / sum(len(word) + 1 for word in words), 4)


@pytest.fixture(scope="module")
def names():
    return Names()


@pytest.mark.parametrize(
    ("order", "discount", "dev", "test"),
    [
        (2, 0.8, 2.4529, 2.4578),
        (3, 0.7, 2.2186, 2.2190),
        (4, 0.8, 2.0608, 2.0636),
        (5, 0.8, 1.9922, 1.9924),
        (6, 0.9, 1.9836, 1.9869),
    ],
)
def test_names_by_order(names, order, discount, dev, test):
    model = names.model(order, discount)
    assert names.nats(model, names.dev) == pytest.approx(dev, abs=1e-4)
    assert names.nats(model, names.test) == pytest.approx(test, abs=1e-4)


def test_names_by_counting_and_adding(names):
    bigram, trigram = names.model(2, add=1.0), names.model(3, add=0.1)
    assert names.nats(bigram, names.dev) == pytest.approx(2.4533, abs=1e-4)
    assert names.nats(bigram, names.test) == pytest.approx(2.4584, abs=1e-4)
    assert names.nats(trigram, names.dev) == pytest.approx(2.2225, abs=1e-4)


def test_names_that_were_not_seen_in_training(names):
    known = set(names.train)
    unseen = [word for word in names.dev if word not in known]
    assert (len(unseen), len(names.dev)) == (2779, 3203)
    assert names.nats(names.model(6, 0.9), unseen) == pytest.approx(2.0252, abs=1e-4)
    assert names.nats(names.model(2, add=0.01), unseen) == pytest.approx(2.4564, abs=1e-4)


def test_distinct_names():
    names = Names(distinct=True)
    best, shorter, bigram = names.model(6, 0.9), names.model(5, 0.9), names.model(2, add=0.01)
    assert names.nats(best, names.dev) == pytest.approx(2.0159, abs=1e-4)
    assert names.nats(best, names.test) == pytest.approx(2.0174, abs=1e-4)
    assert names.nats(shorter, names.dev) == pytest.approx(2.0212, abs=1e-4)
    assert names.nats(bigram, names.dev) == pytest.approx(2.4577, abs=1e-4)


def test_a_thousand_names_at_random():
    """Test sets of makemore's size, for which others have 1.964 and 2.459."""
    best, pairs = [], []
    for seed in range(4):
        names = Names()
        words = names.train + names.dev + names.test
        random.Random(seed).shuffle(words)
        names.test, names.train = words[:1000], words[1000:]
        best.append(names.nats(names.model(6, 0.9), names.test))
        pairs.append(names.nats(names.model(2, 0.8), names.test))
    assert sum(best) / 4 == pytest.approx(1.964, abs=0.02)
    assert sum(pairs) / 4 == pytest.approx(2.459, abs=0.02)


@pytest.fixture(scope="module")
def shakespeare():
    """Ids of tiny Shakespeare, and how many of them are for training."""
    text = read("text/tinyshakespeare/input.txt")
    ids = {letter: FIRST + rank for rank, letter in enumerate(sorted(set(text)))}
    return torch.tensor([ids[letter] for letter in text]), int(0.9 * len(text))


RISING = [0.60 + 0.38 * k / 6 for k in range(7)]


@pytest.mark.parametrize(
    ("order", "discount", "expected"),
    [
        (1, 0.9, 3.3473),
        (2, 0.9, 2.4837),
        (3, 0.7, 2.0417),
        (4, 0.9, 1.7221),
        (5, 0.9, 1.5644),
        (6, 0.9, 1.5283),
        (7, 0.9, 1.5225),
        (7, RISING, 1.5207),
        (8, 0.9, 1.5257),
    ],
)
def test_tiny_shakespeare_by_order(shakespeare, order, discount, expected):
    tokens, size = shakespeare
    vocabulary = int(tokens.max()) + 1
    model = KneserNey(order, vocabulary, discount, predictable=range(FIRST, vocabulary))
    model.update(tokens[None, :size])
    model.finish()
    scores = model.score(tokens[None, size - order :])[0, order - 1 :]
    assert len(scores) == 111_540
    assert -float(scores.double().mean()) == pytest.approx(expected, abs=1e-4)
