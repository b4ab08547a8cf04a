"""The vectors of texts against scikit-learn, and what is left out of them."""

import numpy as np
import pytest
import torch
from lightning import Trainer
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

from dlarch import create_data, create_model
from dlarch.errors import OptionError
from dlarch.hub import AutoModel
from dlarch.processing.vectors import write_vectors
from dlarch.spec import BOS, EOS, PAD, UNK
from dlarch.tasks.vectors import WordEmbedding

INPUTS = ["bag", "tfidf", "mean", "tfidf_mean"]


@pytest.fixture
def data(session_cache, monkeypatch):
    monkeypatch.setenv("DLARCH_CACHE", str(session_cache))
    found = create_data("labelled_text", tokens="words", train_size=300, batch_size=50)
    found.prepare_data()
    found.setup()
    return found


def fitted(data, folder, **options):
    torch.manual_seed(0)
    model = create_model("text_mlp", data, pictures=False, **options)
    Trainer(
        accelerator="cpu", logger=False, max_epochs=1, enable_checkpointing=False,
        enable_model_summary=False, enable_progress_bar=False, default_root_dir=folder,
    ).fit(model, datamodule=data)  # fmt: skip
    return model.eval()


def written(data, split):
    """The texts of a split as their known words with spaces between, and the ids."""
    words = data.processor.tokens.tokens_by_id
    rows = [row for batch in data.in_order(split) for row in batch.tokens.tolist()]
    return [" ".join(words[token] for token in row if token > EOS) for row in rows], rows


@pytest.mark.parametrize("inputs", INPUTS)
def test_the_vector_of_a_text_is_that_of_scikit_learn(data, tmp_path, inputs):
    model = fitted(data, tmp_path, inputs=inputs, hidden_sizes=())
    kind = TfidfVectorizer if inputs.startswith("tfidf") else CountVectorizer
    vocabulary = data.processor.tokens.tokens_by_id[4:]
    vectorizer = kind(vocabulary=vocabulary, token_pattern=r"\S+", lowercase=False)
    vectorizer.fit(written(data, "train")[0])
    texts, rows = written(data, "validation")
    table = vectorizer.transform(texts).toarray()
    if inputs.endswith("mean"):
        table = table / table.sum(1, keepdims=True)
    tokens = torch.nn.utils.rnn.pad_sequence(list(map(torch.tensor, rows)), batch_first=True)
    weight = model.embedding.weight.detach().numpy()[4:]
    wanted = torch.from_numpy(table @ weight).float()
    wanted = model.network(wanted) if inputs.endswith("mean") else wanted + model.bias
    torch.testing.assert_close(model(tokens), wanted, atol=1e-5, rtol=1e-5)
    model.save_pretrained(str(tmp_path / "saved"))
    assert torch.equal(AutoModel.from_pretrained(tmp_path / "saved")(tokens), model(tokens))


@pytest.mark.parametrize("inputs", INPUTS)
def test_texts_of_one_word_of_none_and_padded_ones(inputs):
    torch.manual_seed(0)
    model = create_model("text_mlp", vocab_size=9, num_classes=2, inputs=inputs).eval()
    nothing = model(torch.tensor([[BOS, UNK, UNK, EOS]]))
    assert torch.isfinite(nothing).all()
    one, longer = [BOS, 5, EOS], [BOS, 6, 7, UNK, 6, EOS]
    batch = torch.tensor([[*one, PAD, PAD, PAD], longer])
    alone = torch.cat([model(torch.tensor([row])) for row in (one, longer)])
    torch.testing.assert_close(model(batch), alone)
    assert not torch.allclose(alone[0], nothing[0])
    loss = model(torch.tensor([[BOS, UNK, EOS], one])).logsumexp(1).sum()
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_layers_after_a_bag_are_those_of_a_network_on_counts():
    torch.manual_seed(0)
    model = create_model("text_mlp", vocab_size=9, num_classes=2, inputs="bag", hidden_sizes=(5, 4))
    assert sorted(len(p) for p in model.parameters()) == [2, 2, 4, 4, 5, 9]
    counts = torch.tensor([[0, 0, 0, 0, 2, 0, 1, 0, 0.0]])
    hidden = (counts @ model.embedding.weight + model.bias).relu()
    wanted = model.network[5](model.network[2](hidden).relu())
    torch.testing.assert_close(model(torch.tensor([[BOS, 4, 6, 4, EOS]])), wanted)


def test_means_start_from_vectors(data, tmp_path):
    words = data.processor.tokens.tokens_by_id[4:]
    table = torch.randn(len(words), 7)
    write_vectors(tmp_path / "words.vec", words, table)
    options = {"vectors": str(tmp_path / "words.vec"), "embedding_size": 7, "freeze": True}
    model = fitted(data, tmp_path, **options)
    np.testing.assert_array_equal(model.embedding.weight.detach()[4:], table)
    with pytest.raises(OptionError, match=r"give --model.embedding_size 7"):
        fitted(data, tmp_path, **options | {"embedding_size": 8})


@pytest.mark.parametrize("options", [{"vectors": "x"}, {"freeze": True}])
def test_vectors_are_for_means(options):
    with pytest.raises(OptionError, match=r"give --model.inputs mean"):
        create_model("text_mlp", inputs="bag", **options)


def test_the_embedding_is_the_shared_one():
    model = create_model("text_mlp", vocab_size=9, num_classes=2, freeze=True)
    assert isinstance(model.embedding, WordEmbedding)
    assert not model.embedding.weight.requires_grad
