import gzip
import logging
import os
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from dlarch.errors import DataError
from dlarch.processing.vector_files import CHUNK, MAX_LINE_BYTES, stream_vectors
from dlarch.processing.vectors import read_vectors
from dlarch.spec import SPECIAL_TOKENS

GLOVE = "cat 1 2.5\ndog -3e-1 4\nParis 5 6\n"


def read(path, *words, dimension=None):
    """The vectors of words, as lists."""
    found = dict(stream_vectors(path, {word.encode() for word in words}, dimension))
    return [found[word.encode()].tolist() for word in words]


def single(*numbers):
    return np.array(numbers, dtype=np.float32).tolist()


def binary(line_end: bytes, *words: tuple[bytes, tuple[float, ...]]) -> bytes:
    content = b"%d %d\n" % (len(words), len(words[0][1]))
    for word, numbers in words:
        content += word + b" " + struct.pack(f"<{len(numbers)}f", *numbers) + line_end
    return content


# Formats --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["words.txt", "words.vec", "words.bin", "words"])
@pytest.mark.parametrize(
    "content",
    [
        GLOVE,
        GLOVE.rstrip("\n"),
        GLOVE.replace("\n", "\r\n"),
        "\ufeff" + GLOVE,
        GLOVE + "\n\n",
        GLOVE.replace(" ", "\t"),
        GLOVE.replace(" ", "  "),
        "3 2\n" + GLOVE,
        "3 2\r\n" + GLOVE.replace("\n", " \r\n"),  # fastText and word2vec.c end lines in a space
        "\ufeff3 2\n" + GLOVE,
    ],
)
def test_text_is_recognised_by_its_content(write, name, content):
    path = write(content, name)
    assert read(path, "dog", "Paris", "cat") == [single(-0.3, 4), [5, 6], [1, 2.5]]


@pytest.mark.parametrize("name", ["words.bin", "words.txt"])
@pytest.mark.parametrize("line_end", [b"", b"\n"])
def test_binary_is_recognised_by_its_content(write, name, line_end):
    words = [(b"cat", (1.0, 2.5, 1e-3)), (b"caf\xc3\xa9", (-0.1, 0.2, -2.0)), (b"dog", (4, 5, 6))]
    path = write(binary(line_end, *words), name)
    assert read(path, "café", "dog", "cat") == [single(*words[n][1]) for n in (1, 2, 0)]


@pytest.mark.parametrize("numbers", [(1.0,), (-2.0,), (2.0,), (0.0,), (0.1,), (1e-30, 0.3)])
def test_even_the_smallest_binary_file_is_recognised(write, numbers):
    assert read(write(binary(b"", (b"a", numbers))), "a") == [single(*numbers)]


def test_bytes_that_look_like_line_ends_or_spaces_are_numbers_in_a_binary_file(write):
    numbers = struct.unpack("<3f", b"\n\n\n>    \n >\n")
    path = write(binary(b"\n", (b"a", numbers), (b"b", numbers), (b"c", (1, 2, 3))))
    assert read(path, "a", "b", "c") == [list(numbers), list(numbers), [1, 2, 3]]


def test_a_binary_file_larger_than_one_chunk(write):
    table = np.random.default_rng(0).normal(size=(4000, 50)).astype(np.float32)
    words = [(b"w%d" % n, tuple(row)) for n, row in enumerate(table.tolist())]
    path = write(binary(b"", *words))
    assert path.stat().st_size > 3 * CHUNK
    assert read(path, *(f"w{n}" for n in range(4000))) == table.tolist()


@pytest.mark.parametrize(
    "content", [GLOVE.encode(), b"3 2\n" + GLOVE.encode(), binary(b"", (b"cat", (1, 2.5)))]
)
def test_gzip_is_recognised_by_its_content(write, content):
    assert read(write(gzip.compress(content, mtime=0)), "cat") == [[1, 2.5]]


def test_words_with_spaces_in_them(write):
    content = "cat 1 2\n. . . 3 4\nat name@domain.com 5 6\n\u00a0 7 8\n\u0085 9 10\n 11 12\n"
    for header in ("", "6 2\n"):
        tokens = (". . .", "at name@domain.com", "\u00a0", "\u0085", "cat", "")
        expected = [[3, 4], [5, 6], [7, 8], [9, 10], [1, 2], [11, 12]]
        assert read(write(header + content), *tokens) == expected


