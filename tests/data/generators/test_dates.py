from collections import Counter
from datetime import date, timedelta
from itertools import permutations

import pytest
from babel.dates import format_date

from dlarch.data.generators.dates import (
    LANGUAGES,
    date_format_pairs,
    date_pairs,
    date_styles,
)
from dlarch.errors import OptionError

NOVEMBER = date(2026, 11, 23)
MARCH = date(1999, 3, 1)
DAYS = [date(1900, 1, 1) + timedelta(n) for n in range((date(2100, 1, 1) - date(1900, 1, 1)).days)]
RANGE = {"first_year": 1990, "last_year": 2009}
YEARS = [day for day in DAYS if 1990 <= day.year <= 2009]


def style(name: str, source: str, target: str):
    return next(s for s in date_styles(source, target) if s.name == name)


@pytest.mark.parametrize(("source", "target"), [("fr", "en"), ("de", "en")])
def test_target_is_a_function_of_the_source_over_all_dates_and_styles(source, target):
    targets: dict[str, str] = {}
    for each in date_styles(source, target):
        for day in DAYS:
            text, translation = each.pair(day)
            assert targets.setdefault(text, translation) == translation, text
    assert len(targets) > 11 * len(DAYS)


@pytest.mark.parametrize("source", ["en", "es", "it", "nl", "pt"])
def test_no_source_of_other_languages_means_two_dates(source):
    meant: dict[str, tuple[date, str]] = {}
    styles = date_styles(source, "fr")
    for day in DAYS[::5]:
        for each in styles:
            meaning = (day, each.target.name)
            assert meant.setdefault(each.source(day), meaning) == meaning, each.source(day)


def test_every_ordered_pair_of_languages_has_the_same_twelve_styles():
    names = [each.name for each in date_styles("fr", "en")]
    assert len(names) == len(set(names)) == 12
    for source, target in permutations(LANGUAGES, 2):
        styles = date_styles(source, target)
        assert [each.name for each in styles] == names
        for each in styles:
            for text in each.pair(NOVEMBER):
                assert text == text.strip()
                assert not {"{", "}"} & set(text)


def test_some_styles_are_wholly_in_words_and_some_cross_between_digits_and_words():
    kinds = set()
    for each in date_styles("fr", "en"):
        kinds.add(tuple(any(c.isdigit() for c in text) for text in each.pair(NOVEMBER)))
    assert kinds == {(False, False), (False, True), (True, False), (True, True)}


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_target_has_a_weekday_only_if_its_source_has(language):
    other = "en" if language != "en" else "fr"
    for source, target in ((language, other), (other, language)):
        for each in date_styles(source, target):
            weekdays = ["{E" in form.template for form in (each.source, each.target)]
            assert weekdays in ([False, False], [True, True]), each.name


@pytest.mark.parametrize("language", LANGUAGES)
def test_written_forms_are_those_of_babel(language):
    other = "en" if language != "en" else "fr"
    for day in DAYS[::997]:
        assert style("full", language, other).source(day) == format_date(day, "full", language)
        assert style("long", language, other).source(day) == format_date(day, "long", language)


@pytest.mark.parametrize(
    ("source", "target", "name", "day", "pair"),
    [
        (
            "fr",
            "en",
            "said_full",
            NOVEMBER,
            (
                "lundi vingt-trois novembre deux mille vingt-six",
                "Monday, the twenty-third of November, twenty twenty-six",
            ),
        ),
        (
            "fr",
            "en",
            "said",
            MARCH,
            (
                "premier mars mille neuf cent quatre-vingt-dix-neuf",
                "the first of March, nineteen ninety-nine",
            ),
        ),
        (
            "fr",
            "en",
            "said_numbers",
            date(1980, 8, 21),
            ("vingt et un huit mille neuf cent quatre-vingt", "1980-08-21"),
        ),
        ("fr", "en", "full", NOVEMBER, ("lundi 23 novembre 2026", "Monday, November 23, 2026")),
        ("fr", "en", "numeric", MARCH, ("01/03/1999", "March 1, 1999")),
        (
            "fr",
            "en",
            "iso",
            date(1909, 5, 31),
            ("1909-05-31", "nineteen oh-nine, the thirty-first of May"),
        ),
        (
            "de",
            "en",
            "said_full",
            NOVEMBER,
            (
                "Montag, der dreiundzwanzigste November zweitausendsechsundzwanzig",
                "Monday, the twenty-third of November, twenty twenty-six",
            ),
        ),
        (
            "de",
            "en",
            "said",
            MARCH,
            (
                "der erste März neunzehnhundertneunundneunzig",
                "the first of March, nineteen ninety-nine",
            ),
        ),
        (
            "en",
            "nl",
            "said",
            MARCH,
            (
                "the first of March, nineteen ninety-nine",
                "één maart negentienhonderdnegenennegentig",
            ),
        ),
        (
            "es",
            "pt",
            "said",
            MARCH,
            (
                "primero de marzo de mil novecientos noventa y nueve",
                "primeiro de março de mil novecentos e noventa e nove",
            ),
        ),
        (
            "it",
            "fr",
            "said_full",
            MARCH,
            (
                "lunedì primo marzo millenovecentonovantanove",
                "lundi premier mars mille neuf cent quatre-vingt-dix-neuf",
            ),
        ),
    ],
)
def test_dates_are_written_as_people_write_them(source, target, name, day, pair):
    assert style(name, source, target).pair(day) == pair


