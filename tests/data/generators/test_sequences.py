from itertools import chain

import pytest

from dlarch.data.generators.sequences import addition_pairs, copy_pairs, reverse_pairs
from dlarch.errors import OptionError


def operands(source: str) -> frozenset[int]:
    return frozenset(int(number) for number in source.split("+"))


def test_sums_are_right_and_operands_fill_the_range():
    pairs = addition_pairs(3, train=5000, validation=10, test=10)["train"]
    for source, target in pairs:
        a, b = source.split("+")
        assert int(a) + int(b) == int(target)
    drawn = [n for source, _ in pairs for n in operands(source)]
    assert max(drawn) == 999
    assert min(drawn) == 0
    assert sum(drawn) / len(drawn) == pytest.approx(499.5, abs=10)


@pytest.mark.parametrize(("digits", "sizes"), [(1, (45, 5, 5)), (2, (4040, 505, 505))])
def test_of_few_sums_a_tenth_is_held_out_each_time(digits, sizes):
    assert tuple(len(pairs) for pairs in addition_pairs(digits).values()) == sizes


def test_held_out_operands_are_in_no_other_split_in_either_order():
    pairs = addition_pairs(2, train=5000, validation=25, test=25)  # all pairs there are
    keys = {split: {operands(source) for source, _ in pairs[split]} for split in pairs}
    assert {split: len(keys[split]) for split in keys} == {
        "train": 5000,
        "validation": 25,
        "test": 25,
    }
    assert len(set(chain(*keys.values()))) == 5050


def test_more_training_sums_leave_the_test_as_it_was():
    few = addition_pairs(3, train=10, validation=5, test=5)
    many = addition_pairs(3, train=1000, validation=5, test=5)
    assert few["test"] == many["test"]
    assert few["train"] == many["train"][:10]


def test_copy_repeats_and_reverse_turns_round():
    sizes = {"train": 50, "validation": 5, "test": 5}
    assert all(source == target for source, target in copy_pairs("xyz", **sizes)["train"])
    reversed_pairs = reverse_pairs("xyz", **sizes)["train"]
    assert all(source == target[::-1] for source, target in reversed_pairs)
    assert any(source != target for source, target in reversed_pairs)


def test_lengths_and_symbols_are_drawn_evenly():
    pairs = copy_pairs("abcd", min_length=8, max_length=12, train=5000, validation=0, test=0)
    texts = [source for source, _ in pairs["train"]]
    assert len(set(texts)) == 5000
    assert {len(text) for text in texts} == {8, 9, 10, 11, 12}
    assert sum(map(len, texts)) / 5000 == pytest.approx(10, abs=0.1)
    assert "".join(texts).count("a") / sum(map(len, texts)) == pytest.approx(0.25, abs=0.01)


def test_a_string_is_in_the_same_split_whatever_the_seed():
    sizes = {"max_length": 3, "train": 3000, "validation": 100, "test": 100}
    first, second = (copy_pairs("abcdefghijklmnop", seed=seed, **sizes) for seed in (0, 1))
    assert first != second
    texts = [{s: {t for t, _ in pairs[s]} for s in pairs} for pairs in (first, second)]
    assert texts[0]["test"] & texts[1]["test"]
    for split, other in (("train", "test"), ("train", "validation"), ("validation", "test")):
        assert not (texts[0][split] | texts[1][split]) & (texts[0][other] | texts[1][other])


def test_pairs_are_pinned_for_every_machine():
    sizes = {"train": 2, "validation": 0, "test": 1}
    assert addition_pairs(3, **sizes) == {
        "train": [("420+258", "678"), ("511+404", "915")],
        "validation": [],
        "test": [("844+757", "1601")],
    }
    assert reverse_pairs("abc", max_length=6, **sizes) == {
        "train": [("cbabbc", "cbbabc"), ("bb", "bb")],
        "validation": [],
        "test": [("cbcacb", "bcacbc")],
    }


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (addition_pairs, {"digits": 0}, "digits is 0"),
        (addition_pairs, {"digits": 1, "train": 60}, "addition has 55 different sources"),
        (addition_pairs, {"test": -1}, "test of addition is -1"),
        (copy_pairs, {"alphabet": "aa"}, "alphabet of copy is 'aa'"),
        (copy_pairs, {"alphabet": ""}, "alphabet of copy is ''"),
        (copy_pairs, {"min_length": 3, "max_length": 2}, "min_length 3 and max_length 2"),
        (reverse_pairs, {"alphabet": "ab", "max_length": 3}, "reverse has 14 different sources"),
        (
            copy_pairs,
            {"alphabet": "ab", "max_length": 9, "train": 100, "validation": 1, "test": 500},
            "different test strings of 500; ask for fewer",
        ),
    ],
)
def test_impossible_options_are_refused_by_name(make, options, message):
    with pytest.raises(OptionError, match=message):
        make(**options)
