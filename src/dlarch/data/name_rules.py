"""The rules of `dlarch.data.name_cleaning` that look at one name only.

Each is a function from a name to a better one; `cleaned_name` applies all of them.
"""

import html
import re
from collections.abc import Callable
from functools import cache
from typing import NamedTuple
from unicodedata import category, normalize
from unicodedata import name as unicode_name

MAX_CHARACTERS = 60
"""Longer names are dropped."""

MAX_WORDS = 8
"""Names of more words are dropped. Maria da Conceição de Jesus dos Santos Silva has eight."""


class CleanedName(NamedTuple):
    """What the rules made of a name."""

    name: str
    changes: dict[str, tuple[str, str]]
    """The rules that changed it, each with the name before and after its first use."""
    reason: str | None
    """Why it is dropped; None when it is kept."""


def cleaned_name(name: str) -> CleanedName:
    """Apply the rules until they change nothing more."""
    changes: dict[str, tuple[str, str]] = {}
    if not name.strip():
        return CleanedName(name, changes, "empty")
    if name.isascii() and name.isalpha() and len(name) <= MAX_CHARACTERS:
        return CleanedName(name, changes, None)  # most names, and no rule would change them
    before = None
    while name != before:  # one rule can make room for another: (x) hides the title of "(x) Dr. No"
        before = name
        for rule, mend in _RULES:
            if rule == "brackets" and name.casefold() in _NOT_AVAILABLE:
                return CleanedName(name, changes, "placeholders")
            if rule == "signs" and _is_broken(name):
                return CleanedName(name, changes, "broken words")
            mended = mend(name)
            if mended != name:
                changes.setdefault(rule, (name, mended))
                name = mended
    reason = None
    if not has_letter(name):
        reason = "no letters"
    elif len(name) > MAX_CHARACTERS or len(name.split()) > MAX_WORDS:
        reason = "too long"
    elif any(_mixes_scripts(word) for word in _WORD.findall(name)):
        reason = "mixed scripts"
    return CleanedName(name, changes, reason)


_NOT_AVAILABLE = {"n/a", "#n/a", "n.a.", "n.a"}
_ENTITY = re.compile(r"&#?\w+;")
_CARON_LETTER = re.compile("(?<!Ã)[ŠŽšž]")


def _decoded(name: str) -> str:
    name = _ENTITY.sub(lambda match: html.unescape(match[0]), name)
    # All but the first byte of a character in UTF-8 look like signs, save these letters, which may
    # be meant.
    if name.isascii() or _CARON_LETTER.search(name):
        return name
    try:
        as_bytes = (char.encode("latin-1" if char < "\u0100" else "cp1252") for char in name)
        return b"".join(as_bytes).decode()
    except UnicodeError:
        return name


_PLAIN = str.maketrans(dict.fromkeys("‘’‛ʻʼʹ´`′＇׳", "'") | dict.fromkeys("‐‑‒–—―−－﹣֊־", "-"))
_REPEATED = re.compile(r"([-'])\1+")


def _spelled(name: str) -> str:
    name = normalize("NFC", normalize("NFC", name).translate(_PLAIN))
    return " ".join(_REPEATED.sub(r"\1", name).split())


_BRACKETS = re.compile(r"\s*[(\[{<（【][^()\[\]{}<>（）【】]*(?:[)\]}>）】]|$)\s*")


def _without_brackets(name: str) -> str:
    # From the inner ones to the outer ones, but not if that leaves nothing.
    while (shorter := _BRACKETS.sub(" ", name)) != name and has_letter(shorter):
        name = shorter.strip()
    return name


def _first_of_several(name: str) -> str:
    parts = re.split("[,;/|、，،؛]", name)
    return next((part.strip() for part in parts if has_letter(part)), "")


_MIDDLE_DOTS = "·・"
_BETWEEN_WORDS = "_+&~:"  # become spaces, where other signs in the midst of a word break it
_JOINERS = "\u200c\u200d"  # decide the shape of letters in Persian and the scripts of India


def _is_broken(name: str) -> bool:
    """Whether a sign or digit stands between two letters."""
    classes = "".join(_class(char) for char in name)
    return "\ufffd" in name or re.search("Ls+L", classes) is not None


@cache
def _class(char: str) -> str:
    """L for letters and their marks, s for stray signs, nothing or a space for the others."""
    kind = category(char)[0]
    if kind in "LM":
        return "L"
    if kind == "C":  # invisible
        return ""
    return " " if char in " '-." + _MIDDLE_DOTS + _BETWEEN_WORDS else "s"


