"""Long texts: every token once, in streams that go on; sources, splits, bad input, memory."""

import gzip
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from dlarch import create_data
from dlarch.data.corpus_sources import Shares, read_text
from dlarch.data.readers import read_lines
from dlarch.data.streams import evaluation_windows, random_windows, training_streams
from dlarch.errors import DataError, OptionError
from dlarch.spec import BOS, EOS, PAD

TEXT = "".join(f"{number * number % 9973} and {number}.\n" for number in range(400))


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DLARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DLARCH_DATA", raising=False)


@pytest.fixture
def corpus(tmp_path):
    """A data module of a file of some text, or of files by name."""

    def make(files=TEXT, name="text.txt", **options):
        if isinstance(files, str | bytes):
            files = {name: files}
            source = tmp_path / "data" / name
        else:
            source = tmp_path / "data"
        for path, text in files.items():
            path = tmp_path / "data" / path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        data = create_data("text_corpus", **{"source": str(source), "window": 10} | options)
        data.prepare_data()
        data.setup("fit")
        return data

    return make


def text_of(data, split):
    return data.processor.decode([data.dataset(split).tokens.tokens.tolist()])[0]


# ---- plans


@pytest.mark.parametrize("tokens", [7, 16, 100, 1003])
@pytest.mark.parametrize("world", [1, 2])
def test_streams_go_on_and_hold_no_token_twice(tokens, world):
    window, rows = 8, 3
    if tokens <= 16 and world == 2:
        with pytest.raises(OptionError, match="do not make a window of 8 for each of 2"):
            training_streams(tokens, window, rows, seed=0, epoch=0, world_size=2)
        return
    seen = []
    counts = set()
    for rank in range(world):
        plan = training_streams(tokens, window, rows, seed=3, epoch=1, world_size=world, rank=rank)
        counts.add(len(plan))
        assert (plan[0] < 0).all()
        for before, after in pairwise(plan):
            assert np.array_equal(np.where(before < 0, ~before, before)[: len(after)] + 8, after)
        seen += [(index < 0) * ~index + (index >= 0) * index for index in plan]
    assert len(counts) == 1
    starts = np.sort(np.concatenate(seen))
    assert np.array_equal(np.diff(starts), np.full(len(starts) - 1, 8))
    assert starts[0] >= 0
    assert tokens < 8 or starts[-1] + 8 <= tokens
    assert tokens - 8 * len(starts) < 16 + 8 * (world - 1)


def test_windows_come_from_anywhere_and_some_begin():
    plans = [random_windows(10_000, 8, 16, seed=0, epoch=epoch) for epoch in range(6)]
    offsets = set()
    for plan in plans:
        index = np.concatenate(plan)
        starts = np.where(index < 0, ~index, index)
        offsets.add(int(starts[0]) % 8)
        assert (np.diff(starts) != 8).mean() > 0.9
        assert 0.05 < (index < 0).mean() < 0.15
        assert len({*starts}) == len(starts)
        assert len(plan) == len(plans[0])
    assert len(offsets) > 2


@pytest.mark.parametrize("carried", [True, False])
@pytest.mark.parametrize("world", [1, 2])
def test_evaluation_holds_each_token_once(carried, world):
    tokens, window = 53, 8
    seen = []
    for rank in range(world):
        plan = evaluation_windows(tokens, window, 2, carried=carried, world_size=world, rank=rank)
        index = np.concatenate(plan)
        begun = int((index < 0).sum())
        assert begun == (2 if carried else int(rank == 0))
        starts = np.where(index < 0, ~index, index)
        seen.append((starts[:, None] + np.arange(window)).ravel())
    seen = np.concatenate(seen)
    assert sorted(seen[seen < tokens]) == list(range(tokens))


# ---- what a batch holds


