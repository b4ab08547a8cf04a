"""Move the rows of nested states: NamedTuples, tuples, lists and dicts of tensors and others.

What is not a tensor (None, a number) belongs to the whole batch and is handed on as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

Nested = TypeVar("Nested")


def map_tensors(function: Callable[[Tensor], Tensor], nested: Nested) -> Nested:
    """Apply `function` to every tensor of `nested`, keeping the structure."""
    return _map(function, nested)  # type: ignore[no-any-return]


def has_tensors(nested: object) -> bool:
    """Whether there is any tensor in `nested`."""
    found: list[Tensor] = []

    def look(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    map_tensors(look, nested)
    return bool(found)


def reorder(state: Nested, index: Tensor) -> Nested:
    """Gather hypotheses: every tensor (B, K, ...) becomes (B, K', ...).

    Args:
        state: nested tensors that lead with (B, K).
        index: (B, K') positions in 0..K-1, repeats allowed.
    """
    size, count = index.shape
    first = torch.arange(size, device=index.device).unsqueeze(1)

    def gather(tensor: Tensor) -> Tensor:
        # One index_select over whole rows moves memory blocks; gather would go by elements.
        rows = (first * tensor.size(1) + index).flatten()
        moved = tensor.flatten(0, 1).index_select(0, rows)
        return moved.view(size, count, *tensor.shape[2:])

    return map_tensors(gather, state)


def select(nested: Nested, rows: Tensor) -> Nested:
    """Take sentences: every tensor (B, ...) becomes (R, ...) for the ids `rows` (R,)."""
    return map_tensors(lambda tensor: tensor.index_select(0, rows), nested)


def expand(state: Nested, count: int) -> Nested:
    """Copy one hypothesis to `count`: every tensor (B, 1, ...) becomes (B, K, ...).

    The copies own their memory, so a model may write its cache in place.
    """
    return map_tensors(lambda tensor: tensor.repeat_interleave(count, dim=1), state)


def _map(function: Callable[[Tensor], Tensor], nested: Any) -> Any:
    if isinstance(nested, Tensor):
        return function(nested)
    if isinstance(nested, dict):
        return {key: _map(function, value) for key, value in nested.items()}
    if isinstance(nested, tuple | list):
        values = [_map(function, value) for value in nested]
        return type(nested)(*values) if hasattr(nested, "_fields") else type(nested)(values)
    return nested
