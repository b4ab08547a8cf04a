"""The content of a tokenizer.json: read with clear errors, its special tokens put where ours are.

The format is that of the `tokenizers` library: `model.vocab` maps tokens to ids (a list of pieces
with scores for Unigram), `added_tokens` are searched for in the text before anything else.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from dlarch.errors import CheckpointError
from dlarch.processing.base import read_json
from dlarch.spec import BOS, EOS, PAD, SPECIAL_TOKENS, UNK

USUAL_NAMES: dict[int, tuple[str, ...]] = {
    PAD: ("<pad>", "[PAD]", "<PAD>", "<|pad|>", "<blank>"),
    UNK: ("<unk>", "[UNK]", "<UNK>", "<|unk|>"),
    BOS: ("<bos>", "[BOS]", "<s>", "<sos>", "<BOS>", "<SOS>", "<|begin_of_text|>", "[CLS]"),
    EOS: ("<eos>", "[EOS]", "</s>", "<EOS>", "<|end_of_text|>", "<|endoftext|>", "[SEP]"),
}
"""How special tokens are written elsewhere, the likeliest first."""


def parse(content: str) -> Tokenizer:
    """The tokenizer that a tokenizer.json describes.

    Raises:
        CheckpointError: the library cannot read it.
    """
    try:
        return Tokenizer.from_str(content)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the library's panics are no Exception
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"The tokenizer.json cannot be read: {reason}.") from error


def without_added_tokens(content: str) -> str:
    """The same tokenizer, but looking for no special tokens in the text."""
    values = json.loads(content)
    values["added_tokens"] = []
    return json.dumps(values, ensure_ascii=False)


def read_tokenizer_file(path: Path) -> str:
    """Content of a foreign tokenizer.json, its special tokens moved to the ids 0 to 3.

    Raises:
        CheckpointError: the file is missing, damaged or of an unknown kind.
    """
    values = read_json(path)
    parse_error = f"{path} is no tokenizer.json of the tokenizers library"
    try:
        parse(json.dumps(values))
        moved = json.dumps(with_our_special_ids(values), ensure_ascii=False)
        parse(moved)
    except CheckpointError as error:
        raise CheckpointError(f"{parse_error}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise CheckpointError(f"{parse_error} ({error!r}).") from error
    return moved


def with_our_special_ids(values: dict[str, Any]) -> dict[str, Any]:
    """A copy in which padding, unknown, beginning and end have the ids 0 to 3.

    The other tokens follow in their order. The four are no longer searched for in the text, and
    nothing is padded, cut or wrapped in special tokens by the tokenizer itself.
    """
    model = dict(values["model"])
    is_unigram = isinstance(model["vocab"], list)
    if is_unigram:
        scores = dict(model["vocab"])
        in_model = list(scores)
    else:
        in_model = sorted(model["vocab"], key=model["vocab"].__getitem__)
    added = sorted(values.get("added_tokens") or [], key=lambda token: token["id"])
    known = {*in_model, *(token["content"] for token in added)}
    unknown = model.get("unk_token")
    if model.get("unk_id") is not None:
        unknown = in_model[model["unk_id"]]
    special = find_special_tokens(known, unknown)
    order = special + [token for token in in_model if token not in special]
    if is_unigram:
        lowest = min(scores.values())  # a still lower one would change the price of the unknown
        model["vocab"] = [[token, scores.get(token, lowest)] for token in order]
        model["unk_id"] = UNK
    else:
        model["vocab"] = {token: index for index, token in enumerate(order)}
        if model.get("unk_token") is not None or model.get("type") in ("WordLevel", "WordPiece"):
            model["unk_token"] = special[UNK]
    index_of = {token: index for index, token in enumerate(order)}
    kept = [dict(token) for token in added if token["content"] not in special]
    for token in kept:
        token["id"] = index_of.setdefault(token["content"], len(index_of))
    return {
        **values,
        "model": model,
        "added_tokens": sorted(kept, key=lambda token: token["id"]),
        "post_processor": None,
        "padding": None,
        "truncation": None,
    }


def find_special_tokens(known: Collection[str], unknown: str | None = None) -> list[str]:
    """How a vocabulary writes padding, unknown, beginning and end; our names where it has none.

    Args:
        known: the tokens of the vocabulary.
        unknown: what it is known to take for unknown tokens, if that is known.
    """
    special = [
        next((name for name in USUAL_NAMES[role] if name in known), SPECIAL_TOKENS[role])
        for role in (PAD, UNK, BOS, EOS)
    ]
    if unknown is not None and unknown in known:
        special[UNK] = unknown
    return special
