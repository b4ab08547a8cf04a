"""Batches in an order that is a function of seed and epoch, from a loader that knows its place.

`bucketed_plan` and `evaluation_plan` say which examples go together; `BatchLoader` fetches them.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from dlarch.errors import MismatchError, OptionError, check_at_least_1

Batch = TypeVar("Batch", covariant=True)
IndexArray = NDArray[np.int64]
"""(B,) positions of the examples of one batch."""


class BatchSource(Protocol[Batch]):
    """What a `BatchLoader` fetches from: a pure function of the indices, picklable for workers."""

    def __getitem__(self, index: IndexArray, /) -> Batch:
        """Return the batch of the examples at `index` (B,)."""
        ...


class BatchLoader(Generic[Batch]):
    """Fetch planned batches, and resume inside an epoch where a checkpoint left off.

    This is not a torch `DataLoader`, so Lightning neither rebuilds nor reseeds it. For training it
    owns the epoch and the position in it; each new iteration that follows a started one is the next
    epoch. Calling `iter` changes nothing before the first batch is asked for (Lightning calls it
    more often than it consumes). The global random state is never touched.

    Args:
        dataset: `dataset[index]` is the batch of the examples at `index` (B,).
        plan: `plan(epoch)` lists the index arrays of this process, one per batch, equally many in
            every epoch: Lightning fixes the length of an epoch once.
        seed: what `plan` was made from; a checkpoint with another one is refused.
        num_workers: processes that fetch ahead; 0 fetches in this one.
        pin_memory: copy batches to page-locked memory (only where there is a CUDA device).
        training: False yields `plan(0)` every time and keeps no state, for evaluation.
        multiprocessing_context: start method of the workers, the platform's when None.
    """

    def __init__(
        self,
        dataset: BatchSource[Batch],
        plan: Callable[[int], Sequence[IndexArray]],
        *,
        seed: int = 0,
        num_workers: int = 0,
        pin_memory: bool = False,
        training: bool = True,
        multiprocessing_context: str | None = None,
    ) -> None:
        self.dataset = dataset
        self.seed = seed
        self.num_workers = num_workers
        self.pin_memory = pin_memory
        self.training = training
        self.multiprocessing_context = multiprocessing_context
        self.epoch = 0
        self.position = 0
        self._plan = plan
        self._planned: tuple[int, Sequence[IndexArray]] = (0, plan(0))
        self._length = len(self._planned[1])
        self._resumed = False

    def __len__(self) -> int:
        """Batches of the whole epoch, also after a resume inside it."""
        return self._length

    def __iter__(self) -> Iterator[Batch]:
        return self._train() if self.training else self._fetch(self._batches(0), 0)

    def state_dict(self) -> dict[str, int]:
        """Where training stands: `position` batches of `epoch` have been handed out."""
        return {
            "seed": self.seed,
            "epoch": self.epoch,
            "position": self.position,
            "batches": len(self),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`; takes effect when the next iteration starts.

        Raises:
            MismatchError: the rest of the epoch cannot be the same here.
        """
        if state["seed"] != self.seed:
            raise MismatchError(
                f"The checkpoint shuffled its data with seed {state['seed']}, this run with "
                f"{self.seed}; resume with the same seed."
            )
        if 0 < state["position"] < state["batches"] and state["batches"] != len(self):
            raise MismatchError(
                f"The checkpoint stands at batch {state['position']} of {state['batches']}, but an "
                f"epoch has {len(self)} batches now; resume with the same data, batch size and "
                "number of processes."
            )
        self.epoch = state["epoch"]
        ended = state["position"] >= state["batches"] > 0
        self.position = len(self) if ended else state["position"]
        self._resumed = True

    def finish_epoch(self) -> None:
        """Declare a started epoch over, even if batches are left (`limit_train_batches`)."""
        self._resumed = False

    def _train(self) -> Iterator[Batch]:
        if (self.position and not self._resumed) or self.position >= len(self):
            self.epoch += 1
            self.position = 0
        self._resumed = False
        for batch in self._fetch(self._batches(self.epoch)[self.position :], self.epoch):
            self.position += 1  # before the batch is used: a checkpoint made with it counts it
            yield batch

    def _batches(self, epoch: int) -> Sequence[IndexArray]:
        if self._planned[0] != epoch:
            self._planned = (epoch, self._plan(epoch))
        batches = self._planned[1]
        if len(batches) != self._length:
            raise ValueError(
                f"The plan of epoch {epoch} has {len(batches)} batches, that of the first "
                f"{self._length}; Lightning needs equally many in each."
            )
        return batches

    def _fetch(self, batches: Sequence[IndexArray], epoch: int) -> Iterator[Batch]:
        pin_memory = self.pin_memory and torch.cuda.is_available()
        if not self.num_workers and not pin_memory:
            yield from map(self.dataset.__getitem__, batches)
            return
        # The generator takes the place of the global one when DataLoader draws its workers' seed.
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + epoch) % 2**63)
        loader: DataLoader[Any] = DataLoader(
            self.dataset,  # type: ignore[arg-type]
            batch_size=None,
            sampler=batches,
            collate_fn=_identity,
            num_workers=self.num_workers,
            pin_memory=pin_memory,
            generator=generator,
            worker_init_fn=_start_worker,
            multiprocessing_context=self.multiprocessing_context if self.num_workers else None,
        )
        yield from loader


