"""TensorBoard's projector: points of many dimensions, with what they stand for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

MOST_DIMENSIONS = 100


def write_points(
    writers: Sequence[Any], tag: str, points: Tensor, step: int, **labels: Any
) -> None:
    """Write points (B, D), of more than 100 dimensions their principal components.

    Args:
        writers: of TensorBoard.
        tag: name of the projector.
        points: a row for each.
        step: of the optimizer.
        labels: metadata, metadata_header and label_img of `SummaryWriter.add_embedding`.
    """
    # float64, which has no tail of digits after rounding
    rounded = principal(points.float().cpu(), MOST_DIMENSIONS).double().round(decimals=4)
    for writer in writers:
        writer.add_embedding(rounded, global_step=step, tag=tag, **labels)


def principal(points: Tensor, most: int) -> Tensor:
    """Points (B, D) as they are, or of more than `most` dimensions so many principal components."""
    if points.shape[1] <= most:
        return points
    centred = points - points.mean(0)
    left, sizes, _ = torch.linalg.svd(centred, full_matrices=False)
    components: Tensor = (left * sizes)[:, :most]
    return components
