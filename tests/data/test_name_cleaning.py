import csv
import os
from pathlib import Path
from random import Random

import pytest

from dlarch.data.name_cleaning import MAX_EXAMPLES, clean_names
from dlarch.data.name_lists import embedded_names


def cleaned(*names):
    return [name for (name,) in clean_names([(name,) for name in names])[0]]


def counts(rules):
    return {rule.rule: rule.count for rule in rules}


# Names that no rule may touch, in a file where most names are capitalised.
REAL_NAMES = [
    *("Ó Briain", "O'Neil", "Ó hÉadhnú", "a' Cillartráin", "McDonald", "MacLeod", "DeShawn"),
    *("van der Berg", "'t Hooft", "van 't Riet", "'s Gravensande", "d' Heripon", "Ter Avest"),
    *("de la Cruz", "De la fuente", "María del Carmen", "Nuñez y Díaz", "Mª José", "San nicolas"),
    *("da Silva", "dos Santos", "Maria da Conceição de Jesus dos Santos Silva", "Gal·la"),
    *("al-Sayed", "Abd al-Ḥamīd", "Sa'ad", "Ra'", "Md Rahman", "Bin Laden", "N'Guessan"),
    *("D'Angelo", "Dell'Orto", "D'ambrosio", "De angelis", "St pierre", "St. John", "Au-Yong"),
    *("Nguyễn Thị Minh Khai", "Ng", "Ii", "Na", "Nan", "Null", "None", "Shan'Gin", "Tsann-Kay-Si"),
    *("J.-P. Müller", "J.R.R. Tolkien", "H. Dieter", "Wm. Smith", "M. Night Shyamalan", "AJ", "X"),
    *("Don Carlos", "Dean Martin", "Herr", "Miss", "Frau", "Sr", "Mag Ryan", "Sig Hansen"),
    *("Drew", "Misses", "Srinivasan", "Profit", "Mrsić", "Vasile Junior", "Henry VIII"),
    *("Łukasz Żółć", "Groß", "Þór", "Tāne", "Ọ̀ṣun", "Əliyev", "Ƙwai", "Iıiİ"),
    *("Анна", "Лук'ян", "Ελένη", "علاء الدين", "محمد\u200cرضا", "ג'ורג'", "अनन्\u200dत", "प्रिया"),
    *("山田 太郎", "佐々木", "高橋みなみ", "ジョン・スミス", "김민준", "สมชาย", "ნინო", "Արմեն"),
]


@pytest.mark.parametrize("name", REAL_NAMES)
def test_real_names_stay(name):
    rows = [("Anna",), ("Bernd",), (name,)]
    kept, report = clean_names(rows)
    assert kept == rows
    assert (report.changed, report.dropped) == ((), ())


