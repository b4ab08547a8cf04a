"""Batches like Multi30k's, and steps over them, for every comparison of a translation model."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from dlarch.batches import TranslationBatch
from dlarch.processing.translation import pad
from dlarch.spec import BOS, EOS
from dlarch.tasks import Translation

VOCABULARIES = {"source_vocab_size": 7853, "target_vocab_size": 5893}

# How many of Multi30k's training captions have 2, 3, 4, ... words, as dlarch splits them.
GERMAN = [3, 1, 23, 143, 564, 1419, 2138, 2764, 3136, 3165, 2882, 2566, 2209, 1756, 1472, 1172, 894,
          706, 496, 378, 322, 234, 135, 120, 91, 47, 42, 35, 21, 20, 12, 5, 11, 8, 4, 0, 2, 0, 0, 1,
          0, 1, 1, 1]  # fmt: skip
ENGLISH = [0, 0, 8, 32, 211, 772, 1705, 2425, 3049, 3322, 3196, 2849, 2527, 2117, 1559, 1324, 982,
           795, 586, 445, 297, 211, 172, 111, 90, 54, 43, 31, 22, 14, 11, 9, 8, 10, 2, 1, 5, 2, 2,
           1]  # fmt: skip


def captions(count: int, seed: int = 0) -> list[tuple[list[int], list[int]]]:
    """Random pairs as long as Multi30k's captions, with their correlation of lengths of 0.86."""
    random = np.random.default_rng(seed)

    def lengths(counts: list[int]) -> np.ndarray:
        shares = np.array(counts) / sum(counts)
        return np.sort(2 + random.choice(len(counts), count, p=shares))

    source, target = lengths(GERMAN), lengths(ENGLISH)
    mixed = random.permutation(count)
    target = target[np.argsort(np.argsort(source + random.normal(0, 2.5, count)))]
    return [
        (
            [*random.integers(4, 7853, source[at]).tolist(), EOS],
            [BOS, *random.integers(4, 5893, target[at]).tolist(), EOS],
        )
        for at in mixed
    ]


def batches(pairs: Sequence[tuple[list[int], list[int]]], plan: Sequence[np.ndarray]):
    return [
        TranslationBatch(pad([pairs[i][0] for i in rows]), pad([pairs[i][1] for i in rows]))
        for rows in plan
    ]


def training_step(model: nn.Module, loss_of: Callable[[TranslationBatch], torch.Tensor]):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)

    def step(batch: TranslationBatch) -> float:
        optimizer.zero_grad()
        loss = loss_of(batch)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return float(loss.detach())

    return step


def textbook_loss(model: nn.Module, batch: TranslationBatch) -> torch.Tensor:
    logits = model(batch.source, batch.target[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1), batch.target[:, 1:].flatten(), ignore_index=0)


def our_loss(model: Translation, batch: TranslationBatch) -> torch.Tensor:
    logits, targets = model._predict(batch, 1.0)
    return F.cross_entropy(logits, targets)


def tokens_per_second(step, block: Sequence[TranslationBatch]) -> float:
    start = time.thread_time()
    for batch in block:
        step(batch)
    real = sum(int(batch.target_mask[:, 1:].sum()) for batch in block)
    return real / (time.thread_time() - start)
