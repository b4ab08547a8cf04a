"""The bridge, with objects that look like torchtext's; tests/torchtext has the real ones."""

import logging
from types import SimpleNamespace

import pytest
import torch

from dlarch.errors import DataError, MismatchError
from dlarch.processing import TextProcessor
from dlarch.processing.torchtext import (
    from_torchtext_vocab,
    to_torchtext_vectors,
    vectors_from_torchtext,
)
from dlarch.spec import SPECIAL_TOKENS, UNK


class Vocab:
    def __init__(self, tokens, default=None):
        self.tokens, self.default = tokens, default

    def get_itos(self):
        return self.tokens

    def get_default_index(self):
        return self.default


def test_special_tokens_move_to_the_front_and_the_rest_keeps_its_order():
    vocab = Vocab(["dog", "</s>", "<unk>", "a", "<pad>", "<s>", "."], default=2)
    processor = from_torchtext_vocab(vocab)
    assert processor.tokens_by_id == (*SPECIAL_TOKENS, "dog", "a", ".")
    assert processor.encode("a dog . cat") == [5, 4, 6, UNK]


def test_what_stands_at_the_default_index_means_unknown():
    processor = from_torchtext_vocab(Vocab(["dog", "oov", "<unk>"], default=1))
    assert processor.tokens_by_id == (*SPECIAL_TOKENS, "dog")
    assert processor.encode("oov cat") == [UNK, UNK]


def test_a_vocabulary_without_special_tokens_or_default_index_gets_them():
    processor = from_torchtext_vocab(SimpleNamespace(itos=["b", "a"]), level="characters")
    assert processor.tokens_by_id == (*SPECIAL_TOKENS, "b", "a")
    assert processor.encode("ab?") == [5, 4, UNK]


def test_pretokenized_text_is_split_at_spaces_only(caplog):
    vocab = Vocab(["<unk>", "do", "n't", "e.g.", "<pad>"], default=0)
    processor = from_torchtext_vocab(vocab, lowercase=True, pretokenized=True)
    assert processor.encode("Do n't e.g. <pad> x") == [4, 5, 6, UNK, UNK]
    assert processor.decode([4, 5, 6]) == "do n't e.g."
    assert TextProcessor.from_dict(processor.to_dict()).encode("n't") == [5]
    assert not caplog.records


def test_tokens_that_are_never_used_are_reported(caplog):
    with caplog.at_level(logging.WARNING, logger="dlarch"):
        from_torchtext_vocab(Vocab(["<unk>", "do", "n't", "a b"], default=0))
    assert "2 of 3 tokens" in caplog.text
    assert "pretokenized=True" in caplog.text


def test_vectors_come_in_the_order_of_the_ids():
    processor = TextProcessor.from_tokens(["dog", "Cat", "bird"], "words")
    table = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]])
    vectors = SimpleNamespace(stoi={"cat": 0, "dog": 1, "<pad>": 2, "<unk>": 3}, vectors=table)
    weight, found = exact = vectors_from_torchtext(vectors, processor)
    assert weight.tolist() == [[0, 0], [7, 8], [0, 0], [0, 0], [3, 4], [0, 0], [0, 0]]
    assert found.tolist() == [False, True, False, False, True, False, False]
    assert exact.coverage == pytest.approx(1 / 3)
    lowered = vectors_from_torchtext(vectors, processor, lower_case_backup=True)
    assert lowered.weight[5].tolist() == [1, 2]
    assert lowered.coverage == pytest.approx(2 / 3)


def test_what_is_not_of_torchtext_is_refused():
    processor = TextProcessor.from_tokens(["dog"], "words")
    with pytest.raises(DataError, match="no torchtext vocabulary"):
        from_torchtext_vocab({"dog": 0})
    with pytest.raises(DataError, match="no torchtext Vectors"):
        vectors_from_torchtext({"dog": 0}, processor)
    with pytest.raises(MismatchError, match=r"\(4, 2\).*\(5, D\)"):
        to_torchtext_vectors(processor, torch.zeros(4, 2))
