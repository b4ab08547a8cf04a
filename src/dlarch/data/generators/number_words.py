"""The numbers 0 to 9999, from words of one language into digits or words of another."""

from random import Random

from num2words import num2words

from dlarch.data.generators import Pairs, check_languages, shuffled

DIGITS = "digits"
"""The "language" in which numbers are written in digits."""

# By the names of `dates`; num2words' plain "pt" is European Portuguese, dates are Brazilian.
_CODES = {code: code for code in ("de", "en", "es", "fr", "it", "nl")} | {"pt": "pt_BR"}

LANGUAGES = (*_CODES, DIGITS)
"""What numbers can be written in."""

COUNT = 10_000
"""How many numbers there are: 0 to 9999."""


def number_pairs(
    source_language: str = "en", target_language: str = DIGITS, *, seed: int = 0
) -> dict[str, Pairs]:
    """Pair each of 0 to 9999 with itself in another writing: (one hundred and one, 101).

    Args:
        source_language: one of `LANGUAGES`; "digits" writes 101.
        target_language: another of them.
        seed: decides which numbers are held out.

    Returns:
        8,000 pairs of "train", 1,000 of "validation", 1,000 of "test"; no number is in two.

    Raises:
        OptionError: for an unknown language, or the same one twice.
    """
    check_languages("numbers", source_language, target_language, LANGUAGES)
    order = shuffled(COUNT, Random(seed))
    pairs = [(write(n, source_language), write(n, target_language)) for n in order]
    train, validation = round(0.8 * COUNT), round(0.1 * COUNT)
    return {
        "train": pairs[:train],
        "validation": pairs[train : train + validation],
        "test": pairs[train + validation :],
    }


def write(number: int, language: str) -> str:
    """A number in the words of one of `LANGUAGES`."""
    if language == DIGITS:
        return str(number)
    words: str = num2words(number, lang=_CODES[language])
    return words.replace(",", "") if language == "pt" else words  # mil novecentos e noventa