def test_words_that_are_numbers(write):
    assert read(write("1 2 3\n2 3 4\nnan 5 6\n"), "1", "2", "nan") == [[2, 3], [3, 4], [5, 6]]


def test_the_asked_dimension_may_be_that_of_the_file(write):
    assert read(write(GLOVE), "cat", dimension=2) == [[1, 2.5]]


def test_numbers_of_words_that_nobody_wants_are_not_parsed(write):
    assert read(write("cat 1 2\ndog x nan\n"), "cat") == [[1, 2]]


@pytest.mark.skipif("DLARCH_DATA" not in os.environ, reason="DLARCH_DATA is not set")
def test_glove_is_what_numpy_reads():
    name = "glove.twitter.27B.25d.top12k.txt"
    path = Path(os.environ["DLARCH_DATA"], "word_vectors", name)
    if not path.is_file():
        pytest.skip(f"needs $DLARCH_DATA/word_vectors/{name}")
    words = [line.split(" ")[0] for line in path.read_text("utf-8").split("\n") if line]
    columns = range(1, 26)
    table = np.loadtxt(path, usecols=columns, comments=None, delimiter=" ", encoding="utf-8")
    assert len(set(words)) == len(words) > 10_000
    assert read(path, *words, dimension=25) == table.astype(np.float32).tolist()


# Damaged files --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "messages"),
    [
        ("", ["words.txt is empty; give a file of word vectors"]),
        ("\n \n", ["words.txt is empty"]),
        ("3 2\n", ["words.txt holds no words"]),
        ("0 2\n\n", ["words.txt holds no words"]),
        ("cat 1 2\ndog 3\n", ["line 2: 1 number instead of the 2 that the first line has"]),
        ("cat 1 2\n\ndog 3 4 5\n", ["line 3: 3 numbers instead of the 2", "fetch it again"]),
        ("cat 1 2\ndog\n", ["line 2: 0 numbers instead of the 2"]),
        ("2 3\ncat 1 2 3\ndog 1 2\n", ["line 3: 2 numbers instead of the 3", "promises"]),
        ("2 3\ncat 1 2\n", ["line 2: 2 numbers instead of the 3 that the first line promises"]),
        ("dog 1 2\ncat 3 1.2.3\n", ["line 2: '1.2.3' is no number", "correct or remove"]),
        ("dog 1 2\ncat nan 3\n", ["line 2: number 1 of 2 is not finite"]),
        ("dog 1 2\ncat 3 -inf\n", ["line 2: number 2 of 2 is not finite"]),
        ("dog 1 2\ncat 3 1e39\n", ["line 2: number 2 of 2 is not finite in float32"]),
        (b"dog 1 2\n\xff\xfe 3 4\n", ["line 2: byte 0xff, the 1. of the line, is not UTF-8"]),
        (b"cat 1 2\ndog 3 \x80\n", ["line 2: byte 0x80, the 7. of the line, is not UTF-8"]),
        (b"2 2\ncat 1 2\ndog 3 \x80\n", ["line 3: byte 0x80"]),
        (b"\x93NUMPY\x01", ["line 1: byte 0x93, the 1. of the line, is not UTF-8"]),
        ("The cat sat.\nThe dog, too.\n", ["line 1: no numbers after a word", "by spaces"]),
        ("3 0\ncat\n", ["line 1 promises 0 numbers per word; 1 to 65536 can be read"]),
        ("3 70000\ncat 1\n", ["line 1 promises 70000 numbers per word"]),
        ("cat 1" + " " * MAX_LINE_BYTES, [f"line 1 is longer than {MAX_LINE_BYTES} bytes"]),
        (b"PK\x03\x04abc", ["words.txt is a zip archive: unpack it"]),
        (b"\xba\x16\x4f\x2f\x0c\x00", ["words.txt is a model of fastText: give the .vec"]),
        (b"\x80\x04\x95", ["words.txt is a pickle, which is never opened"]),
        (
            gzip.compress(b"cat 1 2\n" * 999, mtime=0)[:-9],
            ["words.txt cannot be unpacked", "fetch it again"],
        ),
        (
            gzip.compress(b"cat 1 2\n" * 999, mtime=0)[:-6] + b"\0" * 6,
            ["words.txt cannot be unpacked: CRC"],
        ),
        (
            gzip.compress(b"cat 1 2\n", mtime=0)[:10] + b"\xff" * 20,
            ["words.txt cannot be unpacked: Error"],
        ),
        (binary(b"", (b"cat", (1, 2)), (b"dog", (3, 4)))[:-1], ["ends within word 2 of 2"]),
        (binary(b"\n", (b"cat", (1, 2)), (b"dog", (3, 4)))[:-9], ["ends within word 2 of 2"]),
        (binary(b"", (b"cat", (1, 2)), (b"dog", (3, 4)))[:-10], ["within word 2", "is cut off"]),
        (binary(b"", (b"dog", (1, 2)), (b"cat", (3, float("nan")))), ["word 2: number 2 of 2 is"]),
        (binary(b"", (b"a", (1, 2)), (b"b" * 5000, (3, 4))), ["word 2 is longer than 4096 bytes"]),
    ],
)
def test_errors_name_the_place_and_the_way_out(write, content, messages):
    path = write(content)
    with pytest.raises(DataError) as error:
        read(path, "cat")
    text = str(error.value)
    for message in (str(path), *messages):
        assert message in text
    assert text.endswith((".", "?"))
    assert "\n" not in text