@pytest.mark.parametrize(
    ("rule", "name", "expected"),
    [
        ("encoding", "O&#39;Neil", "O'Neil"),
        ("encoding", "Ren&eacute;e", "Renée"),
        ("encoding", "JosÃ©", "José"),
        ("encoding", "GroÃŸ", "Groß"),
        ("encoding", "MartÃ\u00adnez", "Martínez"),
        ("spelling", "  Anna\t\u00a0 Lena ", "Anna Lena"),
        ("spelling", "Jose\u0301", "José"),
        ("spelling", "O’Neil", "O'Neil"),
        ("spelling", "O`Neil", "O'Neil"),
        ("spelling", "O''Neil", "O'Neil"),
        ("spelling", "Saʻdiya", "Sa'diya"),
        ("spelling", "Jean‐Luc", "Jean-Luc"),
        ("spelling", "Smith–Jones", "Smith-Jones"),
        ("spelling", "Smith--Jones", "Smith-Jones"),
        ("brackets", "Anna (Annie) Smith", "Anna Smith"),
        ("brackets", "Smith [née (late) Jones]", "Smith"),
        ("brackets", "<b>Anna</b>", "Anna"),
        ("brackets", "Smith (Jo", "Smith"),
        ("second names", "Smith, John", "Smith"),
        ("second names", "Jevolojnov,", "Jevolojnov"),
        ("second names", ", Jones", "Jones"),
        ("second names", "Maxa/B", "Maxa"),
        ("second names", "Anna; Bea | Carla", "Anna"),
        ("signs", "Rafaj1", "Rafaj"),
        ("signs", "1. Anna", "Anna"),
        ("signs", "Lu:", "Lu"),
        ("signs", "(Anna)", "Anna"),
        ("signs", "'Anna'", "Anna"),
        ("signs", "Anna - Lena", "Anna Lena"),
        ("signs", "Anna_Lena", "Anna Lena"),
        ("signs", "-Anna-", "Anna"),
        ("signs", "Anna ☺", "Anna"),
        ("signs", "\u200bAn\u00adna\ufeff", "Anna"),
        ("signs", "An\u200dna", "Anna"),
        ("signs", 'William "Bill" Smith', "William Bill Smith"),
        ("titles", "Mr Smith", "Smith"),
        ("titles", "mrs. Smith", "Smith"),
        ("titles", "Prof. Dr. Weiß", "Weiß"),
        ("titles", "Dr.Smith", "Smith"),
        ("titles", "Herr Herr", "Herr"),
        ("titles", "Sra. de la Cruz", "de la Cruz"),
        ("titles", "Dott.ssa Rossi", "Rossi"),
        ("titles", "Mme D'Arc", "D'Arc"),
        ("suffixes", "Davis Jr.", "Davis"),
        ("suffixes", "Davis sr", "Davis"),
        ("suffixes", "Davis III", "Davis"),
        ("suffixes", "Davis Ph.D.", "Davis"),
        ("suffixes", "Davis Jr MD", "Davis"),
    ],
)
def test_rules_mend_and_are_reported(rule, name, expected):
    rows = [("Anna",), ("Bernd",), (name,)]
    kept, report = clean_names(rows)
    assert kept == [("Anna",), ("Bernd",), (expected,)]
    assert rule in counts(report.changed)
    assert (report.read, report.kept, report.dropped) == (3, 3, ())
    assert cleaned(name.upper() if name.isascii() else name)  # in capitals too, nothing is dropped


@pytest.mark.parametrize(
    ("reason", "name"),
    [
        ("empty", ""),
        ("empty", " \u00a0\n"),
        ("placeholders", "n/a"),
        ("placeholders", " N/A "),
        ("placeholders", "#N/A"),
        ("placeholders", "Unknown"),
        ("placeholders", "(unknown)"),
        ("placeholders", "no name"),
        ("placeholders", "NULL"),
        ("placeholders", "nan"),
        ("placeholders", "NaN"),
        ("no letters", "-"),
        ("no letters", "?"),
        ("no letters", "--"),
        ("no letters", "12345"),
        ("no letters", "☺"),
        ("broken words", "M?ller"),
        ("broken words", "M\ufffdller"),
        ("broken words", "Andr\ufffd"),
        ("broken words", "Sm1th"),
        ("broken words", "john@example.com"),
        ("mixed scripts", "P\u0430ul"),
        ("mixed scripts", "Akyer\u03b5"),
        ("mixed scripts", "Anna Васовa"),
        ("too long", "A" * 61),
        ("too long", "This is not a name but a whole sentence"),
    ],
)
def test_rows_that_are_no_names_are_dropped(reason, name):
    kept, report = clean_names([("Anna",), (name,), ("Bernd",)])
    assert kept == [("Anna",), ("Bernd",)]
    assert counts(report.dropped) == {reason: 1}
    assert (report.read, report.kept) == (3, 2)


