"""A batch that shrinks while it is decoded, and the record of its steps."""

from __future__ import annotations

import torch
from torch import Tensor

from dlarch.errors import check_at_least_1

COMPACT_SHARE = 0.75
"""Finished sentences are dropped when at most this share is left: all the copying together then
costs about as much as copying the first batch four times, whatever the lengths."""


def look_interval(device: torch.device) -> int:
    """How many steps pass between two looks at whether all is done.

    Looking waits for the device; on an accelerator a few steps too many cost less.
    """
    return 1 if device.type == "cpu" else 8


class History:
    """Which sentences are still being decoded, and what each step said about them.

    Attributes:
        rows: (R,) where the sentences now being decoded stand in the whole batch.
        limits: (R,) how many tokens each of them may have.
        longest: the largest limit of the whole batch.
    """

    def __init__(self, token: Tensor, max_length: int | Tensor, compact: bool) -> None:
        if token.dim() != 2 or token.size(1) != 1:
            raise ValueError(f"token must be (B, 1), not {tuple(token.shape)}")
        size = token.size(0)
        self.rows = torch.arange(size, device=token.device)
        self.limits = torch.as_tensor(max_length, device=token.device).expand(size)
        self.stops = frozenset(self.limits.tolist())
        check_at_least_1(max_length=min(self.stops, default=1))
        self.longest = int(max(self.stops, default=0))
        self._size = size
        self._compact = compact
        self._interval = look_interval(token.device)
        self._steps = 0
        self._blocks: list[tuple[Tensor, list[tuple[Tensor, ...]]]] = [(self.rows, [])]

    def append(self, *values: Tensor) -> None:
        """Record tensors (R, K, ...) of one step, the same ones at each step."""
        self._blocks[-1][1].append(values)
        self._steps += 1

    def survivors(self, done: Tensor) -> Tensor | None:
        """Which sentences to go on with.

        Args:
            done: (R,) sentences that need no further step.

        Returns:
            Their places (R',) among the R, none when all are done; or None when it does not pay to
            drop the others yet.
        """
        if self._steps % self._interval:
            return None
        going = done.logical_not().nonzero().squeeze(1)
        count = going.numel()
        pays = self._compact and count <= COMPACT_SHARE * done.numel()
        return going if pays or not count else None

    def keep(self, going: Tensor) -> None:
        """Forget all sentences but those at `going` (R',)."""
        self.rows, self.limits = self.rows[going], self.limits[going]
        self._blocks.append((self.rows, []))

    def restore(self, whole: Tensor, part: Tensor) -> None:
        """Write `part` (R, ...) into its rows of `whole` (B, ...)."""
        whole.index_copy_(0, self.rows, part)

    def stack(self) -> list[Tensor]:
        """What was recorded, as tensors (B, K, L, ...); zero where a sentence had been dropped."""
        fields: list[Tensor] = []
        start = 0
        for rows, steps in self._blocks:
            for place, values in enumerate(zip(*steps, strict=True)):
                block = torch.stack(values, dim=2)
                if len(fields) <= place:
                    size, (_, count, _, *rest) = self._size, block.shape
                    fields.append(block.new_zeros(size, count, self._steps, *rest))
                fields[place][rows, :, start : start + len(steps)] = block
            start += len(steps)
        return fields