@pytest.mark.parametrize("content", [GLOVE, "3 2\n" + GLOVE, binary(b"", (b"cat", (1, 2)))])
def test_another_dimension_than_that_of_the_file_is_refused(write, content):
    with pytest.raises(DataError) as error:
        read(write(content), "cat", dimension=100)
    assert (
        "the file has 2 numbers per word, 100 are asked for: give a file that has 100, or"
        in str(error.value)
    )


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError) as error:
        read(tmp_path / "none.txt", "cat")
    assert str(error.value).startswith(f"{tmp_path / 'none.txt'} does not exist; give the path")


@pytest.mark.parametrize(
    "content", [b"9 2\n" + GLOVE.encode(), b"9" + binary(b"", (b"cat", (1, 2)))[1:]]
)
def test_a_header_that_promises_more_words_than_there_are_is_a_warning(write, content, caplog):
    assert read(write(content), "cat")[0][0] == 1
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "promises 9 words in its first line, but holds" in record.message


# spaCy ----------------------------------------------------------------------------------------


@pytest.fixture
def spacy_model(tmp_path):
    spacy = pytest.importorskip("spacy")
    model = spacy.blank("en")
    # LOWER and X are names in spaCy's own symbols, which it does not hash.
    for number, word in enumerate(["cat", "Paris", "LOWER", "X", "café"]):
        model.vocab.set_vector(word, np.array([number, number + 0.1], dtype=np.float32))
    folder = tmp_path / "package" / "model"
    folder.mkdir(parents=True)
    model.to_disk(folder)
    return folder


@pytest.mark.parametrize("folder", [".", "vocab", ".."])
def test_a_spacy_model_is_read_from_its_folder(spacy_model, folder):
    tokens = [*SPECIAL_TOKENS, "café", "CAT", "paris", "LOWER", "X", "cow"]
    aligned = read_vectors((spacy_model / folder).resolve(), tokens, dimension=2)
    assert aligned.found.tolist() == [False] * 4 + [True] * 5 + [False]
    expected = [single(number, number + 0.1) for number in (4, 0, 1, 2, 3)]
    assert aligned.table[4:9].tolist() == expected


def test_errors_of_spacy_models(spacy_model, tmp_path):
    spacy = pytest.importorskip("spacy")
    with pytest.raises(DataError, match="has 2 numbers per word, 3 are asked for"):
        read(spacy_model, "cat", dimension=3)
    assert not list(stream_vectors(spacy_model, {b"cow"}))
    spacy.blank("en").to_disk(tmp_path / "blank")
    with pytest.raises(DataError, match="blank is a spaCy model without vectors; those in _md"):
        read(tmp_path / "blank", "cat")
    for name in ("key2row", "vectors"):
        file = spacy_model / "vocab" / name
        file.write_bytes(file.read_bytes()[:-3])
        with pytest.raises(DataError, match="vocab cannot be read by spaCy: "):
            read(spacy_model, "cat")


def test_without_spacy_its_models_name_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "vocab").mkdir()
    (tmp_path / "vocab" / "vectors").touch()
    for name in ("spacy", "spacy.vectors"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(DataError) as error:
        read(tmp_path, "cat")
    assert str(error.value) == f"To read the spaCy model {tmp_path}, pip install 'dlarch[spacy]'."


def test_any_other_folder_is_refused(tmp_path):
    with pytest.raises(
        DataError, match=r"is a folder, and no spaCy model: it has no vocab/vectors"
    ):
        read(tmp_path, "cat")