def test_case_follows_most_names_of_the_file():
    capitalised = ["Anna", "Bernd", "Clara", "McDonald", "van der Berg", *"ABCDEFGH"]
    capitalised += [name + "a" for name in "ABCDEFGHI"]
    odd = ["O'NEIL", "JEAN-PIERRE", "anna", "VAN DER BERG", "'T HOOFT", "SA'AD", "DELL'ORTO"]
    mended = ["O'Neil", "Jean-Pierre", "Anna", "Van Der Berg", "'t Hooft", "Sa'ad", "Dell'Orto"]
    more = {"İBRAHİM": "İbrahim", "j.p. morgan": "J.P. Morgan", "ÉMILE": "Émile", "анна": "Анна"}
    kept, report = clean_names([(name,) for name in [*capitalised, *odd, *more]])
    assert kept == [(name,) for name in [*capitalised, *mended, *more.values()]]
    assert counts(report.changed) == {"case": 11}


@pytest.mark.parametrize(
    "names",
    [
        ["emma", "unknown", "nan", "o'neil"],  # as they are in lists of the US government
        ["EMMA", "NAN", "JEAN-PIERRE", "O'NEIL", "Bob"],
        ["Emma", "JEAN", "bob"],
        ["JT", "Emma", "Bob"],
        ["山田", "emma"],
    ],
)
def test_case_stays_where_it_is_the_files_own_or_not_clear(names):
    assert cleaned(*names) == names


def test_labels_are_stripped_and_written_as_most_are():
    rows = [("Anna", "female "), ("Bea", "Female", "x")[:2], ("Clara", "female"), ("Dora", " ")]
    rows += [("Emil", "Male"), ("Fritz", "male"), ("", " ")]
    kept, report = clean_names(rows)
    assert [label for _, label in kept] == ["female", "female", "female", "Male", "Male"]
    assert counts(report.changed) == {"labels": 3}
    assert counts(report.dropped) == {"empty label": 1, "empty": 1}


def test_each_column_of_labels_is_merged_alone():
    rows = [("Anna", "F", "de"), ("Bea", "f", "DE"), ("Clara", "f", "DE")]
    assert [row[1:] for row in clean_names(rows)[0]] == [("f", "DE")] * 3


def test_duplicates_and_order_stay_and_rows_may_come_from_an_iterator():
    names = ["Bernd", "Anna", "Bernd"]
    assert clean_names((name,) for name in names)[0] == [(name,) for name in names]
    assert clean_names(iter([]))[0] == []


def test_the_report_says_in_one_paragraph_what_was_done():
    names = [
        "Anna",
        "Bea",
        "",
        "Dr. Smith",
        "Mr Jones",
        "Mrs Miller",
        "Miss Moore",
        "M?ller",
        "Яна",
    ]
    _, report = clean_names([(name,) for name in names])
    assert report.text() == (
        "Read 9 names and kept 7. Dropped: empty 1 (''), broken words 1 ('M?ller'). "
        "Changed: titles 4 ('Dr. Smith' -> 'Smith', 'Mr Jones' -> 'Jones', "
        "'Mrs Miller' -> 'Miller', ...). Scripts: Latin 6, Cyrillic 1."
    )
    assert report.scripts == {"Latin": 6, "Cyrillic": 1}
    assert len(report.changed[0].examples) == MAX_EXAMPLES


def test_examples_are_short_and_on_one_line():
    text = clean_names([("a\n" * 1000,), ("Anna\n",)])[1].text()
    assert len(text) < 300
    assert "\n" not in text


def test_a_report_without_changes_is_short():
    assert clean_names([("Anna",), ("Bea",)])[1].text() == "Read 2 names and changed none."


def test_scripts_are_counted_by_name():
    report = clean_names([("Anna",), ("高橋みなみ",), ("Анна Anna",)])[1]
    assert report.scripts == {"Latin": 2, "CJK": 1, "Hiragana": 1, "Cyrillic": 1}


