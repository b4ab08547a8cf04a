import tracemalloc

import pytest

from dlarch.data.readers import MAX_LINE_BYTES, read_lines, read_pairs, read_rows
from dlarch.errors import DataError


@pytest.fixture
def write(tmp_path):
    def write(name: str, content: bytes | str):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def pairs(path, columns=None):
    return list(read_pairs(path, "fr", "en", columns))


@pytest.mark.parametrize("name", ["pairs.tsv", "pairs.txt", "pairs.TSV"])
def test_tab_separated_text_comes_out_as_it_stands(write, name):
    path = write(name, 'il dit "oui"\the said "yes\n"a, b\tc\'\u2028d\u0085 \n')
    assert pairs(path) == [('il dit "oui"', 'he said "yes'), ('"a, b', "c'\u2028d\u0085 ")]


def test_byte_order_mark_crlf_and_a_missing_last_line_end_are_no_text(write):
    path = write("pairs.tsv", b"\xef\xbb\xbfun\tone\r\ndeux\ttwo\r\ntrois\tthree")
    assert pairs(path) == [("un", "one"), ("deux", "two"), ("trois", "three")]


def test_a_first_line_that_is_no_header_is_data(write):
    assert pairs(write("pairs.tsv", "un\tone\n")) == [("un", "one")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("pairs.tsv", "en\tid\tfr\none\t7\tun\n"),
        ("pairs.tsv", "\ufeffen\tid\tfr\r\none\t7\tun\r\n"),
        ("pairs.csv", 'en,id,"fr"\none,7,un\n'),
        ("pairs.jsonl", '{"en": "one", "id": 7, "fr": "un"}\n'),
        ("pairs.ndjson", '\n{"translation": {"en": "one", "fr": "un"}, "id": 7}\n'[1:]),
    ],
)
def test_names_in_the_file_decide_which_column_is_which(write, name, content):
    assert pairs(write(name, content)) == [("un", "one")]


def test_the_option_columns_names_columns_and_languages_reverse_the_direction(write):
    path = write("tatoeba.tsv", "Go.\tVa !\tCC-BY\n")
    columns = ["en", "fr", "licence"]
    assert list(read_pairs(path, "fr", "en", columns)) == [("Va !", "Go.")]
    assert list(read_pairs(path, "en", "fr", columns)) == [("Go.", "Va !")]


def test_a_header_equal_to_the_option_columns_is_not_data(write):
    path = write("pairs.tsv", "en\tfr\none\tun\n")
    assert pairs(path, ["en", "fr"]) == [("un", "one")]


def test_csv_quotes_hold_commas_quotes_and_line_ends(write):
    path = write("pairs.csv", '"un, ""deux""","one\ntwo"\nplain,text\n')
    assert pairs(path) == [('un, "deux"', "one\ntwo"), ("plain", "text")]


def test_one_column_can_be_read_alone(write):
    path = write("pairs.csv", "id,fr,en\n7,un,one\n")
    assert list(read_rows(path, ["en"])) == [("one",)]
    assert list(read_rows(write("lines.txt", "one\ntwo\n"), ["text"])) == [("one",), ("two",)]


