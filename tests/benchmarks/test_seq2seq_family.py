"""Training speed of the other translation models against their textbook forms.

Run on one thread: `OMP_NUM_THREADS=1 pytest tests/benchmarks -m benchmark -s`. Times are those of
this thread, whatever else the machine does; a ratio is the median over alternating blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median

import numpy as np
import pytest
import torch
from torch import nn

from dlarch.models.seq2seq.conv_seq2seq import ConvSeq2Seq
from dlarch.models.seq2seq.seq2seq import Seq2Seq
from dlarch.models.seq2seq.seq2seq_context import Seq2SeqContext
from dlarch.models.seq2seq.seq2seq_luong import Seq2SeqLuong
from dlarch.models.seq2seq.transformer import Transformer
from dlarch.tasks import Translation

from .textbook_parallel import TextbookConvolutions, TextbookTransformer
from .textbook_recurrent import TextbookContext, TextbookLuong, TextbookSeq2Seq
from .training import (
    VOCABULARIES,
    batches,
    captions,
    our_loss,
    textbook_loss,
    tokens_per_second,
    training_step,
)

pytestmark = pytest.mark.benchmark

BATCH, ROUNDS, LENGTH = 64, 5, 2


@dataclass(frozen=True)
class Case:
    """A model, its textbook form, and how many times faster it must be."""

    make: Callable[..., Translation]
    textbook: Callable[[Translation], nn.Module]
    least: float


CASES = {
    "seq2seq": Case(Seq2Seq, TextbookSeq2Seq, 1),
    "seq2seq_context": Case(Seq2SeqContext, TextbookContext, 1),
    "seq2seq_luong": Case(Seq2SeqLuong, TextbookLuong, 2),
    "seq2seq_luong, input feeding": Case(
        partial(Seq2SeqLuong, input_feeding=True), TextbookLuong, 2
    ),
    "conv_seq2seq": Case(ConvSeq2Seq, TextbookConvolutions, 1),
    "transformer": Case(Transformer, TextbookTransformer, 1),
    "transformer, post-norm": Case(partial(Transformer, norm="post"), TextbookTransformer, 1),
}
"""At the models' own sizes: embeddings of 128 (256 in the transformer), 256 units."""


@pytest.mark.parametrize("name", CASES)
def test_training_speed(name: str):
    torch.manual_seed(0)
    ours = CASES[name].make(**VOCABULARIES)
    textbook = CASES[name].textbook(ours)
    pairs = captions(BATCH * LENGTH * ROUNDS)
    plan = np.array_split(np.arange(len(pairs)), LENGTH * ROUNDS)
    first, *_ = every = batches(pairs, plan)

    with torch.no_grad():
        difference = float(our_loss(ours, first) - textbook_loss(textbook, first))
    assert abs(difference) < 1e-5

    fast = training_step(ours, lambda batch: our_loss(ours, batch))
    slow = training_step(textbook, lambda batch: textbook_loss(textbook, batch))
    fast(first), slow(first)
    speeds, ratios = [], []
    for at in range(0, len(every), LENGTH):
        block = every[at : at + LENGTH]
        speeds.append(tokens_per_second(slow, block))
        ratios.append(tokens_per_second(fast, block) / speeds[-1])
    print(
        f"\n{name}: textbook {median(speeds):.0f} target tokens/s; ours {median(ratios):.2f} times "
        f"({min(ratios):.2f} to {max(ratios):.2f}); loss differs by {difference:.1e}"
    )
    assert median(ratios) > CASES[name].least
