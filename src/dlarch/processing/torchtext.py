"""A bridge to torchtext: its vocabularies and word vectors become ours, and ours become its.

torchtext is no longer developed; its last release needs torch 2.3 (in a checkout: `pip install -e
'.[torchtext]'`). Reading its objects needs only the objects; torchtext itself is imported
where one of its objects is made.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch import Tensor

from dlarch.errors import DataError, MismatchError, UserError
from dlarch.processing.text import TextProcessor
from dlarch.processing.vocabulary import find_special_tokens
from dlarch.spec import PAD, SPECIAL_TOKENS, UNK

logger = logging.getLogger(__name__)


class WordVectors(NamedTuple):
    """Word vectors for the ids of a processor.

    Attributes:
        weight: (V, D), as for `torch.nn.Embedding.from_pretrained`; zero where not found.
        found: (V,) boolean, True where there was a vector for the token.
    """

    weight: Tensor
    found: Tensor

    @property
    def coverage(self) -> float:
        """Share of the tokens, special ones aside, that have a vector; 0 to 1."""
        ordinary = self.found[len(SPECIAL_TOKENS) :]
        return float(ordinary.float().mean()) if len(ordinary) else 0.0


def from_torchtext_vocab(
    vocab: Any,
    level: Literal["words", "characters"] = "words",
    lowercase: bool = False,
    pretokenized: bool = False,
) -> TextProcessor:
    """A processor with the tokens of a `torchtext.vocab.Vocab`.

    Special tokens, recognised by their usual names, get the ids 0 to 3 and our names; what stands
    at the vocabulary's default index means unknown. The other tokens follow in their order, so the
    rows of an embedding trained with `vocab` are found by
    `vocab[token] for token in processor.tokens_by_id`.

    Args:
        vocab: has `get_itos()` (torchtext 0.9 and later) or a list `itos`.
        level: how texts are split; torchtext's vocabularies do not say it.
        lowercase: whether texts are lower-cased first.
        pretokenized: split at white space only, for texts in which another tokenizer has put
            spaces between the tokens; `level` is then "foreign".

    Raises:
        DataError: `vocab` is no vocabulary.
    """
    tokens = _tokens_of(vocab)
    default = vocab.get_default_index() if hasattr(vocab, "get_default_index") else None
    special = find_special_tokens(tokens, None if default is None else tokens[default])
    taken = {*special, *SPECIAL_TOKENS}
    ordinary = [token for token in tokens if token not in taken]
    if pretokenized:
        return _split_at_spaces(ordinary, lowercase)
    processor = TextProcessor.from_tokens(ordinary, level, lowercase)
    lost = [token for token in ordinary if processor.tokens(token) != [token]]
    if lost:
        logger.warning(
            "%d of %d tokens of the vocabulary, such as %r, are no %s as dlarch splits text, and"
            " are never used; if your texts are tokenised already, give pretokenized=True",
            len(lost),
            len(ordinary),
            lost[0],
            level,
        )
    return processor


def to_torchtext_vocab(processor: TextProcessor) -> Any:
    """A `torchtext.vocab.Vocab` with the same ids; its default index is UNK.

    `vocab(processor.tokens(text))` equals `processor.encode(text)`.

    Raises:
        UserError: torchtext is not installed or does not fit torch.
    """
    counts = OrderedDict((token, 1) for token in processor.tokens_by_id)
    vocab = _torchtext().vocab.vocab(counts, min_freq=1)
    vocab.set_default_index(UNK)
    return vocab


def vectors_from_torchtext(
    vectors: Any, processor: TextProcessor, lower_case_backup: bool = False
) -> WordVectors:
    """The rows of a `torchtext.vocab.Vectors` in the order of a processor's ids.

    Args:
        vectors: has `stoi`, tokens to rows, and `vectors` (N, D).
        processor: its V tokens are looked up.
        lower_case_backup: take the vector of the lower-cased token where there is none.

    Raises:
        DataError: `vectors` is no set of vectors.
    """
    rows, table = getattr(vectors, "stoi", None), getattr(vectors, "vectors", None)
    if not isinstance(rows, dict) or not isinstance(table, Tensor) or table.dim() != 2:
        raise DataError(
            f"{type(vectors).__name__} is no torchtext Vectors: it needs `stoi` and `vectors`."
        )
    weight = torch.zeros(processor.vocab_size, table.shape[1], dtype=table.dtype)
    found = torch.zeros(processor.vocab_size, dtype=torch.bool)
    for index, token in enumerate(processor.tokens_by_id):
        row = rows.get(token)
        if row is None and lower_case_backup:
            row = rows.get(token.lower())
        if row is not None and index != PAD:
            weight[index] = table[row]
            found[index] = True
    return WordVectors(weight, found)


def to_torchtext_vectors(processor: TextProcessor, weight: Tensor) -> Any:
    """A `torchtext.vocab.Vectors` from embedding rows (V, D), one for each id of `processor`.

    Raises:
        MismatchError: the number of rows is not V.
        UserError: torchtext is not installed or does not fit torch.
    """
    if weight.dim() != 2 or len(weight) != processor.vocab_size:
        raise MismatchError(
            f"The weight has shape {tuple(weight.shape)}, the processor needs"
            f" ({processor.vocab_size}, D)."
        )
    kind = _torchtext().vocab.Vectors
    vectors = kind.__new__(kind)  # the constructor only reads files, with pickle
    vectors.itos = list(processor.tokens_by_id)
    vectors.stoi = {token: index for index, token in enumerate(vectors.itos)}
    vectors.vectors = weight.detach().cpu().clone()
    vectors.dim = weight.shape[1]
    vectors.unk_init = torch.Tensor.zero_
    return vectors


def _tokens_of(vocab: Any) -> list[str]:
    tokens = vocab.get_itos() if hasattr(vocab, "get_itos") else getattr(vocab, "itos", None)
    if not isinstance(tokens, Sequence) or not all(isinstance(token, str) for token in tokens):
        raise DataError(
            f"{type(vocab).__name__} is no torchtext vocabulary: it needs `get_itos()` or `itos`."
        )
    return list(tokens)


def _split_at_spaces(ordinary: list[str], lowercase: bool) -> TextProcessor:
    vocabulary = {token: index for index, token in enumerate([*SPECIAL_TOKENS, *ordinary])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIAL_TOKENS[UNK]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if lowercase:
        tokenizer.normalizer = normalizers.Lowercase()
    return TextProcessor(tokenizer.to_str(), "foreign", lowercase)


def _torchtext() -> Any:
    try:
        import torchtext

        torchtext.disable_torchtext_deprecation_warning()
        import torchtext.vocab
    except (ImportError, OSError, AttributeError) as error:
        raise UserError(
            f"torchtext cannot be imported ({error}); in a checkout of dlarch, with an environment"
            " of its own and Python 3.11 or 3.12, for which there is torch 2.3.1, type:"
            " pip install -e '.[torchtext]'"
        ) from error
    return torchtext
