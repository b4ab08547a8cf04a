"""Flat files of ids and texts."""

import pickle

import numpy as np
import pytest
import torch

from dlarch.data import arrays
from dlarch.data.arrays import TextArray, TextWriter, TokenArray, TokenWriter
from dlarch.spec import PAD

ROWS = [[4, 5, 6], [], [7], [8, 9, 10, 11]]


def written(path, rows, vocab_size=20):
    writer = TokenWriter(path, vocab_size)
    for row in rows:
        writer.append(row)
    writer.close()
    assert writer.longest == max(map(len, rows), default=0)
    return TokenArray(path)


def test_sequences_come_back_in_any_order_padded_on_the_right(tmp_path):
    tokens = written(tmp_path / "side", ROWS)
    assert len(tokens) == 4
    assert tokens.lengths.tolist() == [3, 0, 1, 4]
    batch = tokens.gather(np.array([2, 0, 1, 0]))
    assert batch.dtype == torch.int64
    assert batch.tolist() == [[7, PAD, PAD], [4, 5, 6], [PAD] * 3, [4, 5, 6]]
    last = tokens.gather(np.array([3, 2]))  # padding reads past the file's end, if not stopped
    assert last.tolist() == [[8, 9, 10, 11], [7, PAD, PAD, PAD]]


@pytest.mark.parametrize(("vocab_size", "size"), [(65_536, 2), (65_537, 4)])
def test_ids_take_two_bytes_as_long_as_they_fit(tmp_path, vocab_size, size):
    rows = [[vocab_size - 1, 0], [1, vocab_size - 1]]
    tokens = written(tmp_path / "side", rows, vocab_size)
    assert tokens.tokens.dtype.itemsize == size
    assert sum(path.stat().st_size for path in tmp_path.glob("*.tokens.*")) == 4 * size
    assert tokens.gather(np.arange(2)).tolist() == rows
    assert tokens.offsets.dtype == np.int32


def test_blocks_are_written_as_they_fill(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "BLOCK", 8)
    rows = [[i + 4] * (i % 5) for i in range(50)]
    tokens = written(tmp_path / "side", rows, 100)
    for i, row in enumerate(rows):
        assert tokens.gather(np.array([i])).tolist() == [row]


def test_no_sequences_and_only_empty_ones(tmp_path):
    assert len(written(tmp_path / "none", [])) == 0
    assert written(tmp_path / "empty", [[], []]).gather(np.arange(2)).shape == (2, 0)


def test_arrays_pickle_as_their_path(tmp_path):
    many = written(tmp_path / "many", [[5] * 100] * 1000)
    pickled = pickle.dumps(many)
    assert len(pickled) < 500
    again = pickle.loads(pickled)
    assert isinstance(again.tokens, np.memmap)
    assert torch.equal(again.gather(np.arange(3)), many.gather(np.arange(3)))
    writer = TextWriter(tmp_path / "texts")
    writer.append("wörd " * 1000)
    writer.close()
    pickled = pickle.dumps(TextArray(tmp_path / "texts"))
    assert len(pickled) < 500
    assert pickle.loads(pickled)[0] == "wörd " * 1000


def test_texts_come_back_as_they_were(tmp_path):
    texts = ["", "a\tb\n", "Größe 日本 🙂", "x" * 300]
    writer = TextWriter(tmp_path / "texts")
    for text in texts:
        writer.append(text)
    writer.close()
    read = TextArray(tmp_path / "texts")
    assert [read[i] for i in range(len(read))] == texts
    TextWriter(tmp_path / "none").close()
    assert len(TextArray(tmp_path / "none")) == 0
