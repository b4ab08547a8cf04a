from collections import Counter
from unicodedata import name as unicode_name

import pytest

from dlarch.data.name_lists import DEFAULT_LOCALES, MIN_NAMES, embedded_names, known_locales
from dlarch.errors import OptionError

KINDS = ("first", "last")


@pytest.mark.parametrize("kind", KINDS)
def test_default_locales_have_many_names_in_latin_script(kind):
    rows = embedded_names(kind)
    assert tuple(dict.fromkeys(row.locale for row in rows)) == DEFAULT_LOCALES[kind]
    counts = Counter(locale for locale, _ in {(row.locale, row.name) for row in rows})
    assert min(counts.values()) >= MIN_NAMES
    letters = {char for row in rows for char in row.name if char.isalpha()}
    assert {unicode_name(char).split()[0] for char in letters} == {"LATIN"}


@pytest.mark.parametrize("kind", KINDS)
def test_default_locales_have_one_list_a_language_and_no_copies(kind):
    locales = DEFAULT_LOCALES[kind]
    assert len({locale.split("_")[0] for locale in locales}) == len(locales)
    names = {locale: {row.name for row in embedded_names(kind, [locale])} for locale in locales}
    for locale in locales:
        for other in locales:
            if other != locale:
                common = names[locale] & names[other]
                assert len(common) < 0.4 * len(names[locale] | names[other]), (locale, other)


@pytest.mark.parametrize("kind", KINDS)
def test_names_are_distinct_and_without_white_space_at_the_ends(kind):
    rows = embedded_names(kind, [locale for locale in known_locales() if has_names(kind, locale)])
    assert len(set(rows)) == len(rows)
    assert all(row.name and row.name == " ".join(row.name.split()) for row in rows)
    assert {row.gender for row in rows} == {"male", "female", None}


def has_names(kind, locale):
    try:
        return bool(embedded_names(kind, [locale]))
    except OptionError as error:
        assert f"no {kind} names" in str(error)  # noqa: PT017
        return False


def test_first_names_of_default_locales_have_a_gender_and_may_have_both():
    rows = embedded_names("first")
    assert {row.gender for row in rows} == {"male", "female"}
    assert ("Anna", "female", "de_DE") in rows
    assert ("Anna", "male", "de_DE") not in rows
    assert {row.gender for row in rows if row[::2] == ("Taylor", "en_US")} == {"male", "female"}


def test_last_names_have_a_gender_only_where_the_language_tells():
    czech = {row.name: row.gender for row in embedded_names("last", ["cs_CZ"])}
    assert (czech["Novák"], czech["Nováková"]) == ("male", "female")
    assert {row.gender for row in embedded_names("last", ["en_US"])} == {None}
    assert {row.gender for row in embedded_names("last", ["zu_ZA"])} == {None}  # two equal lists
    polish = {row.name: row.gender for row in embedded_names("last", ["pl_PL"])}
    assert (polish["Kowalczyk"], polish["Wandzel"]) == (None, None)


def test_locales_come_in_the_order_asked_and_once():
    rows = embedded_names("last", ["fr_FR", "de_DE", "fr_FR"])
    assert list(dict.fromkeys(row.locale for row in rows)) == ["fr_FR", "de_DE"]
    assert rows == embedded_names("last", ["fr_FR"]) + embedded_names("last", ["de_DE"])
    assert {"Martin", "Bernard"} <= {row.name for row in rows}


def test_every_locale_of_faker_can_be_asked_for():
    assert {"ar_AA", "en", "ja_JP", "ru_RU", *DEFAULT_LOCALES["first"]} <= set(known_locales())
    assert ("山田", None, "ja_JP") not in embedded_names("first", ["ja_JP"])
    assert ("鈴木", None, "ja_JP") in embedded_names("last", ["ja_JP"])


def test_names_of_the_common_provider_are_not_taken_for_those_of_a_locale():
    with pytest.raises(OptionError, match="no last names of the locale 'es'"):
        embedded_names("last", ["es"])
    assert "Doe" not in {row.name for row in embedded_names("last", ["pl_PL"])}


@pytest.mark.parametrize(
    ("kind", "locales", "messages"),
    [
        ("first", ["en_UK"], ["no names of the locale 'en_UK'", "Did you mean 'en_", "de_DE"]),
        ("last", ["DE_de"], ["no names of the locale 'DE_de'", "Did you mean 'de_DE'"]),
        ("first", [], ["locales is empty", "21 default ones"]),
        ("first", "de_DE", ["write [de_DE]"]),
        ("middle", None, ["no 'middle' names", "first, last"]),
    ],
)
def test_errors_name_the_nearest_right_thing(kind, locales, messages):
    with pytest.raises(OptionError) as caught:
        embedded_names(kind, locales)
    for message in messages:
        assert message in str(caught.value)
