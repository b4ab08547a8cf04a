"""Dates as people write and say them, from one language into another.

Written forms are those of CLDR (through Babel); numbers in words are those of num2words, put
together as each language says a date. A `DateStyle` pairs a form of the source language with one
of the target language. No two forms of a language give the same string for different dates or
targets, so the target is a function of the source.
"""

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import cache
from random import Random

from babel import Locale
from num2words import num2words

from dlarch.data.generators import Pairs, check_languages, shuffled
from dlarch.errors import OptionError

SPLIT_SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}
"""Share of the calendar dates in each split."""

# Source form and target form; what a language calls them stands in `_forms`. Written and said
# forms are paired crosswise, so that most targets spell out numbers, drop them, or are reordered.
_STYLES = (
    ("full", "full"),
    ("long", "said"),
    ("medium", "said"),  # as for long: French writes 1 mars 1999 either way
    ("short_weekday", "said_full"),
    ("weekday_last", "full"),
    ("numeric", "long"),
    ("iso", "said_year_first"),
    ("said", "said"),
    ("said_full", "said_full"),
    ("said_year_first", "said"),
    ("said_numbers", "iso"),
    ("said_year", "numeric"),
)

_UNSEEN = (
    ("numeric", "said"),
    ("iso", "long"),
    ("said", "iso"),
    ("said_full", "medium"),
    ("full", "numeric"),
    ("weekday_last", "said_year_first"),
)
"""Pairs of forms that `date_format_pairs` keeps for the test, each form being seen in others."""


@dataclass(frozen=True)
class _Language:
    """How a language says a date; templates hold the fields of `_fields`.

    Attributes:
        said_day: day and month in words.
        said_numbers: the date as a row of numbers, in words.
        before_year: what stands between said day and said year.
        after_weekday: what stands between weekday and said day.
        days: num2words' kind of number for the day.
        first_day: the same for the first of the month.
        numbers: the same for day and month within `said_numbers`.
        words: num2words' code of the language, where it is not Babel's.
    """

    said_day: str = "{day} {MMMM}"
    said_numbers: str = "{day_number} {month_number} {year}"
    before_year: str = " "
    after_weekday: str = " "
    days: str = "cardinal"
    first_day: str = "ordinal"
    numbers: str = "cardinal"
    words: str | None = None


_LANGUAGES: Mapping[str, _Language] = {
    "de": _Language(
        said_day="der {day} {MMMM}",
        said_numbers="der {day_number} {month_number} {year}",
        after_weekday=", ",
        days="ordinal",
        numbers="ordinal",
    ),
    "en": _Language(
        said_day="the {day} of {MMMM}",
        said_numbers="{month_number} {day_number} {year}",  # Babel's "en" is American
        before_year=", ",
        after_weekday=", ",
        days="ordinal",
    ),
    "es": _Language(said_day="{day} de {MMMM}", before_year=" de ", after_weekday=", "),
    "fr": _Language(),
    "it": _Language(),
    "nl": _Language(first_day="cardinal"),
    "pt": _Language(
        said_day="{day} de {MMMM}",
        before_year=" de ",
        after_weekday=", ",
        words="pt_BR",  # Babel's "pt" is Brazilian
    ),
}

LANGUAGES = tuple(_LANGUAGES)
"""Codes of the languages that dates can be written in."""


@dataclass(frozen=True)
class DateForm:
    """One way to write or say a date in one language; call it with a `datetime.date`."""

    name: str
    language: str
    template: str

    @property
    def has_weekday(self) -> bool:
        """Whether it names the day of the week."""
        return "E}" in self.template

    def __call__(self, day: date) -> str:
        """The date, written out."""
        return self.template.format_map(_fields(self.language, day))


@dataclass(frozen=True)
class DateStyle:
    """A form of the source language and the form of the target language it is translated to."""

    name: str
    source: DateForm
    target: DateForm

    def pair(self, day: date) -> tuple[str, str]:
        """(source, target) of a date."""
        return self.source(day), self.target(day)


def date_styles(source_language: str = "fr", target_language: str = "en") -> list[DateStyle]:
    """The styles in which dates are written, the same twelve for every pair of languages.

    Every source holds day, month and year in full; a target has a weekday only if its source has.

    Raises:
        OptionError: for a language that is not one of `LANGUAGES`, or the same one twice.
    """
    check_languages("dates", source_language, target_language, LANGUAGES)
    sources, targets = _forms(source_language), _forms(target_language)
    return [DateStyle(source, sources[source], targets[target]) for source, target in _STYLES]


