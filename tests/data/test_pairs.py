"""Pairs by split, from files, folders and generators."""

import json
import random
import sys

import pytest

from dlarch.data import pairs
from dlarch.data.pairs import GENERATORS, GeneratedPairs, StoredPairs, open_pairs
from dlarch.errors import DataError, OptionError

SPLITS = ("train", "validation", "test")
PAIRS = [(f"source {i // 2}", f"target {i}") for i in range(600)]  # every source twice


def opened(source, languages=("en", "fr"), **options):
    defaults = {"columns": None, "train_size": None, "digits": None, "seed": 0}
    return open_pairs(str(source), *languages, **defaults | options)


def by_split(source, *arguments, **options):
    found = opened(source, *arguments, **options)
    return {split: list(found.read(split)) for split in SPLITS}


def everything(found):
    return sorted(pair for part in found.values() for pair in part)


def write_tsv(path, lines):
    path.write_text("".join("\t".join(line) + "\n" for line in lines), encoding="utf-8")
    return path


def write_folder(folder, **splits):
    folder.mkdir()
    for split, lines in splits.items():
        records = (json.dumps({"en": en, "fr": fr}) for en, fr in lines)
        (folder / f"{split}.jsonl").write_text("\n".join(records) + "\n", encoding="utf-8")
    return folder


def test_carved_splits_share_no_source_and_lose_nothing(tmp_path):
    found = by_split(write_tsv(tmp_path / "pairs.tsv", PAIRS))
    sources = {split: {source for source, _ in found[split]} for split in SPLITS}
    assert not sources["train"] & (sources["validation"] | sources["test"])
    assert not sources["validation"] & sources["test"]
    assert everything(found) == sorted(PAIRS)
    assert 0.8 < len(found["train"]) / len(PAIRS) < 0.97
    assert found["validation"]
    assert found["test"]


def test_case_and_space_do_not_carry_a_source_over_to_another_split(tmp_path):
    lines = [(form, "x") for i in range(200) for form in (f"Word {i}", f"word {i}", f"WORD {i} ")]
    found = by_split(write_tsv(tmp_path / "pairs.tsv", lines))
    folded = [{source.strip().casefold() for source, _ in found[split]} for split in SPLITS]
    assert sum(map(len, folded)) == 200


def test_the_order_of_the_file_does_not_matter(tmp_path):
    shuffled = random.Random(1).sample(PAIRS, len(PAIRS))
    one = by_split(write_tsv(tmp_path / "one.tsv", PAIRS))
    other = by_split(write_tsv(tmp_path / "other.tsv", shuffled))
    assert {split: sorted(found) for split, found in one.items()} == {
        split: sorted(found) for split, found in other.items()
    }


def test_the_first_held_out_pairs_of_a_sorted_file_are_not_the_shortest(tmp_path):
    lines = [("x" * length + f" {i}", "y") for length in range(1, 21) for i in range(100)]
    found = by_split(write_tsv(tmp_path / "sorted.tsv", lines))
    assert found["train"] == sorted(found["train"], key=lines.index)
    for split in ("validation", "test"):
        lengths = [len(source.split()[0]) for source, _ in found[split]]
        assert 6 < sum(lengths[:25]) / 25 < 15


def test_a_longer_file_leaves_every_pair_where_it_was(tmp_path):
    short = by_split(write_tsv(tmp_path / "short.tsv", PAIRS[:300]))
    long = by_split(write_tsv(tmp_path / "long.tsv", PAIRS))
    for split in SPLITS:
        assert set(short[split]) <= set(long[split])


def test_swapping_the_languages_reads_the_file_the_other_way(tmp_path):
    path = write_tsv(tmp_path / "pairs.tsv", [("en", "fr"), *PAIRS])
    there, back = by_split(path), by_split(path, ("fr", "en"))
    assert everything(there) == sorted(PAIRS)
    assert everything(back) == sorted((fr, en) for en, fr in PAIRS)
    columns = write_tsv(tmp_path / "headless.tsv", PAIRS)
    named = by_split(columns, ("fr", "en"), columns=["en", "fr"])
    assert named == back


def test_official_splits_stay_as_they_are(tmp_path):
    train, validation, test = PAIRS[:300], PAIRS[200:310], PAIRS[:20]
    folder = write_folder(tmp_path / "set", train=train, validation=validation, test=test)
    assert by_split(folder) == {"train": train, "validation": validation, "test": test}


