"""What a network has made of the tokens: its tables of embeddings, in TensorBoard's projector."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from typing_extensions import override

from dlarch.callbacks.figures import visible
from dlarch.callbacks.projector import write_points
from dlarch.callbacks.protocols import tensorboard_writers
from dlarch.spec import SPECIAL_TOKENS

MOST_TOKENS = 2000
"""Of each table; a vocabulary begins with the most frequent tokens."""


@runtime_checkable
class OffersVocabularies(Protocol):
    """A task that reads tokens."""

    def vocabularies(self) -> Mapping[str, Sequence[str]]:
        """Tokens in the order of their ids, by side: "source", "target", or "" for the only one."""
        ...


class TokenProjector(Callback):
    """Writes the embeddings of the first 2,000 tokens, when a fit ends.

    TensorBoard: a projector for each table, called as the model calls it:
    `embedding`, `source_embedding`, `target_embedding`. Of more than 100 dimensions there are the
    100 principal components. Silent with other loggers, and without tables.
    """

    @override
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the projector's files, beside the events."""
        writers = tensorboard_writers(trainer) if trainer.is_global_zero else []
        if not writers or not isinstance(pl_module, OffersVocabularies):
            return
        for name, table, tokens in token_tables(pl_module, pl_module.vocabularies()):
            labels = [visible(token) for token in tokens[:MOST_TOKENS]]
            step = trainer.global_step
            write_points(writers, name, table[:MOST_TOKENS], step, metadata=labels)


def token_tables(
    module: nn.Module, vocabularies: Mapping[str, Sequence[str]]
) -> Iterator[tuple[str, Tensor, Sequence[str]]]:
    """Name in the model, rows (V, E) and tokens of each table of embeddings, special ones left out.

    A table is a `torch.nn.Embedding` or `EmbeddingBag` whose name ends in `embedding`, with the
    side of its vocabulary before it; one-hot codes, which tell nothing, are none.
    """
    special = len(SPECIAL_TOKENS)
    for name, layer in module.named_modules():
        side, is_table, _ = name.rpartition(".")[2].rpartition("embedding")
        tokens = vocabularies.get(side.removesuffix("_"), ())
        if not is_table or not isinstance(layer, (nn.Embedding, nn.EmbeddingBag)):
            continue
        table = layer.weight.detach()
        if len(tokens) > special and not _is_one_hot(table):
            yield name, table[special : len(tokens)], tokens[special:]


def _is_one_hot(table: Tensor) -> bool:
    return table.shape[0] == table.shape[1] and torch.equal(table, torch.eye(len(table)).to(table))
