"""People's names that need no file or download: the lists of the library Faker, by locale.

Faker draws random people; here its lists are read, whole and in their order, so that nothing
depends on a seed. They are those of the installed version of Faker, whose newer versions know more
locales and longer lists. Names come out as Faker has them, but for their white space and Unicode
form: a few are misspelt or carry signs, which `dlarch.data.name_cleaning` mends or drops.
"""

import importlib
import pkgutil
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple
from unicodedata import normalize

import faker.providers.person

from dlarch.errors import OptionError, did_you_mean

NameKind = Literal["first", "last"]
"""Which part of a person's name."""

MIN_NAMES = 200
"""How many distinct names a list must have to be read by default."""

DEFAULT_LOCALES: dict[NameKind, tuple[str, ...]] = {
    "first": (
        "az_AZ",
        "cs_CZ",
        "da_DK",
        "de_DE",
        "en_US",
        "es_ES",
        "fi_FI",
        "fr_FR",
        "hr_HR",
        "hu_HU",
        "id_ID",
        "it_IT",
        "lv_LV",
        "nl_NL",
        "no_NO",
        "pt_BR",
        "ro_RO",
        "sk_SK",
        "sl_SI",
        "sv_SE",
        "tr_TR",
    ),
    "last": (
        "az_AZ",
        "cs_CZ",
        "de_DE",
        "en_US",
        "es_ES",
        "et_EE",
        "fi_FI",
        "fr_FR",
        "ga_IE",
        "hr_HR",
        "it_IT",
        "nl_NL",
        "pl_PL",
        "sk_SK",
        "sv_SE",
        "zu_ZA",
    ),
}
"""Locales that are read when none are asked for: one a language, in Latin script.

Each has at least `MIN_NAMES` distinct names of the kind. Left out are:

- Other scripts, because one vocabulary of characters would fall into parts that share nothing.
- Further locales of a language, because their lists hold each other's names: es_CA has the last
  names of es_ES and fr_QC those of fr_CA, all of en_US's first names are in en, 87% of en_GB's in
  en_NZ, 88% of fr_CA's in fr_FR. What is left could not be told apart by anybody.
- Countries of several languages, whose lists mix them: de_CH, fr_BE, nl_BE.
- Names of another language than the code says: en_IN, en_KE, en_PK and fr_DZ have Indian, Kenyan,
  Pakistani and Algerian names, and most first names of ga_IE and tw_GH are English.
- is_IS and uz_UZ, which Faker 24, the oldest that will do, does not have, and sw, which has no
  country.
"""

# The attributes of Faker's providers that hold names, by kind and gender. Those under None mostly
# repeat the others; a name that stands only there has no gender.
_ATTRIBUTES: dict[NameKind, dict[str | None, tuple[str, ...]]] = {
    "first": {
        "male": ("first_names_male",),
        "female": ("first_names_female",),
        None: ("first_names", "first_names_unisex", "first_names_nonbinary"),
    },
    "last": {
        "male": ("last_names_male",),
        "female": ("last_names_female",),
        # Half of the Polish male_last_names are women's too: Wójcik, Kowalczyk.
        None: (
            *("last_names", "last_names_unisex", "last_names_nonbinary"),
            *("male_last_names", "unisex_last_names"),
        ),
    },
}


class EmbeddedName(NamedTuple):
    """A name of one of the lists."""

    name: str
    gender: str | None
    """`male`, `female`, or None where the list does not tell."""
    locale: str
    """Language and country, such as `cs_CZ`; some of Faker's have no country, such as `en`."""


def embedded_names(kind: NameKind, locales: Sequence[str] | None = None) -> list[EmbeddedName]:
    """The distinct first or last names of some locales, in the order asked and of Faker's lists.

    A first name that is given to both genders comes twice, once with each. A last name has a gender
    only where the language gives it another form for each, as in the Czech Novak and Novakova.

    Args:
        kind: "first" or "last".
        locales: some of `known_locales()`; `DEFAULT_LOCALES[kind]` when not given.

    Returns:
        The names of each locale: male ones, female ones, then those without gender.

    Raises:
        OptionError: for an unknown kind or locale, no locales at all, or a locale without names of
            this kind.
    """
    if kind not in _ATTRIBUTES:
        raise OptionError(f"There are no {kind!r} names; choose one of {', '.join(_ATTRIBUTES)}.")
    if locales is None:
        locales = DEFAULT_LOCALES[kind]
    if isinstance(locales, str):
        raise OptionError(f"locales must be a list; write [{locales}].")
    if not locales:
        raise OptionError(
            f"locales is empty; leave it out for the {len(DEFAULT_LOCALES[kind])} default ones."
        )
    known = known_locales()
    for locale in locales:
        if locale not in known:
            raise OptionError(
                f"There are no names of the locale {locale!r}; choose from "
                f"{', '.join(DEFAULT_LOCALES[kind])}, or the other locales of Faker."
                f"{did_you_mean(locale, known)}"
            )
    return [row for locale in dict.fromkeys(locales) for row in _names_of(kind, locale)]


def known_locales() -> tuple[str, ...]:
    """All locales that the installed Faker has names for, in any script, sorted."""
    return tuple(
        sorted(found.name for found in pkgutil.iter_modules(faker.providers.person.__path__))
    )


def _names_of(kind: NameKind, locale: str) -> list[EmbeddedName]:
    provider = importlib.import_module(f"faker.providers.person.{locale}").Provider
    male, female, others = (
        [name for attribute in attributes for name in _list(provider, attribute)]
        for attributes in _ATTRIBUTES[kind].values()
    )
    if kind == "last":
        # The same last names listed once for men and once for women say nothing about gender.
        both = set(male) & set(female)
        others += [name for name in male if name in both]
        male, female = ([name for name in names if name not in both] for names in (male, female))
    gendered = {*male, *female}
    others = [name for name in others if name not in gendered]
    rows = [
        EmbeddedName(name, gender, locale)
        for gender, names in (("male", male), ("female", female), (None, others))
        for name in dict.fromkeys(names)
    ]
    if not rows:
        raise OptionError(
            f"Faker has no {kind} names of the locale {locale!r}; leave it out, or choose from "
            f"{', '.join(DEFAULT_LOCALES[kind])}."
        )
    return rows


def _list(provider: Any, attribute: str) -> list[str]:
    """The names in one attribute: a tuple or list, or a mapping from name to frequency."""
    names = getattr(provider, attribute, ())
    # John, Jane and Doe are what providers without names of their own inherit. Properties repeat
    # the names of other attributes.
    if names is getattr(faker.providers.person.Provider, attribute, None) or isinstance(
        names, property
    ):
        return []
    return [normalize("NFC", " ".join(name.split())) for name in names]