PIECES = [
    *(
        "Anna",
        "anna",
        "ANNA",
        "O'NEIL",
        "van der",
        "Dr.",
        "mr ",
        "Jr.",
        " III",
        "PhD",
        "MD",
        "NULL",
    ),
    *("unknown", "n/a", "n.a.", "NaN", "na", "NA", "é", "e\u0301", "Ã©", "Ã", "\u00ad", "š", "ß"),
    *(
        "İ",
        "ı",
        "ŉ",
        "ǆ",
        "Σ",
        "ς",
        "ა",
        "Ა",
        "ª",
        "²",
        "Ⅲ",
        "ー",
        "・",
        "·",
        "山",
        "み",
        "ｱ",
        "Ａ",
    ),
    *("а", "Б", "ع", "\u200c", "\u200d", "\u0301", "प", "्", "&#39;", "&amp;", "&eacute;", "&#x80;"),
    *(
        "(",
        ")",
        "[",
        "<",
        ">",
        ",",
        ";",
        "/",
        "|",
        "-",
        "--",
        "–",
        "'",
        "''",
        "’",
        "`",
        ".",
        "..",
        "?",
    ),
    *(
        "_",
        "&",
        ":",
        "@",
        "1",
        '"',
        "\ufffd",
        "\ud800",
        "\ufeff",
        "☺️",
        "\0",
        "\n",
        "\u00a0",
        " ",
        " ",
    ),
]


def test_any_text_is_cleaned_once_and_for_all():
    random = Random(0)
    for _ in range(300):
        rows = []
        for _ in range(random.randrange(12)):
            pieces = random.choices(PIECES, k=random.randrange(1, 7))
            name = random.choice(["Anna", "BOB", "null", "NA", "unknown", "".join(pieces)])
            rows.append((name, random.choice(["F", "f ", "", "É", "e\u0301", "m"])))
        kept, report = clean_names(rows)
        assert all(name.strip() and label.strip() for name, label in kept)
        assert report.read == len(rows)
        assert report.kept == len(kept)
        assert report.read == report.kept + sum(rule.count for rule in report.dropped)
        assert all(0 < rule.count <= len(kept) for rule in report.changed)
        again, second = clean_names(kept)
        assert again == kept, rows
        assert (second.changed, second.dropped) == ((), ())
        assert second.scripts == report.scripts
        report.text().encode()


def test_embedded_names_are_nearly_all_clean():
    for kind in ("first", "last"):
        rows = [(row.name, row.locale) for row in embedded_names(kind)]
        kept, report = clean_names(rows)
        assert len(rows) - len(kept) <= 5
        assert sum(rule.count for rule in report.changed) <= 20


@pytest.fixture
def names_folder():
    folder = Path(os.environ.get("DLARCH_DATA", "")) / "names"
    if not os.environ.get("DLARCH_DATA") or not folder.is_dir():
        pytest.skip("needs $DLARCH_DATA/names")
    return folder


def test_the_names_of_makemore_stay(names_folder):
    rows = [(name,) for name in (names_folder / "makemore/names.txt").read_text().splitlines()]
    kept, report = clean_names(rows)
    assert kept == rows
    assert report.text() == "Read 32,033 names and changed none."


def test_surnames_of_18_languages_lose_stray_signs_only(names_folder):
    path = names_folder / "surnames18/surnames18.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = [(name, language) for name, language in csv.reader(file)][1:]
    kept, report = clean_names(rows)
    assert (report.read, report.kept) == (20_074, 20_074)
    assert counts(report.changed) == {"signs": 4, "second names": 4, "spelling": 1, "case": 1}
    changes = {before[0]: after[0] for before, after in zip(rows, kept, strict=True)}
    assert {before: after for before, after in changes.items() if before != after} == {
        "Lu:": "Lu",
        "Maxa/B": "Maxa",
        "Rafaj1": "Rafaj",
        "Urbanek1": "Urbanek",
        "Whitmire1": "Whitmire",
        "Jevolojnov,": "Jevolojnov",
        "Lysansky,": "Lysansky",
        "Lytkin,": "Lytkin",
        "To The First\u00a0 Page": "To The First Page",
        "an": "An",
    }
