"""Writing ten thousand names at a time, against one at a time.

Run on one thread: `OMP_NUM_THREADS=1 pytest tests/benchmarks -m benchmark -s`. Times are those of
this thread, whatever else the machine does.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from math import sqrt
from statistics import fmean, pstdev

import pytest
import torch

from dlarch.models.recurrent.char_rnn import CharRNN
from dlarch.processing import LabelledTextProcessor, TextProcessor
from dlarch.spec import EOS

pytestmark = pytest.mark.benchmark

ONE_BY_ONE, TOGETHER = 400, 10_000
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def writer(hidden_size: int) -> CharRNN:
    """A model of random weights that writes about seven letters."""
    torch.manual_seed(0)
    tokens = TextProcessor.train(list(LETTERS), "characters")
    model = CharRNN(tokens.vocab_size, hidden_size=hidden_size).eval()
    with torch.no_grad():
        model.output.bias[EOS] = 1.5
    model.processor = LabelledTextProcessor(tokens, longest=20)
    return model


def seconds(work: Callable[[], list[str]]) -> tuple[float, list[str]]:
    begin = time.thread_time()
    found = work()
    return time.thread_time() - begin, found


@pytest.mark.parametrize(("hidden_size", "least"), [(64, 40), (256, 20)])
def test_many_names_at_a_time(hidden_size: int, least: float) -> None:
    model = writer(hidden_size)
    model.generate(10, seed=0)
    alone, single = seconds(lambda: [model.generate(seed=seed)[0] for seed in range(ONE_BY_ONE)])
    batched, many = seconds(lambda: model.generate(TOGETHER, seed=1))
    ratio = (alone / ONE_BY_ONE) / (batched / TOGETHER)
    print(f"N {hidden_size}: {TOGETHER / batched:,.0f} names/s, {ratio:.0f} times one by one")
    assert ratio >= least
    same_distribution(single, many)


def same_distribution(one: list[str], other: list[str]) -> None:
    """Lengths and letters agree within four standard errors."""
    lengths, others = list(map(len, one)), list(map(len, other))
    error = sqrt(pstdev(lengths) ** 2 / len(one) + pstdev(others) ** 2 / len(other))
    assert abs(fmean(lengths) - fmean(others)) < 4 * error
    first, second = Counter("".join(one)), Counter("".join(other))
    for letter in LETTERS:
        share, expected = first[letter] / first.total(), second[letter] / second.total()
        assert abs(share - expected) < 4 * sqrt(expected * (1 - expected) / first.total()) + 1e-9


def test_time_is_linear_in_length() -> None:
    model = writer(64)
    with torch.no_grad():
        model.output.bias[EOS] = -1e9
    seconds(lambda: model.generate(8, max_length=100, seed=0))
    short, long = (
        min(
            seconds(lambda size=size: model.generate(8, max_length=size, seed=0))[0]
            for _ in range(3)
        )
        for size in (500, 2000)
    )
    print(f"2,000 letters take {long / short:.1f} times as long as 500")
    assert long / short < 5
