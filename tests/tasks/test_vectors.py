"""Embeddings that start from pretrained vectors."""

import logging

import pytest
import torch
from torch import Tensor, nn, optim

from dlarch import create_data
from dlarch.errors import DataError, MismatchError, OptionError
from dlarch.hub import AutoModel
from dlarch.processing.vectors import read_vectors, write_vectors
from dlarch.spec import PAD
from dlarch.tasks import TextClassifier
from dlarch.tasks.vectors import WordEmbedding, start_from_vectors

SIZE = 6


class MeanOfVectors(TextClassifier):
    """The smallest classifier with an embedding."""

    def __init__(self, vocab_size=None, num_classes=None, vectors=None, freeze=False):
        super().__init__(optimizer=lambda parameters: optim.SGD(parameters, lr=0.5))
        self.save_hyperparameters()
        self.build_if_known()

    def build(self, vocab_size: int, num_classes: int) -> None:
        options = self.hparams
        self.embedding = WordEmbedding(vocab_size, SIZE, options.vectors, options.freeze)
        self.output = nn.Linear(SIZE, num_classes)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.output(self.embedding(tokens).mean(1))

    def on_fit_start(self) -> None:
        super().on_fit_start()
        start_from_vectors(self)


@pytest.fixture
def data(session_cache, monkeypatch):
    monkeypatch.setenv("DLARCH_CACHE", str(session_cache))
    found = create_data("labelled_text", tokens="words", train_size=100, min_frequency=1)
    found.prepare_data()
    found.setup()
    return found


@pytest.fixture
def words(data):
    return data.processor.tokens.tokens_by_id


@pytest.fixture
def path(words, tmp_path):
    """Vectors of every second word."""
    known = words[4::2]
    table = torch.randn(len(known), SIZE, generator=torch.Generator().manual_seed(1))
    write_vectors(tmp_path / "words.vec", known, table)
    return tmp_path / "words.vec"


def test_a_fit_starts_from_the_vectors_of_its_words(data, words, path, make_trainer, caplog):
    model = MeanOfVectors(vectors=str(path), freeze=True)
    with caplog.at_level(logging.INFO, logger="dlarch"):
        make_trainer(limit_train_batches=1).fit(model, datamodule=data)
    assert torch.equal(model.embedding.weight, read_vectors(path, words).table)
    count = len(words[4::2])
    assert f"{path} has vectors for {count} of {len(words) - 4} words" in caplog.text
    assert not model.embedding.weight[PAD].any()


def test_a_fit_starts_from_the_vectors_of_a_spacy_vocabulary(data, words, path, make_trainer):
    spacy = pytest.importorskip("spacy", reason="an extra: pip install 'dlarch[spacy]'")
    vocabulary = spacy.blank("en").vocab
    expected = read_vectors(path, words)
    for word, vector in zip(words[4::2], expected.table[4::2], strict=True):
        vocabulary.set_vector(word, vector.numpy())
    folder = path.parent / "vocab"
    vocabulary.to_disk(folder)
    model = MeanOfVectors(vectors=str(folder), freeze=True)
    make_trainer(limit_train_batches=1).fit(model, datamodule=data)
    assert torch.equal(model.embedding.weight, expected.table)


@pytest.mark.parametrize("freeze", [False, True])
def test_only_what_is_not_frozen_is_trained(data, words, path, make_trainer, freeze):
    model = MeanOfVectors(vectors=str(path), freeze=freeze)
    make_trainer().fit(model, datamodule=data)
    assert model.embedding.weight.requires_grad is not freeze
    assert torch.equal(model.embedding.weight, read_vectors(path, words).table) is freeze


def test_a_model_that_was_loaded_does_not_need_the_file(data, path, make_trainer, tmp_path):
    model = MeanOfVectors(vectors=str(path))
    trainer = make_trainer()
    trainer.fit(model, datamodule=data)
    model.save_pretrained(str(tmp_path / "saved"))
    trainer.save_checkpoint(tmp_path / "saved.ckpt")
    path.unlink()
    weight = model.embedding.weight.detach().clone()
    from_folder = AutoModel.from_pretrained(tmp_path / "saved")
    from_file = MeanOfVectors.load_from_checkpoint(tmp_path / "saved.ckpt", weights_only=True)
    for loaded in (from_folder, from_file):
        assert torch.equal(loaded.embedding.weight, weight)
        make_trainer(limit_train_batches=0).fit(loaded, datamodule=data)
        assert torch.equal(loaded.embedding.weight, weight)
    resumed = MeanOfVectors(vectors=str(path))
    make_trainer(max_epochs=2).fit(
        resumed, datamodule=data, ckpt_path=tmp_path / "saved.ckpt", weights_only=True
    )
    assert not torch.equal(resumed.embedding.weight, weight)  # trained on, from where it was
    assert (resumed.embedding.weight - weight).abs().max() < 1


def test_what_cannot_be_started_from_is_refused(data, path, make_trainer, tmp_path):
    write_vectors(tmp_path / "small.vec", ["hundred"], torch.ones(1, 2))
    with pytest.raises(OptionError) as error:
        make_trainer().fit(MeanOfVectors(vectors=str(tmp_path / "small.vec")), datamodule=data)
    assert str(error.value) == (
        f"{tmp_path / 'small.vec'} has 2 numbers per word, but embedding_size is 6: give "
        "--model.embedding_size 2, or another file."
    )
    with pytest.raises(DataError, match="does not exist"):
        make_trainer().fit(MeanOfVectors(vectors="nowhere.vec"), datamodule=data)
    batch = next(data.in_order("train"))
    with pytest.raises(MismatchError, match=r"words the vectors in .* is not known"):
        make_trainer().fit(MeanOfVectors(30, 2, vectors=str(path)), [batch])


def test_without_vectors_nothing_is_asked_for(data, make_trainer):
    model = MeanOfVectors()
    make_trainer(limit_train_batches=1).fit(model, datamodule=data)
    assert "embedding.filled" not in model.state_dict()
