"""Speed of seq2seq_attn against the textbook form; ratios of medians of alternating blocks.

Run on one thread, on an idle machine: `OMP_NUM_THREADS=1 pytest tests/benchmarks -m benchmark -s`.
"""

from __future__ import annotations

import copy
import time
from statistics import median

import lightning as L  # noqa: N812
import numpy as np
import pytest
import torch

from dlarch.data.loading import bucketed_plan
from dlarch.models.seq2seq.seq2seq_attn import Seq2SeqAttn
from dlarch.processing.translation import pad
from dlarch.spec import EOS
from dlarch.tasks import Translation

from .textbook import Textbook
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

SIZES = {
    512: {"embedding_size": 256, "encoder_size": 512, "hidden_size": 512},
    128: {"embedding_size": 128, "encoder_size": 128, "hidden_size": 128},
}
SAME_BATCHES = {512: 3.0, 128: 2.0}
BUCKETED = {512: 4.5, 128: 2.8}


def plain_and_bucketed(rounds: int, length: int, size: int = 128):
    """For each round batches as they come, and as many by length that stand for a whole epoch."""
    pairs = captions(size * 100)
    plain = np.array_split(np.random.default_rng(1).permutation(len(pairs)), 100)
    target = np.array([len(pair[1]) for pair in pairs])
    source = np.array([len(pair[0]) for pair in pairs])
    sorted_plan = bucketed_plan(target, source, seed=1, epoch=0, batch_size=size)
    ordered = sorted(sorted_plan, key=lambda rows: int(target[rows].sum()))
    every = np.array_split(np.arange(len(ordered)), rounds * length)
    middles = [ordered[part[len(part) // 2]] for part in every]  # short to long
    return [
        (
            batches(pairs, plain[at * length : (at + 1) * length]),
            batches(pairs, middles[at::rounds]),
        )
        for at in range(rounds)
    ]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("size", [512, 128])
def test_training_speed(size: int):
    torch.manual_seed(0)
    ours = Seq2SeqAttn(**VOCABULARIES, **SIZES[size])
    textbook = Textbook(ours)
    length = 3 if size == 512 else 10
    rounds = 3 if size == 512 else 5
    blocks = plain_and_bucketed(rounds, length)
    first = blocks[0][0][0]

    with torch.no_grad():
        difference = float(our_loss(ours, first) - textbook_loss(textbook, first))
    assert abs(difference) < 1e-5

    fast = training_step(ours, lambda batch: our_loss(ours, batch))
    slow = training_step(textbook, lambda batch: textbook_loss(textbook, batch))
    fast(first), slow(first)
    speeds: dict[str, list[float]] = {"textbook": [], "same batches": [], "bucketed": []}
    for plain, bucketed in blocks:
        speeds["textbook"].append(tokens_per_second(slow, plain))
        speeds["same batches"].append(tokens_per_second(fast, plain))
        speeds["bucketed"].append(tokens_per_second(fast, bucketed))
    middle = {name: median(values) for name, values in speeds.items()}
    same, sorted_ = (middle[name] / middle["textbook"] for name in ("same batches", "bucketed"))
    print(
        f"\nsizes {size}: textbook {middle['textbook']:.0f} target tokens/s; same batches "
        f"{same:.2f} times, bucketed {sorted_:.2f} times; loss differs by {difference:.1e}"
    )
    assert same >= SAME_BATCHES[size]
    assert sorted_ >= BUCKETED[size]


GREEDY = {
    "dates": {"source_vocab_size": 60, "target_vocab_size": 60, "encoder_size": 64},
    "sizes 512": VOCABULARIES | SIZES[512],
}
"""The recipe's model, and one whose time goes into the vocabulary, which batching cannot save."""


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", GREEDY)
def test_batched_greedy_speed(name: str):
    torch.manual_seed(0)
    model = Seq2SeqAttn(**GREEDY[name]).eval()
    random = np.random.default_rng(0)
    lengths = [len(source) for source, _ in captions(40)]
    most = GREEDY[name]["source_vocab_size"]
    sources = [[*random.integers(4, most, length).tolist(), EOS] for length in lengths]
    ratios = []
    with torch.inference_mode():
        model.search(pad(sources), max_length=20)
        for _ in range(3):
            start = time.perf_counter()
            together = model.search(pad(sources), max_length=20).tokens[:, 0]
            middle = time.perf_counter()
            single = [model.search(pad([ids]), max_length=20).tokens[0, 0] for ids in sources]
            ratios.append((time.perf_counter() - middle) / (middle - start))
    for row, tokens in zip(together, single, strict=True):
        assert torch.equal(row[: len(tokens)], tokens)
    print(f"\nbatched greedy, {name}, 40 sentences: {median(ratios):.1f} times one at a time")
    assert median(ratios) >= (10 if name == "dates" else 4)


@pytest.mark.timeout(900)
def test_lightning_overhead(tmp_path):
    """The step of `fit` with TensorBoard and a bar against the same step in a bare loop."""
    torch.manual_seed(0)
    steps, rounds = 15, 3
    ours = Seq2SeqAttn(**VOCABULARIES, **SIZES[128])
    pairs = captions(64 * steps)
    block = batches(pairs, np.array_split(np.arange(len(pairs)), steps))
    ratios = []
    for _ in range(rounds):
        bare = copy.deepcopy(ours)
        step = training_step(bare, lambda batch, bare=bare: our_loss(bare, batch))
        start = time.perf_counter()
        for batch in block:
            step(batch)
        by_hand = time.perf_counter() - start
        clock = _Clock()
        trainer = L.Trainer(
            max_epochs=1,
            default_root_dir=tmp_path,
            callbacks=[clock],
            gradient_clip_val=1.0,
            enable_model_summary=False,
            enable_checkpointing=False,
            accelerator="cpu",
        )
        trained = copy.deepcopy(ours)
        assert isinstance(trained, Translation)
        trainer.fit(trained, torch.utils.data.DataLoader(block, batch_size=None))
        ratios.append(clock.seconds / by_hand)
    print(f"\nLightning's step over a hand-written one, sizes 128: {median(ratios):.2f}")
    assert median(ratios) < 1.15


class _Clock(L.Callback):
    seconds = 0.0

    def on_train_start(self, *_):
        self.seconds = -time.perf_counter()

    def on_train_end(self, *_):
        self.seconds += time.perf_counter()
