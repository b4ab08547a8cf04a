"""Word embeddings that start from pretrained vectors; what text classifiers with them share."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from dlarch.errors import MismatchError, OptionError
from dlarch.processing import LabelledTextProcessor
from dlarch.processing.vectors import read_vectors
from dlarch.spec import PAD


class WordEmbedding(nn.Embedding):
    """Embeddings of tokens, random at first: (B, T) -> (B, T, E), zeros for padding.

    Args:
        vocab_size: number of token ids, V.
        embedding_size: E.
        vectors: file of pretrained vectors that a fit starts from, see `start_from_vectors`.
        freeze: whether the embeddings stay as they are at the start.
        spread: draw the first values from -spread to spread; from torch's own normal distribution
            of deviation 1 when not given.
    """

    filled: torch.Tensor

    def __init__(
        self,
        vocab_size: int,
        embedding_size: int,
        vectors: str | None = None,
        freeze: bool = False,
        spread: float | None = None,
    ) -> None:
        super().__init__(vocab_size, embedding_size, padding_idx=PAD)
        if spread is not None:
            nn.init.uniform_(self.weight, -spread, spread)
            nn.init.zeros_(self.weight[PAD])
        self.vectors = vectors
        self.weight.requires_grad_(not freeze)
        if vectors is not None:  # travels with the weights, so that the file is read only once
            self.register_buffer("filled", torch.tensor(False))


@torch.no_grad()
def start_from_vectors(model: Any) -> None:
    """Fill `model.embedding`, a `WordEmbedding`, with the pretrained vectors that were asked for.

    Does nothing where there are no vectors to start from, or the
    weights are trained already: in a resumed fit, and in a model that was loaded, which does not
    need the file.

    Raises:
        MismatchError: the words of the data are not known.
        OptionError: the vectors are of another size than the embeddings.
        DataError: the file cannot be read, or has none of the words.
    """
    embedding: WordEmbedding = model.embedding
    path = embedding.vectors
    if path is None or bool(embedding.filled):
        return
    if not isinstance(model.processor, LabelledTextProcessor):
        raise MismatchError(
            f"Which words the vectors in {path} are to be taken of is not known: train on a dlarch "
            "data module of texts, or set model.processor."
        )
    table = read_vectors(path, model.processor.tokens.tokens_by_id).table
    if table.shape[1] != embedding.embedding_dim:
        raise OptionError(
            f"{path} has {table.shape[1]} numbers per word, but embedding_size is "
            f"{embedding.embedding_dim}: give --model.embedding_size {table.shape[1]}, or another "
            "file."
        )
    embedding.weight.copy_(table)
    embedding.filled.fill_(True)