def test_a_window_begins_with_the_token_before_it_or_with_bos(corpus):
    data = corpus()
    dataset = data.dataset("train")
    batch = dataset[np.array([~0, ~20, 20])]
    assert batch.tokens.shape == (3, 11)
    assert batch.goes_on.tolist() == [False, False, True]
    assert batch.example.tolist() == [0, 20, 20]
    assert batch.tokens[:, 0].tolist()[:2] == [BOS, BOS]
    assert data.processor.decode(batch.tokens)[0] == TEXT[:10]
    assert data.processor.decode(batch.tokens[2:])[0] == TEXT[19:30]
    assert torch.equal(batch.tokens[1, 1:], batch.tokens[2, 1:])
    last = dataset[np.array([0, len(dataset) - 3])]
    assert last.tokens[1, 4:].tolist() == [PAD] * 7
    assert corpus(reading="windows").dataset("train")[np.array([3])].goes_on is None


def test_a_text_is_divided_by_position(corpus):
    data = corpus(validation_share=0.2, test_share=0.1)
    first, second = int(len(TEXT) * 0.7), int(len(TEXT) * 0.9)
    whole = [text_of(data, split) for split in ("train", "validation", "test")]
    assert whole == [TEXT[:first], TEXT[first:second], TEXT[second:]]
    data = corpus(validation_share=0.1, test_share=0.0)
    assert len(data.dataset("train")) == int(0.9 * len(TEXT))
    assert text_of(data, "test") == text_of(data, "validation") == TEXT[int(0.9 * len(TEXT)) :]


@pytest.mark.parametrize("tokens", ["characters", "words", "bpe"])
def test_pieces_are_encoded_as_the_whole_would_be(corpus, tokens):
    text = TEXT * 12  # several pieces
    data = corpus(text, tokens=tokens, max_vocab_size=300 if tokens == "bpe" else None)
    cut = int(len(text) * (1 - 0.05 - 0.05))
    ids = data.dataset("train").tokens.tokens[1:].tolist()
    assert len(text) > 3 * 2**14
    expected = data.processor.tokens.encode(text[:cut])
    if tokens == "bpe":  # a pair across the ends of two pieces is not merged
        assert len(ids) == pytest.approx(len(expected), rel=1e-3)
        assert text_of(data, "train") == text[:cut]
    else:
        assert ids == expected


# ---- sources


def test_files_of_a_folder_follow_each_other(corpus):
    data = corpus(
        {"a.txt": "one\n" * 50, "c/b.txt": "two" * 30, "d.csv": "x", "b.txt": "six\n" * 50}
    )
    together = "one\n" * 50 + "six\n" * 50 + "two" * 30
    text = "".join(text_of(data, split) for split in ("train", "validation", "test"))
    assert text == together


def test_a_byte_order_mark_and_carriage_returns_are_no_text(corpus):
    data = corpus(b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode())
    assert text_of(data, "train") == TEXT[: len(data.dataset("train"))]


def test_splits_that_are_there_stay(corpus):
    data = corpus({"train.txt": "abcab\n" * 100, "valid.txt": "cab\n" * 5})
    assert text_of(data, "validation") == "cab\n" * 5
    assert text_of(data, "train") + text_of(data, "test") == "abcab\n" * 100
    assert len(data.dataset("test")) == 30


def test_documents_are_files_or_paragraphs(corpus):
    tunes = "".join(f"X:1\nK:C\n|{'CDEFGAB'[n % 7] * (n % 9 + 1)}|\n\n\n" for n in range(300))
    data = corpus(tunes, reading="documents", name="tunes.abc")
    rows = [data.dataset(split) for split in ("train", "validation", "test")]
    texts = {t for t, _ in data.open_source().read("train")}
    assert all(text.startswith("X:1\nK:C\n|") and text.endswith("|\n") for text in texts)
    assert len(rows[0]) > 240
    batch = data.dataset("train")[np.array([0])]
    assert (batch.tokens[0, 0], batch.tokens[0, -1]) == (BOS, EOS)
    # Equal ones stay together.
    others = {t for split in ("validation", "test") for t, _ in data.open_source().read(split)}
    assert not texts & others
    files = {f"{n}.txt": f"text {n}\n\nof two parts" for n in range(99)}
    data = corpus(files, reading="documents", validation_share=0.2, test_share=0.2)
    assert (
        sum(len(data.dataset(split)) for split in ("train", "validation", "test")) == 100
    )  # with that of the single file


