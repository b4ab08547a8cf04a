import re
from itertools import chain

import pytest

from dlarch.data.generators.number_words import LANGUAGES, hundreds, number_pairs, write
from dlarch.errors import OptionError


def test_every_number_is_in_exactly_one_split():
    pairs = number_pairs("en", "digits")
    assert {split: len(pairs[split]) for split in pairs} == {
        "train": 8000,
        "validation": 1000,
        "test": 1000,
    }
    digits = [int(target) for _, target in chain(*pairs.values())]
    assert sorted(digits) == list(range(10_000))


def test_words_and_digits_mean_the_same_number():
    ones = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    ones += " fifteen sixteen seventeen eighteen nineteen"
    tens = "twenty thirty forty fifty sixty seventy eighty ninety"
    values = {word: n for n, word in enumerate(ones.split())}
    values |= {word: 20 + 10 * n for n, word in enumerate(tens.split())}
    for words, digits in number_pairs("en", "digits", seed=3)["test"]:
        number = 0
        for word in re.findall("[a-z]+", words.replace(" and ", " ")):
            if word == "thousand":
                number *= 1000
            elif word == "hundred":
                number += 99 * (number % 10)
            else:
                number += values[word]
        assert number == int(digits), words


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_two_numbers_are_written_alike(language):
    assert len({write(n, language) for n in range(10_000)}) == 10_000


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("de", "eintausendneunhundertneunundneunzig"),
        ("fr", "mille neuf cent quatre-vingt-dix-neuf"),
        ("pt", "mil novecentos e noventa e nove"),
        ("digits", "1999"),
    ],
)
def test_words_are_those_of_the_language(language, words):
    assert write(1999, language) == words


def test_digits_may_be_the_source():
    forth, back = number_pairs("it", "digits", seed=5), number_pairs("digits", "it", seed=5)
    assert forth["test"] == [(source, target) for target, source in back["test"]]


def test_the_seed_decides_which_numbers_are_held_out():
    tests = [number_pairs("digits", "it", seed=seed)["test"] for seed in (1, 1, 2)]
    assert tests[0] == tests[1]
    assert len(set(tests[0]) & set(tests[2])) == pytest.approx(100, abs=40)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_numbers_of_one_word_are_for_training(seed):
    words = {"zero", "seven", "ten", "thirteen", "twenty", "ninety"}
    assert words < {source for source, _ in number_pairs("en", train=29, seed=seed)["train"]}
    for split in ("validation", "test"):
        held_out = [source for source, _ in number_pairs("en", seed=seed)[split]]
        assert all(re.search("[ -]", source) for source in held_out)


def test_unknown_languages_and_equal_ones_are_refused():
    with pytest.raises(OptionError, match=r"target_language 'digit'.* Did you mean 'digits'"):
        number_pairs("en", "digit")
    with pytest.raises(OptionError, match="both 'digits'"):
        number_pairs("digits", "digits")


def test_hundreds_count_up_and_hold_each_number_once():
    texts = hundreds("en")
    assert texts[0].startswith("zero . one . two . ")
    assert texts == hundreds("en") != sorted(texts)
    found = []
    for text in texts:
        numbers = text.removesuffix(" .").split(" . ")
        found += numbers
        assert len(numbers) == 100
    written = [write(number, "en") for number in range(10_000)]
    assert sorted(found) == sorted(written)
    place = written.index(found[100])
    assert place % 100 == 0
    assert found[100:200] == written[place : place + 100]
    with pytest.raises(OptionError, match="Did you mean 'en'"):
        hundreds("eng")
