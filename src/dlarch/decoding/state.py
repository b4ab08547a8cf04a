"""Move the rows of nested states: NamedTuples, tuples, lists and dicts of tensors and others.

What is not a tensor (None, a number) belongs to the whole batch and is handed on as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

Nested = TypeVar("Nested")


class PerSentence(NamedTuple):
    """A part of a state that the hypotheses of a sentence share: nested tensors (B, ...).

    It stays where it is when hypotheses change places.
    """

    shared: Any


def map_tensors(function: Callable[[Tensor], Tensor], nested: Nested) -> Nested:
    """Apply `function` to every tensor of `nested`, keeping the structure."""
    return _map(function, nested)  # type: ignore[no-any-return]


def list_tensors(nested: object) -> list[Tensor]:
    """All tensors of `nested`, in the order in which `map_tensors` meets them."""
    found: list[Tensor] = []

    def look(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    map_tensors(look, nested)
    return found


def has_tensors(nested: object) -> bool:
    """Whether there is any tensor in `nested`."""
    return bool(list_tensors(nested))


def reorder(state: Nested, index: Tensor) -> Nested:
    """Gather hypotheses: every tensor (B, K, ...) becomes (B, K', ...).

    Args:
        state: nested tensors that lead with (B, K), but for those in a `PerSentence`.
        index: (B, K') positions in 0..K-1, repeats allowed.
    """
    size, count = index.shape
    first = torch.arange(size, device=index.device).unsqueeze(1)

    def gather(tensor: Tensor) -> Tensor:
        # One index_select over whole rows moves memory blocks; gather would go by elements.
        rows = (first * tensor.size(1) + index).flatten()
        moved = tensor.flatten(0, 1).index_select(0, rows)
        return moved.view(size, count, *tensor.shape[2:])

    return _map(gather, state, shared=False)  # type: ignore[no-any-return]


def select(nested: Nested, rows: Tensor) -> Nested:
    """Take sentences: every tensor (B, ...) becomes (R, ...) for the ids `rows` (R,)."""
    return map_tensors(lambda tensor: tensor.index_select(0, rows), nested)


def expand(state: Nested, count: int) -> Nested:
    """Copy one hypothesis to `count`: every tensor (B, 1, ...) becomes (B, K, ...).

    The copies own their memory, so a model may write its cache in place.
    """
    return _map(  # type: ignore[no-any-return]
        lambda tensor: tensor.repeat_interleave(count, dim=1), state, shared=False
    )


def _map(function: Callable[[Tensor], Tensor], nested: Any, shared: bool = True) -> Any:
    """The same structure with changed tensors; those of a `PerSentence` only if `shared`."""
    if isinstance(nested, PerSentence) and not shared:
        return nested
    if isinstance(nested, Tensor):
        return function(nested)
    if isinstance(nested, dict):
        return {key: _map(function, value, shared) for key, value in nested.items()}
    if isinstance(nested, tuple | list):
        values = [_map(function, value, shared) for value in nested]
        return type(nested)(*values) if hasattr(nested, "_fields") else type(nested)(values)
    return nested
