"""Words and punctuation: the pattern that splits a text, and the rules that join it again."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tokenizers import Regex, pre_tokenizers

_SUFFIXES = r"['’](?i:s|t|m|d|re|ve|ll)\b"
# In the order of trial (Oniguruma syntax, as the tokenizers library reads it):
PATTERN = "|".join(
    [
        r"\p{N}+(?:[.,:]\p{N}+)+",  # 3.5  1,000  10:30
        r"(?<!\w)(?:\p{L}\.){2,}",  # e.g.  U.S.
        rf"(?<=\w){_SUFFIXES}",  # it|'s  don|'t
        rf"\w+(?!{_SUFFIXES})['’](?=\p{{L}})",  # l'|homme  qu'|il
        r"\w+",
        r"[^\w\s]",
    ]
)
"""What a word is; everything that matches nothing (white space) is left out."""

_NO_SPACE_BEFORE = frozenset(".,;:!?%)]}…°")
_NO_SPACE_AFTER = frozenset("([{$£#@¿¡„")
_NO_SPACE_AROUND = frozenset("-/‐‑")
_QUOTES = frozenset("\"'")
_SUFFIX = re.compile(r"['’]\w+")
_ELISION = re.compile(r"\w+['’]")


_SPLIT = pre_tokenizers.Split(Regex(PATTERN), "removed", invert=True)


def split_words(text: str) -> list[str]:
    """The words and punctuation of a text, as `PATTERN` says."""
    return [word for word, _ in _SPLIT.pre_tokenize_str(text)]


def join_words(tokens: Sequence[str]) -> str:
    """Write words and punctuation as a sentence: `l' homme , dit -il` becomes `l'homme, dit-il`.

    Straight quotes open and close in turn; one without a partner is an apostrophe. Spaces are left
    out only where `PATTERN` would split again, so that splitting the result gives the same tokens.
    """
    pieces: list[str] = []
    open_quotes: set[str] = set()
    glue = True  # nothing stands before the first token
    for index, token in enumerate(tokens):
        joins_left = token in _NO_SPACE_BEFORE or token in _NO_SPACE_AROUND
        joins_right = token in _NO_SPACE_AFTER or token in _NO_SPACE_AROUND
        if token in _QUOTES:
            closes = token in open_quotes
            joins_right = not closes and token in tokens[index + 1 :]
            joins_left = not joins_right
            open_quotes ^= {token} if closes or joins_right else set()
        elif token == "“":  # opens in English, closes what „ opened in German
            joins_left = "„" in open_quotes
            joins_right = not joins_left
            open_quotes.discard("„")
        elif token == "”":
            joins_left = True
        elif token == "„":
            open_quotes.add("„")
        elif _SUFFIX.fullmatch(token):
            joins_left = True
        elif _ELISION.fullmatch(token):
            joins_right = True
        if not (glue or joins_left):
            pieces.append(" ")
        pieces.append(token)
        glue = joins_right
    return "".join(pieces)