def test_a_missing_validation_split_is_carved_from_train_never_from_test(tmp_path):
    train, test = PAIRS[:400], PAIRS[:30]
    found = by_split(write_folder(tmp_path / "set", train=train, test=test))
    assert found["test"] == test
    assert sorted(found["train"] + found["validation"]) == sorted(train)
    assert not {pair[0] for pair in found["train"]} & {pair[0] for pair in found["validation"]}
    assert 0 < len(found["validation"]) < 60


def test_train_size_cuts_train_alone(tmp_path):
    path = write_tsv(tmp_path / "pairs.tsv", PAIRS)
    whole, cut = by_split(path), by_split(path, train_size=16)
    assert cut["train"] == whole["train"][:16]
    assert cut["validation"] == whole["validation"]
    assert cut["test"] == whole["test"]


def test_splits_are_looked_up_only_when_they_are_read(tmp_path, monkeypatch):
    """`datasets` takes seconds to import; a cache that is there does without."""
    folder = write_folder(tmp_path / "set", train=PAIRS)
    monkeypatch.setitem(sys.modules, "datasets", None)
    found = opened(folder)
    assert found.content["hash"]
    with pytest.raises(ImportError):
        list(found.read("train"))


def test_a_folder_without_train_is_refused(tmp_path):
    with pytest.raises(DataError, match="no split train, only test"):
        by_split(write_folder(tmp_path / "set", test=PAIRS))


def test_content_depends_on_bytes_columns_and_size(tmp_path):
    path = write_tsv(tmp_path / "pairs.tsv", PAIRS)
    copy = write_tsv(tmp_path / "copy.tsv", PAIRS)
    other = write_tsv(tmp_path / "other.tsv", PAIRS[:-1])
    assert opened(path).content == opened(copy).content
    different = [
        opened(path),
        opened(other),
        opened(path, ("fr", "en")),
        opened(path, columns=["en", "fr"]),
        opened(path, train_size=5),
    ]
    assert len({json.dumps(found.content) for found in different}) == len(different)


@pytest.mark.parametrize("name", sorted(set(GENERATORS) - {"number_words"}))
def test_generated_pairs_are_a_function_of_the_seed(name):
    first = by_split(name, train_size=40)
    assert len(first["train"]) == 40
    assert first == by_split(name, train_size=40)
    assert first != by_split(name, train_size=40, seed=1)
    held_out = {source for source, _ in first["test"]}
    assert not held_out & {source for source, _ in first["train"]}


@pytest.mark.slow
@pytest.mark.parametrize("name", pairs.WITH_LANGUAGES)
def test_sources_in_two_languages_read_either_way(name):
    size = {} if name == "number_words" else {"train_size": 40}
    there, back = by_split(name, ("fr", "en"), **size), by_split(name, ("en", "fr"), **size)
    assert there["test"] != back["test"]
    french = {word for source, _ in there["test"] for word in source.split()}
    english = {word for source, _ in back["test"] for word in source.split()}
    assert "quatre" in french
    assert "quatre" not in english


def test_options_that_do_not_fit_the_source_are_refused(tmp_path):
    with pytest.raises(OptionError, match="no columns"):
        opened("copy", columns=["a", "b"])
    with pytest.raises(OptionError, match="8000 training pairs, but 8001 are asked for: lower"):
        by_split("number_words", ("en", "digits"), train_size=8001)
    with pytest.raises(DataError, match="Did you mean 'dates'"):
        opened("date")


def test_fewer_numbers_are_the_first_of_all_and_the_test_stays():
    few = by_split("number_words", ("fr", "digits"), train_size=100)
    whole = by_split("number_words", ("fr", "digits"))
    assert list(few["train"]) == list(whole["train"])[:100]
    assert list(few["test"]) == list(whole["test"])


def test_digits_are_those_of_the_operands():
    longest = {
        digits: max(len(source) for source, _ in opened("addition", digits=digits).read("test"))
        for digits in (3, 5)
    }
    assert longest == {3: 7, 5: 11}


def test_kinds_of_sources(tmp_path):
    assert isinstance(opened("copy"), GeneratedPairs)
    assert isinstance(opened(write_tsv(tmp_path / "pairs.tsv", PAIRS)), StoredPairs)
