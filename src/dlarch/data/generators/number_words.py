"""The numbers 0 to 9999, from words of one language into digits or words of another."""

from random import Random

from num2words import num2words

from dlarch.data.generators import Pairs, check_languages, shuffled
from dlarch.errors import OptionError, did_you_mean

DIGITS = "digits"
"""The "language" in which numbers are written in digits."""

# By the names of `dates`; num2words' plain "pt" is European Portuguese, dates are Brazilian.
_CODES = {code: code for code in ("de", "en", "es", "fr", "it", "nl")} | {"pt": "pt_BR"}

LANGUAGES = (*_CODES, DIGITS)
"""What numbers can be written in."""

COUNT = 10_000
"""How many numbers there are: 0 to 9999."""

TRAINED = 8_000
"""How many of them are for training."""

WORDS = (*range(21), *range(30, 100, 10))
"""Numbers of one word, always for training: what `zero` means, no other number can tell."""


def number_pairs(
    source_language: str = "en",
    target_language: str = DIGITS,
    *,
    train: int = 8_000,
    seed: int = 0,
) -> dict[str, Pairs]:
    """Pair each of 0 to 9999 with itself in another writing: (one hundred and one, 101).

    Args:
        source_language: one of `LANGUAGES`; "digits" writes 101.
        target_language: another of them.
        train: number of training pairs, at most 8,000.
        seed: decides which of the others are held out.

    Returns:
        The pairs of "train", beginning with `WORDS`, 1,000 of "validation", 1,000 of "test"; no
        number is in two.

    Raises:
        OptionError: for an unknown language, the same one twice, or too many training pairs.
    """
    if not 0 <= train <= TRAINED:
        raise OptionError(
            f"number_words has {TRAINED} training pairs, but {train} are asked for: lower "
            "train_size, or leave it out."
        )
    check_languages("numbers", source_language, target_language, LANGUAGES)
    order = sorted(shuffled(COUNT, Random(seed)), key=lambda number: number not in WORDS)
    pairs = [(write(n, source_language), write(n, target_language)) for n in order]
    begin = round(0.9 * COUNT)
    return {
        "train": pairs[:train],
        "validation": pairs[TRAINED:begin],
        "test": pairs[begin:],
    }


def write(number: int, language: str) -> str:
    """A number in the words of one of `LANGUAGES`."""
    if language == DIGITS:
        return str(number)
    words: str = num2words(number, lang=_CODES[language])
    return words.replace(",", "") if language == "pt" else words  # mil novecentos e noventa


def hundreds(language: str, seed: int = 0) -> list[str]:
    """The numbers 0 to 9999 as texts that count up, `one hundred . one hundred and one . `...

    Args:
        language: one of `LANGUAGES`.
        seed: of the order of the texts.

    Returns:
        A text for each hundred; that of 0 to 99, whose words the others need, is the first.

    Raises:
        OptionError: for an unknown language.
    """
    if language not in LANGUAGES:
        raise OptionError(
            f"number_words cannot be written in language {language!r}; choose one of "
            f"{', '.join(LANGUAGES)}.{did_you_mean(language, LANGUAGES)}"
        )
    order = [0, *(place + 1 for place in shuffled(COUNT // 100 - 1, Random(seed)))]
    counted = ([write(100 * place + rest, language) for rest in range(100)] for place in order)
    return [" . ".join(words) + " ." for words in counted]