def test_rows_of_a_table_and_packed_texts(corpus, tmp_path):
    rows = "text\n" + "".join(f"row {n}\n" for n in range(200))
    data = corpus(rows, name="rows.csv")
    assert text_of(data, "train").count("row ") > 160
    with pytest.raises(OptionError, match="leave the shares out"):
        corpus(rows, name="rows.csv", test_share=0.1)
    packed = corpus(gzip.compress(TEXT.encode()), name="text.txt.gz")
    assert text_of(packed, "train") == text_of(corpus(), "train")


def test_a_readme_is_no_text(corpus, tmp_path):
    """A folder in the Hub's layout has one, of which nobody wants a model."""
    data = corpus({"README.md": "# Of these texts", "a.txt": TEXT})
    assert text_of(data, "train") == TEXT[: len(data.dataset("train"))]
    rows = {"text": [f"row {n}" for n in range(200)]}
    (tmp_path / "hub" / "data").mkdir(parents=True)
    (tmp_path / "hub" / "README.md").write_text("# Of these texts")
    pq.write_table(pa.table(rows), tmp_path / "hub" / "data" / "train-00000-of-00001.parquet")
    data = corpus({}, source=str(tmp_path / "hub"))
    assert text_of(data, "train").count("row ") > 160


def test_numbers_count_up():
    data = create_data("text_corpus")
    data.prepare_data()
    data.setup("fit")
    text = text_of(data, "train")
    assert text.startswith("zero. one. two. three. four. five.")
    assert sum(data.dataset(split).tokens.tokens.tolist().count(
        data.processor.tokens.token_to_id(".")
    ) for split in ("train", "validation", "test")) == 10_000  # fmt: skip


# ---- mistakes


@pytest.mark.parametrize("where", [0, 3, 2**16 - 1, 2**16, 2**17 + 5])
def test_a_byte_that_is_no_text_is_named(tmp_path, where):
    path = tmp_path / "bad.txt"
    good = "añb".encode() * 60_000
    cut = where
    while good[cut] & 0xC0 == 0x80:  # not within a character
        cut += 1
    path.write_bytes(good[:cut] + b"\xff" + good[cut:])
    with pytest.raises(DataError, match=f"bad.txt: byte 0xff at offset {cut} of the file is not"):
        list(read_text(path))
    path.write_bytes(good[:cut] + b"\0" + good[cut:])
    with pytest.raises(DataError, match=f"NUL byte at offset {cut} of the file"):
        list(read_text(path))


@pytest.mark.parametrize(
    ("text", "encoding", "named"),
    [
        ("Guten Tag", "utf-16", "a NUL byte at offset 3 of the file; it looks like UTF-16: save"),
        (
            "日本語",
            "utf-16",
            "byte 0xff at offset 0 of the file is not UTF-8; it looks like UTF-16:",
        ),
        (
            "Guten Tag",
            "utf-16-be",
            "a NUL byte at offset 0 of the file; it looks like UTF-16BE: sa",
        ),
        (
            "Guten Tag",
            "utf-16-le",
            "a NUL byte at offset 1 of the file; it looks like UTF-16LE: sa",
        ),
        ("été", "latin-1", "byte 0xe9 at offset 0 of the file is not UTF-8; convert the file to"),
    ],
)
def test_a_text_in_another_encoding_is_recognised(tmp_path, text, encoding, named):
    path = tmp_path / "foreign.txt"
    path.write_bytes(text.encode(encoding))
    for read in (read_text, read_lines):
        with pytest.raises(DataError) as error:
            list(read(path))
        assert named in str(error.value)
        assert str(error.value).startswith(str(path))