def test_calendar_dates_of_a_split_occur_in_no_style_in_another():
    date_of = {each.source(day): day for each in date_styles() for day in YEARS}
    pairs = date_pairs(train=20_000, validation=2_000, test=700, **RANGE)
    assert {split: len(pairs[split]) for split in pairs} == {
        "train": 20_000,
        "validation": 2_000,
        "test": 700,
    }
    days = {split: {date_of[source] for source, _ in pairs[split]} for split in pairs}
    assert not days["train"] & days["test"]
    assert not days["train"] & days["validation"]
    assert not days["validation"] & days["test"]
    assert len(days["test"]) == 700  # each date once, while there are dates


def test_all_styles_are_drawn_about_equally_often():
    names = {each.source(day): each.name for each in date_styles() for day in YEARS}
    test = date_pairs(train=0, validation=0, **RANGE)["test"]
    counts = Counter(names[source] for source, _ in test)
    # French writes the medium dates of four months like long ones: the two are counted as one.
    counts["long"] = (counts["long"] + counts.pop("medium")) // 2
    assert len(counts) == 11
    assert all(350 < times < 490 for times in counts.values())  # 5000 / 12 = 417, deviation 20


def test_pairs_are_decided_by_the_seed_alone():
    small = {"train": 2, "validation": 1, "test": 1, "first_year": 2000, "last_year": 2001}
    assert date_pairs(**small) == date_pairs(**small)
    assert date_pairs(**small) != date_pairs(seed=1, **small)
    # Written down once: other machines and Python versions must draw the same.
    assert date_pairs(**small) == PINNED


def test_a_split_never_holds_a_date_and_style_twice():
    year = {"first_year": 2000, "last_year": 2000}
    pairs = date_pairs("de", "en", train=293 * 12, validation=0, test=0, **year)["train"]
    assert len(pairs) == 293 * 12  # 8 of 10 dates of the year in every style
    twice = [source for (source, _), times in Counter(pairs).items() if times > 1]
    # CLDR does not shorten these months, so that medium dates are long ones.
    assert {source.split()[1] for source in twice} == {"März", "Mai", "Juni", "Juli"}
    assert len(pairs) - len(set(pairs)) == len(twice)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"source_language": "frr"},
            "source_language 'frr'; choose one of de, en, es, fr, it, nl, pt",
        ),
        ({"target_language": "ja"}, "target_language 'ja'"),
        ({"target_language": "fr"}, "both 'fr'"),
        ({"first_year": 2000, "last_year": 1999}, "first_year 2000 and last_year 1999"),
        ({"first_year": 99}, "first_year 99"),
        ({"train": 9, "validation": 9, "first_year": 2000, "last_year": 2000}, "5000 test pairs"),
        ({"train": -1}, "-1 train pairs"),
    ],
)
def test_impossible_options_are_refused_by_name(options, message):
    with pytest.raises(OptionError, match=message):
        date_pairs(**options)


PINNED = {
    "train": [
        ("mar. 6 févr. 2001", "Tuesday, the sixth of February, two thousand and one"),
        ("deux mille, dix février", "the tenth of February, two thousand"),
    ],
    "validation": [("10 mai 2000 (mercredi)", "Wednesday, May 10, 2000")],
    "test": [
        ("mardi dix-sept octobre deux mille", "Tuesday, the seventeenth of October, two thousand")
    ],
}


def test_six_pairs_of_forms_are_kept_for_the_test_and_every_form_is_learnt():
    pairs = date_format_pairs(test=3_000, **RANGE)
    forms = {each.source.name: each.source for each in date_styles()}
    written = {each.name: each.source for each in date_styles("en", "fr")}  # the same of English
    # A medium date is a long one where French does not shorten the month.
    known = {forms[name](day): (day, name) for name in forms if name != "medium" for day in YEARS}
    met: dict[str, set[tuple[str, str]]] = {}
    for split, made in pairs.items():
        for text, translation in made:
            asked, _, source = text.partition(": ")
            day, name = known.get(source, (None, "medium"))
            met.setdefault(split, set()).add((name, asked))
            assert day is None or translation == written[asked](day)
    assert len(met["test"]) == 6
    assert not met["test"] & met["train"]
    assert met["validation"] == met["train"]
    assert len(met["train"]) == 12 * 8 + 4 * 4 - 6  # four forms have a weekday
    for side in (0, 1):
        assert {pair[side] for pair in met["test"]} <= {pair[side] for pair in met["train"]}
    days = {
        split: {
            known[source][0] for text, _ in made if (source := text.partition(": ")[2]) in known
        }
        for split, made in pairs.items()
    }
    assert not days["train"] & days["test"]
    assert not days["train"] & days["validation"]
