"""The words of texts, and how often they occur in training, which a model counts once."""

from __future__ import annotations

from collections.abc import Callable

import lightning as L  # noqa: N812
import torch
from torch import Tensor

from dlarch.nn.bags import DocumentCounts, count_documents
from dlarch.spec import PAD, SPECIAL_TOKENS
from dlarch.tasks.examples import training_batches


def known_words(tokens: Tensor) -> Tensor:
    """Token ids (B, T) with PAD for whatever is no word: unknown ones, the ends of a text."""
    return tokens.masked_fill(tokens < len(SPECIAL_TOKENS), PAD)


@torch.no_grad()
def count_training_texts(
    trainer: L.Trainer, features: Callable[[Tensor], Tensor], size: int, classes: int
) -> DocumentCounts:
    """In how many training texts of each class features occur, on the CPU.

    One process counts, so that all have the same.

    Args:
        trainer: that trains, from `on_train_start` on.
        features: of token ids (B, T) gives those of features (B, F), PAD where there is none.
        size: number of features.
        classes: K.
    """
    sums = DocumentCounts(
        torch.zeros(size, classes, dtype=torch.long), torch.zeros(classes, dtype=torch.long)
    )
    if trainer.is_global_zero:
        for batch in training_batches(trainer):
            found = features(batch[0]).cpu()
            for total, more in zip(
                sums, count_documents(found, batch[1].cpu(), size, classes), strict=True
            ):
                total += more
    return DocumentCounts(*(trainer.strategy.broadcast(total) for total in sums))
