import gzip
import logging
import random
import struct
import tracemalloc

import numpy as np
import pytest
import torch

from dlarch.errors import DataError, OptionError
from dlarch.processing import vectors
from dlarch.processing.vectors import read_vectors, write_vectors
from dlarch.spec import BOS, EOS, PAD, SPECIAL_TOKENS, UNK

GLOVE = "cat 1 2.5\ndog -3e-1 4\nParis 5 6\n"


def read(path, *tokens, **options):
    """The vectors of words alone, as lists."""
    return read_vectors(path, tokens, special=0, **options).table.tolist()


# Alignment with the vocabulary ----------------------------------------------------------------


def test_rows_come_in_the_order_of_the_tokens(write):
    aligned = read_vectors(write(GLOVE), [*SPECIAL_TOKENS, "Paris", "cow", "cat"])
    assert aligned.table.dtype == torch.float32
    assert aligned.table.shape == (7, 2)
    assert aligned.table[[4, 6]].tolist() == [[5, 6], [1, 2.5]]
    assert aligned.found.dtype == torch.bool
    assert aligned.found.tolist() == [False] * 4 + [True, False, True]
    assert aligned.coverage == 2 / 3


def test_padding_is_zeros_even_if_the_file_has_a_vector_for_it(write):
    aligned = read_vectors(write(GLOVE + "<pad> 7 8\n<unk> 9 10\n"), [*SPECIAL_TOKENS, "cat"])
    assert aligned.table[PAD].tolist() == [0, 0]
    assert aligned.table[UNK].tolist() == [9, 10]
    assert aligned.found.tolist() == [False, True, False, False, True]
    assert aligned.coverage == 1


def test_special_tokens_are_not_looked_up_in_other_cases(write):
    aligned = read_vectors(write(GLOVE + "<Unk> 9 10\n"), [*SPECIAL_TOKENS, "cat"])
    assert not aligned.found[UNK]


@pytest.mark.parametrize(
    ("token", "expected"),
    [("CAT", [1, 1]), ("cAt", [2, 2]), ("dog", [4, 4]), ("DOG", [4, 4]), ("New-york", [5, 5])],
)
def test_the_form_as_it_stands_goes_before_lower_case_before_title_case(write, token, expected):
    lines = ["Cat 3 3", "cat 2 2", "CAT 1 1", "Dog 4 4", "New-York 5 5"]
    for order in (lines, lines[::-1]):
        assert read(write("\n".join(order)), token) == [expected]


def test_other_cases_can_be_left_out(write):
    aligned = read_vectors(write(GLOVE), ["cat", "Dog"], special=0, other_cases=False)
    assert aligned.found.tolist() == [True, False]


def test_the_first_of_two_vectors_for_a_word_counts(write):
    assert read(write("cat 1 2\ncat 3 4\n"), "cat", "Cat", "cat") == [[1, 2]] * 3
    assert read(write("cat 1 2\ncat x nan\n"), "cat") == [[1, 2]]


def test_missing_words_are_drawn_like_the_found_ones_and_pad_does_not_count(write):
    generator = np.random.default_rng(3)
    found = generator.normal([0.5, -2.0], [0.1, 3.0], (2000, 2))
    path = write("".join(f"w{n} {x} {y}\n" for n, (x, y) in enumerate(found)))
    words = [f"w{n}" for n in range(2000)] + [f"missing{n}" for n in range(4000)]
    aligned = read_vectors(path, [*SPECIAL_TOKENS, *words])
    drawn = aligned.table[~aligned.found][1:]  # padding is the first
    assert len(drawn) == 4003
    np.testing.assert_allclose(drawn.mean(0), found.mean(0), atol=0.15)
    np.testing.assert_allclose(drawn[:, 0].mean(), found[:, 0].mean(), atol=0.005)
    np.testing.assert_allclose(drawn.std(0), found.std(0), rtol=0.05)
    assert aligned.table[[UNK, BOS, EOS]].unique(dim=0).shape == (3, 2)


def test_the_draw_depends_on_the_seed_alone_and_leaves_the_global_state(write):
    path = write(GLOVE)
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    first = read(path, "cat", "dog", "cow", seed=1)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()
    assert random.getstate() == states[2]
    torch.manual_seed(5)
    np.random.seed(5)
    assert read(path, "cat", "dog", "cow", seed=1) == first
    assert read(path, "cat", "dog", "cow", seed=2)[2] != first[2]


def test_a_single_found_word_has_no_deviation_to_draw_with(write):
    torch.testing.assert_close(
        torch.tensor(read(write(GLOVE), "cow", "cat")[0]), torch.tensor([1, 2.5])
    )


def test_coverage_is_logged(write, caplog):
    with caplog.at_level(logging.INFO, logger=vectors.__name__):
        read(write(GLOVE), "cat", "cow")
    assert "words.txt has vectors for 1 of 2 words (50.0 %)" in caplog.text


