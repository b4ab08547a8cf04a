"""The best few of many scores."""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK = 64


def top(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Like `scores.topk(count)` on (R, M), several times faster on a CPU when M is large.

    A CPU finds the maximum of a chunk with vector instructions, but not its place. The best `count`
    scores lie in the `count` chunks with the largest maxima, so only those are searched.

    Returns:
        Scores and places, both (R, count), best first.
    """
    rows, size = scores.shape
    chunks = size // CHUNK
    if scores.device.type != "cpu" or chunks < 4 * count or chunks < 16:
        values, places = scores.topk(count)
        return values, places
    whole = chunks * CHUNK
    best = scores[:, :whole].view(rows, chunks, CHUNK).amax(-1).topk(count).indices
    places = (best.unsqueeze(-1) * CHUNK + torch.arange(CHUNK)).flatten(1)
    if whole < size:
        places = torch.cat([places, torch.arange(whole, size).expand(rows, -1)], 1)
    values, index = scores.gather(1, places).topk(count)
    return values, places.gather(1, index)