def date_pairs(
    source_language: str = "fr",
    target_language: str = "en",
    *,
    train: int = 60_000,
    validation: int = 5_000,
    test: int = 5_000,
    seed: int = 0,
    first_year: int = 1950,
    last_year: int = 2049,
) -> dict[str, Pairs]:
    """Make pairs of dates; the calendar dates of each split occur in no style in another.

    A split takes each of its dates once, in a random style, before it takes any a second time,
    and never the same date and style twice.

    Args:
        source_language: code of the language of the sources, one of `LANGUAGES`.
        target_language: code of the language of the targets.
        train: number of pairs.
        validation: number of pairs.
        test: number of pairs.
        seed: decides dates, splits and styles.
        first_year: first year of the range, at least 1000.
        last_year: last year of the range, included, at most 9999.

    Returns:
        The pairs by split: "train", "validation", "test".

    Raises:
        OptionError: for an unknown language, an empty range, or more pairs than there are.
    """
    styles = date_styles(source_language, target_language)
    sizes = {"train": train, "validation": validation, "test": test}
    return _divided(dict.fromkeys(sizes, styles), sizes, seed, first_year, last_year)


def date_format_pairs(
    source_language: str = "fr",
    target_language: str = "en",
    *,
    train: int = 60_000,
    validation: int = 5_000,
    test: int = 5_000,
    seed: int = 0,
    first_year: int = 1950,
    last_year: int = 2049,
) -> dict[str, Pairs]:
    """Make pairs of dates in every form that is asked for: ("iso: 7 janv. 2001", "2001-01-07").

    Sources begin with the name of the form in which the target is written. All pairs of forms
    occur, except for weekdays that the source does not give; but six of them only in the test.
    What is asked is whether a model writes a known form of a date that it reads in a known form,
    though it has never seen the two together. The calendar dates of a split occur in no other.

    Args:
        source_language: code of the language of the sources, one of `LANGUAGES`.
        target_language: code of the language of the targets.
        train: number of pairs.
        validation: number of pairs, of the forms of training.
        test: number of pairs, of the other forms.
        seed: decides dates, splits and forms.
        first_year: first year of the range, at least 1000.
        last_year: last year of the range, included, at most 9999.

    Returns:
        The pairs by split: "train", "validation", "test", which has the unseen pairs of forms.

    Raises:
        OptionError: as `date_pairs`.
    """
    check_languages("dates", source_language, target_language, LANGUAGES)
    sources, targets = _forms(source_language), _forms(target_language)
    seen: list[DateStyle] = []
    unseen: list[DateStyle] = []
    for source, target in itertools.product(sources.values(), targets.values()):
        if target.has_weekday and not source.has_weekday:
            continue
        asked = replace(source, template=f"{target.name}: {source.template}")
        style = DateStyle(f"{source.name} to {target.name}", asked, target)
        (unseen if (source.name, target.name) in _UNSEEN else seen).append(style)
    styles = {"train": seen, "validation": seen, "test": unseen}
    sizes = {"train": train, "validation": validation, "test": test}
    return _divided(styles, sizes, seed, first_year, last_year)


def _divided(
    styles: Mapping[str, list[DateStyle]],
    sizes: Mapping[str, int],
    seed: int,
    first_year: int,
    last_year: int,
) -> dict[str, Pairs]:
    """Pairs of each split, in its styles, over its own part of the calendar."""
    if not 1000 <= first_year <= last_year <= 9999:
        raise OptionError(
            f"first_year {first_year} and last_year {last_year} are no range of years; "
            "choose 1000 <= first_year <= last_year <= 9999."
        )
    random = Random(seed)
    days = _all_days(first_year, last_year)
    order = shuffled(len(days), random)
    draws = [random.random() for _ in days]

    pairs = {}
    start, share = 0, 0.0
    for split, size in sizes.items():
        share += SPLIT_SHARES[split]
        end = round(share * len(order))
        offsets = [int(draw * len(styles[split])) for draw in draws]
        pairs[split] = _pairs(split, size, days, order[start:end], offsets, styles[split])
        start = end
    return pairs