def test_a_file_with_none_of_the_words_is_refused(write):
    with pytest.raises(DataError) as error:
        read_vectors(write(GLOVE + "<unk> 1 2\n"), [*SPECIAL_TOKENS, "a", "b", "c", "d"])
    assert "has a vector for none of the 4 words ('a', 'b', 'c'); give vectors" in str(error.value)
    with pytest.raises(DataError, match=r"none of the 1 words \('cat'\)"):
        read(write("dog 1 2\ncat . 3 4\n"), "cat")
    with pytest.raises(DataError, match="none of the 0 words"):
        read_vectors(write(GLOVE), SPECIAL_TOKENS)


@pytest.mark.parametrize(
    ("tokens", "options", "message"),
    [
        (["cat", "dog"], {}, "must begin with <pad>, <unk>, <bos>, <eos>, not with 'cat', 'dog'"),
        ([], {}, "not with nothing; for a list of words alone say special=0"),
        (["cat"], {"special": 5}, "special must be 0 to 4, not 5"),
        (["cat"], {"special": 0, "dimension": 0}, "dimension must be at least 1, not 0"),
    ],
)
def test_options_that_cannot_be_used(write, tokens, options, message):
    with pytest.raises(OptionError) as error:
        read_vectors(write(GLOVE), tokens, **options)
    assert message in str(error.value)


# Memory ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["text", "gzip", "binary"])
def test_memory_does_not_grow_with_the_file(tmp_path, kind):
    path = tmp_path / "words"
    numbers = [0.01 * n for n in range(25)]
    row = (
        struct.pack("<25f", *numbers) if kind == "binary" else b"%f " * 25 % tuple(numbers) + b"\n"
    )
    with gzip.open(path, "wb", compresslevel=1) if kind == "gzip" else path.open("wb") as file:
        file.write(b"200000 25\n")
        file.writelines(b"word%d %b" % (n, row) for n in range(200_000))
    tokens = [*SPECIAL_TOKENS, *(f"word{n}" for n in range(0, 200_000, 100)), "missing"]
    tracemalloc.start()
    try:
        aligned = read_vectors(path, tokens)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert aligned.coverage == 2000 / 2001
    np.testing.assert_allclose(aligned.table[aligned.found], [numbers] * 2000, atol=1e-6)
    assert peak < 4 * aligned.table.numel() + 3e6


# Writing --------------------------------------------------------------------------------------


def test_what_is_written_is_read_back_bit_for_bit(tmp_path):
    bits = np.random.default_rng(0).integers(0, 2**32, 4000, dtype=np.uint32)
    numbers = bits.view(np.float32)
    numbers[~np.isfinite(numbers)] = 1 / 3
    table = torch.from_numpy(numbers.reshape(500, 8)).requires_grad_()
    tokens = [f"wörd{n}" for n in range(500)]
    path = tmp_path / "folder" / "words.vec"
    write_vectors(path, tokens, table)
    back = read_vectors(path, tokens, special=0)
    assert torch.equal(back.table, table)
    assert back.found.all()
    assert [file.name for file in path.parent.iterdir()] == ["words.vec"]


def test_the_file_is_word2vec_text(tmp_path):
    path = tmp_path / "words.vec"
    write_vectors(path, ["<pad>", "é"], torch.tensor([[0.0, 0.0], [0.1, -2.0]]))
    assert path.read_text("utf-8") == "2 2\n<pad> 0 0\né 0.100000001 -2\n"


@pytest.mark.parametrize(
    ("tokens", "number", "message"),
    [
        (["a", " "], 1.0, "cannot hold the token ' '"),
        (["a", "b c"], 1.0, "cannot hold the token 'b c'"),
        (["a", "\n"], 1.0, "cannot hold the token '\\n'"),
        (["a", ""], 1.0, "cannot hold the token ''"),
        (["a", "\ud800"], 1.0, "cannot hold the token '\\ud800'"),
        (["a", "b"], float("nan"), "the vector of 'b' holds a number that is not finite"),
    ],
)
def test_what_cannot_be_written_leaves_the_old_file(tmp_path, tokens, number, message):
    path = tmp_path / "words.vec"
    path.write_text("old")
    with pytest.raises(DataError) as error:
        write_vectors(path, tokens, torch.tensor([[0.0, 0.0], [0.1, number]]))
    assert str(path) in str(error.value)
    assert message in str(error.value)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("words.vec", "old")]


@pytest.mark.parametrize("shape", [(3, 2), (2,), (2, 0)])
def test_a_table_must_have_a_row_for_each_token(tmp_path, shape):
    with pytest.raises(OptionError, match="2 tokens need a table of the shape"):
        write_vectors(tmp_path / "words.vec", ["a", "b"], torch.zeros(shape))


def test_a_place_that_cannot_be_written_to_is_named(write):
    place = write("a file") / "words.vec"
    with pytest.raises(DataError) as error:
        write_vectors(place, ["a"], torch.zeros(1, 2))
    assert str(error.value).startswith(f"{place} cannot be written: ")
