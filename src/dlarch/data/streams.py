"""Which windows of a long text go together: streams that go on, or windows from anywhere.

A window is given by the position of its first token, ~position where it begins anew (`BOS`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dlarch.errors import OptionError

Windows = list[NDArray[np.int64]]
"""The windows of each batch, (B,)."""

BEGUN = 10
"""One of so many random windows begins anew, so that a model learns to begin."""


def training_streams(
    tokens: int,
    window: int,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    world_size: int = 1,
    rank: int = 0,
) -> Windows:
    """Streams side by side: row r of a batch goes on where row r of the batch before ended.

    The text begins at another token in each epoch, so that windows and streams are cut elsewhere;
    fewer than two windows are left out for it, and fewer than there are processes to be fair.

    Args:
        tokens: of the text, N.
        window: tokens of a window, T.
        batch_size: streams per process.
        seed: of the run.
        epoch: counted from 0.
        world_size: number of processes.
        rank: of this one.
    """
    starts = _grid(tokens, window, world_size, np.random.default_rng((seed, epoch)))
    count = min(batch_size * world_size, len(starts))
    return _streams(starts, count, world_size, rank)


def random_windows(
    tokens: int,
    window: int,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    world_size: int = 1,
    rank: int = 0,
) -> Windows:
    """Windows in random order, cut elsewhere in each epoch; arguments as of `training_streams`."""
    random = np.random.default_rng((seed, epoch))
    starts = random.permutation(_grid(tokens, window, world_size, random))
    begun = random.random(len(starts)) < 1 / BEGUN
    mine = np.where(begun, ~starts, starts).reshape(-1, world_size)[:, rank]
    return np.split(mine, range(batch_size, len(mine), batch_size))


def evaluation_windows(
    tokens: int, window: int, rows: int, *, carried: bool, world_size: int = 1, rank: int = 0
) -> Windows:
    """Windows that hold each token exactly once over all ranks.

    Args:
        tokens: of the text.
        window: tokens of a window.
        rows: of a batch, per process.
        carried: whether rows are streams, of which each begins anew; else the first window of the
            text alone does.
        world_size: number of processes.
        rank: of this one.

    Raises:
        OptionError: there are fewer windows than processes.
    """
    starts = np.arange(0, tokens, window)
    if len(starts) < world_size:
        raise OptionError(
            f"{tokens} tokens make {len(starts)} windows for {world_size} processes: use "
            f"--trainer.devices {len(starts)}, or a smaller window."
        )
    if carried:
        return _streams(starts, min(rows * world_size, len(starts)), world_size, rank)
    mine = np.where(starts == 0, ~starts, starts)[rank::world_size]
    return np.split(mine, range(rows, len(mine), rows))


def _grid(
    tokens: int, window: int, world_size: int, random: np.random.Generator
) -> NDArray[np.int64]:
    """Starts of whole windows, equally many in every epoch and for every process."""
    count = max((tokens - window + 1) // window, 1)
    count -= count % world_size
    if not count:
        raise OptionError(
            f"{tokens} tokens do not make a window of {window} for each of {world_size} processes."
        )
    first = random.integers(max(tokens - count * window, 0) + 1)
    starts: NDArray[np.int64] = first + window * np.arange(count)
    return starts


def _streams(starts: NDArray[np.int64], count: int, world_size: int, rank: int) -> Windows:
    """Cut windows into streams of equal length, or one more; those come first.

    A process has every `world_size`-th stream.
    """
    parts = np.array_split(starts, count)[rank::world_size]
    begun = [np.concatenate((~part[:1], part[1:])) for part in parts]
    steps = range(max(map(len, begun)))
    return [np.array([part[k] for part in begun if k < len(part)]) for k in steps]