def _pairs(
    split: str,
    size: int,
    days: list[date],
    chosen: list[int],
    offsets: list[int],
    styles: list[DateStyle],
) -> Pairs:
    """The first `size` pairs over the chosen dates, each date in all its styles before the end."""
    limit = len(chosen) * len(styles)
    if not 0 <= size <= limit:
        raise OptionError(
            f"{size} {split} pairs of dates cannot be made: with these years there can be 0 to "
            f"{limit}; ask for fewer or widen first_year to last_year."
        )
    pairs = []
    for i in range(size):
        lap, position = divmod(i, len(chosen))
        number = chosen[position]
        style = styles[(offsets[number] + lap) % len(styles)]
        pairs.append(style.pair(days[number]))
    return pairs


def _all_days(first_year: int, last_year: int) -> list[date]:
    first = date(first_year, 1, 1)
    return [first + timedelta(n) for n in range((date(last_year, 12, 31) - first).days + 1)]


@cache
def _forms(language: str) -> dict[str, DateForm]:
    """The forms of a language by name."""
    locale = Locale.parse(language)
    own = _LANGUAGES[language]
    full, long, short = (_cldr(locale.date_formats[name]) for name in ("full", "long", "short"))
    medium, short_weekday = (_cldr(locale.datetime_skeletons[name]) for name in ("yMMMd", "yMMMEd"))
    said = own.said_day + own.before_year + "{year}"
    templates = {
        "full": full,
        "long": long,
        "medium": medium,
        "short_weekday": short_weekday,
        "weekday_last": long + " ({EEEE})",
        "numeric": short.replace("{yy}", "{y}"),
        "iso": "{y}-{MM}-{dd}",
        "said": said,
        "said_full": "{EEEE}" + own.after_weekday + said,
        "said_year_first": "{year}, " + own.said_day,
        "said_numbers": own.said_numbers,
        "said_year": long.replace("{y}", "{year}"),
    }
    return {name: DateForm(name, language, text) for name, text in templates.items()}


def _cldr(pattern: object) -> str:
    """Babel's parsed pattern, %(MMMM)s %(d)s, as a template, {MMMM} {d}."""
    return re.sub(r"%\((\w+)\)s", r"{\1}", pattern.format)  # type: ignore[attr-defined]


def _fields(language: str, day: date) -> dict[str, str]:
    """What templates may hold: CLDR's fields by letters, words of numbers by names."""
    return {
        **_weekday_fields(language, day.weekday()),
        **_day_fields(language, day.day),
        **_month_fields(language, day.month),
        **_year_fields(language, day.year),
    }


@cache
def _weekday_fields(language: str, weekday: int) -> dict[str, str]:
    names = Locale.parse(language).days["format"]
    short = names["abbreviated"][weekday]
    return {"E": short, "EEE": short, "EEEE": names["wide"][weekday]}


@cache
def _day_fields(language: str, day: int) -> dict[str, str]:
    own = _LANGUAGES[language]
    return {
        "d": str(day),
        "dd": f"{day:02d}",
        "day": _words(language, day, own.first_day if day == 1 else own.days),
        "day_number": _words(language, day, own.numbers),
    }


@cache
def _month_fields(language: str, month: int) -> dict[str, str]:
    names = Locale.parse(language).months["format"]
    return {
        "M": str(month),
        "MM": f"{month:02d}",
        "MMM": names["abbreviated"][month],
        "MMMM": names["wide"][month],
        "month_number": _words(language, month, _LANGUAGES[language].numbers),
    }


@cache
def _year_fields(language: str, year: int) -> dict[str, str]:
    return {"y": str(year), "year": _words(language, year, "year")}


def _words(language: str, number: int, kind: str) -> str:
    """A number in words, with num2words' slips in years mended."""
    words: str = num2words(number, lang=_LANGUAGES[language].words or language, to=kind)
    if kind == "year":
        if language == "fr":  # numbers that name a year take no plural: mille neuf cent
            words = re.sub(r"(cent|vingt)s$", r"\1", words)
        elif language == "nl":  # one word: negentienhonderdzesentwintig
            words = words.replace(" honderd ", "honderd").replace(" honderd", "honderd")
        elif language == "pt":  # no comma: mil novecentos e vinte e seis
            words = words.replace(",", "")
    return words