def _identity(batch: Any) -> Any:
    return batch


def _start_worker(worker: int) -> None:  # noqa: ARG001
    """Let a worker live exactly as long as the main process wants it.

    It survives the Ctrl-C or SIGTERM that the whole process group gets, as the main process
    finishes its step first (a second SIGTERM ends it), and does not outlive a killed main process
    (torch watches the parent by its id, which is another process under forkserver).
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def bucketed_plan(
    lengths: NDArray[Any],
    other_lengths: NDArray[Any] | None = None,
    *,
    seed: int,
    epoch: int,
    batch_size: int | None = None,
    batch_tokens: int | None = None,
    world_size: int = 1,
    rank: int = 0,
    pool_batches: int = 100,
    join_single: bool = False,
) -> list[IndexArray]:
    """Shuffled batches of examples of similar length, for one process of a training run.

    With `batch_size`, a permutation is cut into pools of `pool_batches` batches, each sorted by
    length; with `batch_tokens` the whole permutation is one pool, which keeps the number of batches
    the same in every epoch. The batches are then shuffled. Each process takes one column of the
    sorted order seen as rows of `world_size`, so all have equally many batches, of equally many
    examples and similar length; fewer than `world_size` examples are left out, others each epoch.

    Args:
        lengths: (n,) tokens of the side that costs most, the first sorting key.
        other_lengths: (n,) tokens of the other side, if there is one.
        seed: of the run.
        epoch: counted from 0; the order is a function of `seed` and `epoch` only.
        batch_size: examples per batch and process.
        batch_tokens: bound on examples x longest side of any of them, per batch and process. Give
            either this or `batch_size`.
        world_size: number of processes.
        rank: of this process.
        pool_batches: batches per pool.
        join_single: let a last batch of one example join the one before: batch normalisation has
            no deviation of one.

    Returns:
        Index arrays (B,), equally many for every rank and epoch.

    Raises:
        OptionError: not exactly one bound, a bound too small, or fewer examples than processes.
    """
    _check(len(lengths), batch_size, batch_tokens, world_size)
    rng = np.random.default_rng((seed, epoch))
    left_out = len(lengths) % world_size
    order: IndexArray = rng.permutation(len(lengths))[: len(lengths) - left_out]
    pool = len(order) if batch_size is None else pool_batches * batch_size * world_size
    for start in range(0, len(order), pool):
        part = order[start : start + pool]
        order[start : start + pool] = part[_by_length(part, lengths, other_lengths, batch_tokens)]
    mine = np.ascontiguousarray(order.reshape(-1, world_size)[:, rank])
    if batch_tokens is None:
        assert batch_size is not None
        single = join_single and batch_size > 1 and len(mine) % batch_size == 1
        cuts: Sequence[int] = range(batch_size, len(mine) - single, batch_size)
    else:
        # The k-th shortest of all but `left_out` examples is no longer than number k + left_out of
        # all, whichever are left out: a bound that is the same for all ranks and epochs.
        widths = np.sort(_longest(lengths, other_lengths))[left_out + world_size - 1 :: world_size]
        cuts = _cut_by_tokens(widths, batch_tokens)
    batches = _split(mine, cuts)
    return [batches[i] for i in rng.permutation(len(batches))]


def evaluation_plan(
    lengths: NDArray[Any],
    other_lengths: NDArray[Any] | None = None,
    *,
    batch_size: int | None = None,
    batch_tokens: int | None = None,
    world_size: int = 1,
    rank: int = 0,
) -> list[IndexArray]:
    """Batches that hold each example exactly once over all ranks, shortest first.

    Arguments and errors are those of `bucketed_plan`. Ranks differ by at most one example, so sums
    have to be reduced over ranks, never means.
    """
    _check(len(lengths), batch_size, batch_tokens, world_size)
    everything = np.arange(len(lengths))
    order: IndexArray = _by_length(everything, lengths, other_lengths, batch_tokens)
    mine = np.ascontiguousarray(order[rank::world_size])
    if batch_tokens is None:
        assert batch_size is not None
        return _split(mine, range(batch_size, len(mine), batch_size))
    return _split(mine, _cut_by_tokens(_longest(lengths, other_lengths)[mine], batch_tokens))


def _check(
    examples: int, batch_size: int | None, batch_tokens: int | None, world_size: int
) -> None:
    if (batch_size is None) == (batch_tokens is None):
        raise OptionError("Give either batch_size or batch_tokens, one of the two.")
    check_at_least_1(batch_size=batch_size, batch_tokens=batch_tokens)
    if examples < world_size:
        raise OptionError(
            f"There are {examples} examples for {world_size} processes, and none may be empty; "
            f"use --trainer.devices {max(examples, 1)} or more data."
        )


def _longest(lengths: NDArray[Any], other_lengths: NDArray[Any] | None) -> NDArray[Any]:
    longest = lengths if other_lengths is None else np.maximum(lengths, other_lengths)
    floor: NDArray[Any] = np.maximum(longest, 1)
    return floor


def _by_length(
    part: IndexArray,
    lengths: NDArray[Any],
    other_lengths: NDArray[Any] | None,
    batch_tokens: int | None,
) -> IndexArray:
    """Order that sorts `part` by length, equals in the order in which they stand there."""
    first = lengths[part].astype(np.int64)
    second = None if other_lengths is None else other_lengths[part].astype(np.int64)
    if second is None:
        return np.argsort(first, kind="stable")
    key = first * (int(second.max(initial=0)) + 1) + second
    if batch_tokens is not None:  # the bound is on the longer side, so that one sorts first
        key += np.maximum(first, second) * (int(key.max(initial=0)) + 1)
    return np.argsort(key, kind="stable")


def _cut_by_tokens(widths: NDArray[Any], batch_tokens: int) -> list[int]:
    """Where to cut ascending `widths` so that count x longest stays within `batch_tokens`."""
    longest = int(widths[-1])
    if longest > batch_tokens:
        raise OptionError(
            f"batch_tokens={batch_tokens} is less than the longest example, {longest} tokens; "
            "raise batch_tokens or leave out long examples."
        )
    cuts: list[int] = []
    start = 0
    while True:
        ahead = widths[start : start + batch_tokens // int(widths[start])]
        start += int(
            np.count_nonzero(np.arange(1, len(ahead) + 1) * ahead.astype(np.int64) <= batch_tokens)
        )
        if start >= len(widths):
            return cuts
        cuts.append(start)


def _split(order: IndexArray, cuts: Sequence[int]) -> list[IndexArray]:
    edges = [0, *cuts, len(order)]
    return [order[start:end] for start, end in pairwise(edges)]