def _without_signs(name: str) -> str:
    if len(name) > 2 and name[0] == name[-1] == "'":
        name = name[1:-1]
    kept = " "
    for char, after in zip(name, name[1:] + " ", strict=False):
        kept += _sign_or_letter(char, kept[-1], after)
    return " ".join(kept.split())


def _sign_or_letter(char: str, before: str, after: str) -> str:
    """The character if it belongs into a name, between these two, else a space or nothing."""
    kind = category(char)[0]
    letter_before, letter_after = _class(before) == "L", _class(after) == "L"
    if kind == "L":
        return char
    if kind == "M":
        return char if letter_before or before in _JOINERS else ""
    if char in _JOINERS:
        needless = script_of(before) in ("LATIN", "GREEK", "CYRILLIC", "COMBINING")
        return char if letter_before and letter_after and not needless else ""
    if kind in "CN":
        return ""
    if char == "'":
        belongs = letter_before or letter_after
    elif char == "-":
        belongs = (letter_before or before in ".'") and (letter_after or after == "'")
    elif char == ".":
        belongs = letter_before
    else:
        belongs = char in _MIDDLE_DOTS and letter_before and letter_after
    return char if belongs else " "


_TITLE = re.compile(
    r"""(?:
      (?:mr|mrs|ms|miss|mister|dr|dra|prof|professor|sir|rev|reverend|herr|frau|fräulein|mme|mlle
        |monsieur|madame|mademoiselle|sr|sra|srta|señor|señora|señorita|signor|signora|mevr|dhr
        |shri|smt|sig\.ra|dott\.ssa)(?:\.\s*|\s+)
      | (?:sig|dott|ing|dipl\.-ing|mag|hon)\.\s*  # without the point, names
    )""",
    re.IGNORECASE | re.VERBOSE,
)


def _without_titles(name: str) -> str:
    while (match := _TITLE.match(name)) and has_letter(name[match.end() :]):
        name = name[match.end() :]
    return name


# Some in capitals only, for Ii is a name in Japan, and Md is short for Mohammad.
_SUFFIX = re.compile(r"\s(?:(?i:jr|sr|ph\.?\s?d|esq)|II|III|IV|M\.?D|D\.?D\.?S)\.?$")


def _without_suffixes(name: str) -> str:
    while (shorter := _SUFFIX.sub("", name)) != name and has_letter(shorter):
        name = shorter
    return name


_RULES: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("encoding", _decoded),
    ("spelling", _spelled),
    ("brackets", _without_brackets),
    ("second names", _first_of_several),
    ("signs", _without_signs),
    ("titles", _without_titles),
    ("suffixes", _without_suffixes),
)

_WORD = re.compile("[^\\W\\d_](?:[^\\W\\d_]|[\u0300-\u036f])*")
_CAPITAL_FOLLOWS = re.compile(r"(?:\b[^\W\d_]|d[ae]ll|sant)'$", re.IGNORECASE)


def capitalised(name: str) -> str:
    """Each word with one capital: Jean-Pierre, O'Neil and Dell'Orto, but Sa'ad and 't Hooft."""

    def mended(match: re.Match[str]) -> str:
        word, before = match[0], name[: match.start()]
        lower = word.replace("İ", "i").lower()  # lower() alone makes i and a second point of it
        if before.endswith("'") and not _CAPITAL_FOLLOWS.search(before):
            return lower
        first = word[0].title()
        return (first if len(first) == 1 else word[0]) + lower[1:]

    return normalize("NFC", _WORD.sub(mended, name))


def has_letter(text: str) -> bool:
    """Whether there is a letter of any script."""
    return any(map(str.isalpha, text))


@cache
def script_of(char: str) -> str:
    """The script of a letter, by the first word of its Unicode name: LATIN, CJK, HIRAGANA.

    Empty for letters that belong to several scripts, or that have no name.
    """
    script = re.split("[ -]", unicode_name(char, ""))[0]
    return "" if script in _SEVERAL_SCRIPTS else script


_SEVERAL_SCRIPTS = ("MODIFIER", "FEMININE", "MASCULINE", "FULLWIDTH", "HALFWIDTH", "IDEOGRAPHIC")
_ONE_WRITING = ("HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "CJK")  # stand in one word


def _mixes_scripts(word: str) -> bool:
    scripts = {script_of(char) for char in word if char.isalpha()} - {""}
    return len({"CJK" if script in _ONE_WRITING else script for script in scripts}) > 1
