"""Names from embedded lists and files, cleaned and divided."""

import logging

import pytest

from dlarch import create_data
from dlarch.errors import DataError, OptionError

SPLITS = ("train", "validation", "test")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DLARCH_CACHE", str(tmp_path / "cache"))


def opened(source, **options):
    data = create_data("names", source=str(source), **options)
    data.prepare_data()
    data.setup()
    return data


def by_split(data):
    """Names with their classes, of each split."""
    found = {}
    for split in SPLITS:
        found[split] = []
        for batch in data.in_order(split):
            names = data.processor.decode(batch.tokens)
            labels = [None] * len(names)
            if batch.label is not None:
                labels = [data.processor.class_names[label] for label in batch.label]
            found[split] += zip(names, labels, strict=True)
    return found


@pytest.fixture
def lines(tmp_path):
    """A file of 200 names, of which 50 stand twice."""
    path = tmp_path / "names.txt"
    letters = "abcdefghij"
    names = [f"{a}{b}nn" for a in letters for b in letters] + [f"m{a}{b}" for a in letters
             for b in letters[:5]] * 2  # fmt: skip
    path.write_text("\n".join(names) + "\n", encoding="utf-8")
    return path


def test_names_of_a_file_are_distinct(lines):
    found = by_split(opened(lines))
    names = [name for split in SPLITS for name, _ in found[split]]
    assert len(names) == len(set(names)) == 150
    assert [len(found[split]) for split in SPLITS] == [120, 15, 15]
    assert names != by_split(opened(lines, split_seed=1))


def test_or_rows_as_they_come_in_the_order_of_the_lectures(lines):
    """`random.seed(42); random.shuffle(words)`, then 80, 10 and 10 of 100."""
    import random

    words = lines.read_text().split()
    random.Random(42).shuffle(words)
    found = by_split(opened(lines, divide="rows"))
    assert [name for split in SPLITS for name, _ in found[split]] == words
    assert [len(found[split]) for split in SPLITS] == [160, 20, 20]


def test_without_classes_there_is_no_label(lines):
    data = opened(lines)
    assert data.processor.class_names is None
    assert data.spec.num_classes is None
    assert next(iter(data.train_dataloader())).label is None
    with pytest.raises(OptionError, match="no classes: leave out the option classes"):
        opened(lines, classes=["a", "b"])


def test_a_messy_file_is_cleaned_and_the_report_says_so(tmp_path, caplog):
    path = tmp_path / "people.csv"
    rows = [f"Anna{chr(97 + n % 26)}{chr(97 + n // 26)},female" for n in range(60)]
    rows += [f"Otto{chr(97 + n % 26)}{chr(97 + n // 26)},male" for n in range(60)]
    rows += [",female", "Dr. Maria,Female", "  Jean-Pierre  ,male", "PAULA,female", "n/a,male",
             "Rosa,female", "Rosa,female"]  # fmt: skip
    path.write_text("name,gender\n" + "\n".join(rows), encoding="utf-8")
    caplog.set_level(logging.INFO, logger="dlarch")
    source = opened(path, label="gender").open_source()
    everything = [row for split in SPLITS for row in source.read(split)]
    assert len(everything) == 124
    for row in (("Maria", "female"), ("Jean-Pierre", "male"), ("Paula", "female")):
        assert row in everything
    assert everything.count(("Rosa", "female")) == 1
    assert "Read 127 names and kept 125" in caplog.text
    assert "empty" in caplog.text
    assert "1 repeated rows left out" in caplog.text


def test_a_name_of_two_classes_stays_in_one_split(tmp_path):
    path = tmp_path / "both.tsv"
    rows = [f"N{chr(97 + n % 26)}{chr(97 + n // 26)}\t{gender}" for n in range(100)
            for gender in ("female", "male")]  # fmt: skip
    path.write_text("name\tgender\n" + "\n".join(rows), encoding="utf-8")
    found = by_split(opened(path, label="gender"))
    names = [{name for name, _ in found[split]} for split in SPLITS]
    assert sum(map(len, names)) == len(set.union(*names)) == 100
    assert sum(len(found[split]) for split in SPLITS) == 200


def test_a_folder_of_files_called_after_their_classes(tmp_path):
    for language, ending in (("Finnish", "nen"), ("Polish", "ski")):
        names = [f"{chr(65 + n % 26)}{chr(97 + n // 26)}{ending}" for n in range(60)]
        (tmp_path / f"{language}.txt").write_text("\n".join(names), encoding="utf-8")
    data = opened(tmp_path, label="language")
    assert data.processor.label_name == "language"
    for name, language in by_split(data)["test"]:
        assert name.endswith({"Finnish": "nen", "Polish": "ski"}[language])


def test_embedded_names():
    first = opened("first_names", locales=["de_DE", "fi_FI"])
    assert first.processor.class_names == ["female", "male"]
    last = opened("last_names", locales=["de_DE", "fi_FI"])
    assert last.processor.class_names == ["de_DE", "fi_FI"]
    assert ("Virtanen", "fi_FI") in [row for rows in by_split(last).values() for row in rows]
    assert opened("first_names", label="none", locales=["fi_FI"]).spec.num_classes is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"source": "first_names", "label": "age"}, "gender, locale or none, not 'age'"),
        ({"source": "first_names", "locales": ["de_de"]}, "Did you mean 'de_DE'"),
        ({"source": "names.txt", "locales": ["de_DE"]}, "locales are those of first_names and"),
        ({"source": "last_name"}, "Did you mean 'last_names'"),
        ({"divide": "lines"}, "distinct or rows, not 'lines'"),
    ],
)
def test_mistakes_are_named(options, said):
    with pytest.raises((OptionError, DataError), match=said):
        opened(options.pop("source", "first_names"), **options)


def test_a_file_without_names_is_refused(tmp_path):
    path = tmp_path / "none.txt"
    path.write_text("-\n?\n", encoding="utf-8")
    with pytest.raises(DataError, match="There are no names"):
        opened(path)