def test_empty_lines_at_the_end_are_left_out_but_not_those_between(write):
    path = write("pairs.tsv", "un\tone\n\r\n\n")
    assert pairs(path) == [("un", "one")]
    assert list(read_lines(write("lines.txt", "a\n\n\nb\n\n"))) == [
        (1, "a"),
        (2, ""),
        (3, ""),
        (4, "b"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "columns", "messages"),
    [
        ("p.tsv", "", None, ["p.tsv holds no rows"]),
        ("p.tsv", "\n\n", None, ["p.tsv holds no rows"]),
        ("p.tsv", "fr\ten\n", None, ["p.tsv holds no rows"]),
        ("p.tsv", "un\tone\ndeux\n", None, ["p.tsv, line 2: 1 column instead of 2 (fr, en)"]),
        ("p.tsv", "un\tone\n\nx\ty\n", None, ["p.tsv, line 2: 1 column instead of 2"]),
        (
            "p.tsv",
            "un\tone\tCC\n",
            None,
            [
                "p.tsv, line 1: 3 columns instead of 2",
                "option columns",
                "columns: [fr, en, other1]",
            ],
        ),
        ("p.tsv", "un\tone\tCC\n", ["en", "fr"], ["line 1: 3 columns instead of 2 (en, fr)"]),
        ("p.tsv", "un\tone\ndeux\t \n", None, ["p.tsv, line 2: the field of column 'en' is empty"]),
        ("p.tsv", "\tone\n", None, ["p.tsv, line 1: the field of column 'fr' is empty"]),
        (
            "p.tsv",
            b"un\tone\n\xe9t\xe9\tx\n",
            None,
            ["p.tsv, line 2: byte 0xe9 at offset 7", "UTF-8"],
        ),
        ("p.tsv", b"un\tone\nde\0ux\ttwo\n", None, ["p.tsv, line 2: a NUL byte at offset 9"]),
        ("p.tsv", b"x" * (MAX_LINE_BYTES + 1), None, ["p.tsv, line 1 is longer than"]),
        ("p.tsv", "x\ty\n", ["fra", "en"], ["no column 'fr'", "(fra, en)", "Did you mean 'fra'?"]),
        ("p.tsv", "fra\ten\nx\ty\n", None, ["no column 'fr'", "its header", "Did you mean 'fra'?"]),
        ("p.tsv", "x\ty\n", ["en", "fr", "en"], ["same column twice"]),
        ("p.tsv", "fr\ten\tid\n", ["en", "fr"], ["The header of", "but the option columns"]),
        ("p.csv", 'un,one\n"deux,two\n', None, ["p.csv, line 2: not CSV"]),
        ("p.csv", '"a\nb",c\n"d\ne",f,g\n', None, ["p.csv, line 3: 3 columns instead of 2"]),
        ("p.jsonl", '{"fr": "un", "en": "one"}\n{"fr": \n', None, ["p.jsonl, line 2: not JSON"]),
        ("p.jsonl", "[" * 100_000, None, ["p.jsonl, line 1: not JSON"]),
        ("p.jsonl", '["un", "one"]\n', None, ["p.jsonl, line 1: no JSON object", "fr, en"]),
        ("p.jsonl", '{"fr": "x", "eng": "y"}', None, ["no key 'en'", "Did you mean 'eng'?"]),
        ("p.jsonl", '{"fr": "x", "en": 1}', None, ["line 1: key 'en' holds 1, not a text"]),
        ("p.jsonl", '{"fr": "x", "en": "\\ud800"}', None, ["line 1: key 'en' holds a NUL or half"]),
        ("p.jsonl", '{"fr": "x", "en": "y"}', ["fr", "en"], ["leave out the option columns"]),
        ("p.parquet", "x", None, ["ends in '.parquet'", "give the folder"]),
    ],
)
def test_errors_name_file_and_line_and_the_way_out(write, name, content, columns, messages):
    with pytest.raises(DataError) as caught:
        pairs(write(name, content), columns)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    for expected in messages:
        assert expected in message


def test_rows_before_an_error_are_handed_out(write):
    rows = read_pairs(write("p.tsv", "un\tone\nbroken\n"), "fr", "en")
    assert next(rows) == ("un", "one")
    with pytest.raises(DataError, match="line 2"):
        next(rows)


def test_folders_and_missing_files_are_named(tmp_path):
    (tmp_path / "folder.tsv").mkdir()
    with pytest.raises(DataError, match=r"folder\.tsv is a folder"):
        pairs(tmp_path / "folder.tsv")
    with pytest.raises(DataError, match=r"missing\.tsv cannot be read: No such file"):
        pairs(tmp_path / "missing.tsv")


def test_one_column_cannot_be_source_and_target(write):
    with pytest.raises(DataError, match="not different: en, en"):
        list(read_pairs(write("p.tsv", "a\tb\n"), "en", "en"))


@pytest.mark.parametrize(
    ("suffix", "row"),
    [
        ("tsv", "phrase N\tsentence N"),
        ("csv", "phrase N,sentence N"),
        ("jsonl", '{"fr": "phrase N", "en": "sentence N"}'),
    ],
)
def test_memory_does_not_grow_with_the_file(tmp_path, suffix, row):
    def peak(rows: int) -> int:
        path = tmp_path / f"{rows}.{suffix}"
        with path.open("w") as file:
            for n in range(rows):
                file.write(row.replace("N", str(n)) + "\n")
        tracemalloc.start()
        try:
            assert sum(1 for _ in read_pairs(path, "fr", "en")) == rows
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(100)
    assert peak(20_000) < peak(200) + 100_000
