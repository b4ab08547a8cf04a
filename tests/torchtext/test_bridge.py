"""With the real torchtext, in an environment of its own: `tox -e torchtext`."""

from collections import OrderedDict

import pytest
import torch

from dlarch.processing import TextProcessor
from dlarch.processing.torchtext import (
    from_torchtext_vocab,
    to_torchtext_vectors,
    to_torchtext_vocab,
    vectors_from_torchtext,
)
from dlarch.spec import SPECIAL_TOKENS, UNK

torchtext_vocab = pytest.importorskip(
    "torchtext.vocab", reason="run by `tox -e torchtext`", exc_type=(ImportError, OSError)
)

LINES = ["the dog barks .", "the cat sleeps .", "a dog sleeps , the cat barks !"]


@pytest.fixture
def vocab():
    vocab = torchtext_vocab.build_vocab_from_iterator(
        (line.split() for line in LINES), specials=["<unk>", "<eos>", "<pad>", "<bos>"]
    )
    vocab.set_default_index(vocab["<unk>"])
    return vocab


def test_a_vocabulary_gives_the_same_tokens(vocab):
    processor = from_torchtext_vocab(vocab)
    ordinary = [token for token in vocab.get_itos() if token not in SPECIAL_TOKENS]
    assert processor.tokens_by_id == (*SPECIAL_TOKENS, *ordinary)
    for line in [*LINES, "the zebra barks ."]:
        theirs = vocab.lookup_tokens(vocab(line.split()))
        assert [processor.id_to_token(index) for index in processor.encode(line)] == theirs


def test_there_and_back_is_the_same(vocab):
    processor = from_torchtext_vocab(vocab)
    back = to_torchtext_vocab(processor)
    assert tuple(back.get_itos()) == processor.tokens_by_id
    assert back.get_default_index() == UNK
    assert from_torchtext_vocab(back) == processor
    for line in [*LINES, "The Zebra barks !"]:
        assert back(processor.tokens(line)) == processor.encode(line)


def test_a_vocabulary_without_default_index_is_read():
    vocab = torchtext_vocab.vocab(OrderedDict(b=2, a=1))
    assert from_torchtext_vocab(vocab).tokens_by_id == (*SPECIAL_TOKENS, "b", "a")


@pytest.mark.parametrize("level", ["characters", "words", "bpe"])
def test_every_level_becomes_a_vocabulary(level):
    processor = TextProcessor.train(LINES, level)
    vocab = to_torchtext_vocab(processor)
    assert [vocab(processor.tokens(line)) for line in LINES] == processor.encode_batch(LINES)


def test_vectors_of_a_file_give_what_torchtext_looks_up(vocab, tmp_path):
    file = tmp_path / "tiny.vec"
    file.write_text("dog 1.0 2.0 3.0\ncat 4.0 5.0 6.0\nzebra 7.0 8.0 9.0\n", encoding="utf-8")
    vectors = torchtext_vocab.Vectors(str(file), cache=str(tmp_path))
    processor = from_torchtext_vocab(vocab)
    weight, found = vectors_from_torchtext(vectors, processor)
    assert torch.equal(weight, vectors.get_vecs_by_tokens(list(processor.tokens_by_id)))
    assert found.sum() == 2


def test_an_embedding_becomes_vectors_and_comes_back(vocab):
    processor = from_torchtext_vocab(vocab)
    weight = torch.randn(processor.vocab_size, 5)
    weight[0] = 0  # padding has no vector
    vectors = to_torchtext_vectors(processor, weight)
    assert torch.equal(vectors["dog"], weight[processor.token_to_id("dog")])
    assert vectors["zebra"].tolist() == [0.0] * 5
    back = vectors_from_torchtext(vectors, processor)
    assert torch.equal(back.weight, weight)
    assert back.coverage == 1.0