def test_a_text_that_ends_within_a_character_is_named(tmp_path):
    path = tmp_path / "bad.txt"
    path.write_bytes("aé".encode()[:-1])
    with pytest.raises(DataError, match="byte 0xc3 at offset 1 of the file"):
        list(read_text(path))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"reading": "stream"}, "reading must be streams, windows or documents, not 'stream'"),
        ({"window": 0}, "window must be at least 1, not 0"),
        ({"validation_share": 0.0}, "validation_share must be above 0"),
        ({"validation_share": 0.6, "test_share": 0.5}, "both together below 1"),
        ({"train_size": 10}, "max_length and train_size are of documents"),
    ],
)
def test_options_that_cannot_be_are_refused(corpus, options, said):
    with pytest.raises(OptionError, match=said):
        corpus(**options)


def test_a_text_that_is_too_short_and_an_empty_file_are_refused(corpus):
    with pytest.raises(DataError) as error:
        corpus("short")
    assert (
        "text.txt holds 5 characters, of which none are left for validation: give more text, or "
        in str(error.value)
    )
    assert str(error.value).endswith("another validation_share or test_share.")
    with pytest.raises(DataError, match=r"b.txt is empty: write something"):
        corpus({"a.txt": "x", "b.txt": " \n"}, reading="documents")


@pytest.mark.parametrize("reading", ["streams", "windows", "documents"])
def test_an_empty_file_is_named(corpus, reading):
    with pytest.raises(DataError, match=r"data/text.txt is empty: write something, or give"):
        corpus("", reading=reading)


def test_an_empty_file_of_a_split_is_named(corpus):
    with pytest.raises(DataError, match=r"valid.txt is empty: write something, or remove it"):
        corpus({"train.txt": TEXT, "valid.txt": ""})


def test_a_text_without_a_word_is_named(corpus):
    with pytest.raises(DataError, match=r"data/text.txt holds no train text: give more"):
        corpus(" \n" * 100, tokens="words")


def test_shares_of_what_is_not_official():
    shares = Shares(0.1, 0.2)
    assert shares.of("train") == (0.0, pytest.approx(0.7))
    assert shares.of("train", ["validation"]) == (0.0, pytest.approx(0.8))
    assert Shares(0.1, 0.0).of("test") == Shares(0.1, 0.0).of("validation")


# ---- memory

# Not ru_maxrss: across exec that keeps the peak of the process of the tests, which may be larger.
BUILD = """
import sys
from dlarch import create_data
def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
small = create_data("text_corpus", source=sys.argv[1], tokens=sys.argv[3]); small.prepare_data()
before = peak()
data = create_data("text_corpus", source=sys.argv[2], tokens=sys.argv[3])
data.prepare_data(); data.setup("fit")
for batch in data.train_dataloader():
    pass
print(len(data.dataset("train")), (peak() - before) * 1024)
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("level", "fewest", "megabytes"),
    [("characters", 14_000_000, 120), ("words", 1_700_000, 40), ("bpe", 3_000_000, 40)],
)
def test_sixteen_megabytes_need_little_memory(tmp_path, level, fewest, megabytes):
    """Beyond what the libraries need, and a text of 100 kB."""
    if not Path("/proc/self/status").exists():
        pytest.skip("the peak of memory is read from /proc")
    random = np.random.default_rng(0)
    words = np.array(["".join(random.choice(list("etaoinshrdlu"), 7)) for _ in range(5000)])
    for name, count in (("small.txt", 12_000), ("large.txt", 2_000_000)):
        with (tmp_path / name).open("w") as file:
            for _ in range(0, count, 4000):
                line = " ".join(words[random.integers(0, 5000, 4000)])
                file.write(line.replace(" e", "\ne") + "\n")
    assert (tmp_path / "large.txt").stat().st_size == 16_000_000
    done = subprocess.run(
        [sys.executable, "-c", BUILD, *(str(tmp_path / f"{n}.txt") for n in ("small", "large")),
         level], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    tokens, more = map(int, done.stdout.split())
    print(f"\n{tokens:,} tokens, {more / 1e6:.0f} MB more")
    assert tokens > fewest
    assert more < megabytes * 1e6
