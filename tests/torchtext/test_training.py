"""The text path on the torch of torchtext: from its vocabulary to a trained model and back."""

import random

import pytest
import torch

import dlarch
from dlarch.processing import TranslationProcessor
from dlarch.processing.torchtext import from_torchtext_vocab, vectors_from_torchtext

torchtext_vocab = pytest.importorskip(
    "torchtext.vocab", reason="run by `tox -e torchtext`", exc_type=(ImportError, OSError)
)

WORDS = {"un": "one", "deux": "two", "trois": "three", "quatre": "four", "cinq": "five"}


@pytest.fixture
def pairs(tmp_path):
    draw = random.Random(0)
    lines = ["fr\ten"]
    for _ in range(400):
        words = draw.choices(list(WORDS), k=draw.randint(1, 6))
        lines.append(" ".join(words) + "\t" + " ".join(WORDS[word] for word in words))
    path = tmp_path / "pairs.tsv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_the_packages_that_the_text_path_needs_can_be_imported():
    import datasets
    import lightning

    assert torch.__version__.startswith("2.3.")
    assert lightning.__version__.startswith("2.6.")
    assert datasets.Dataset.from_dict({"a": [1]}).to_list() == [{"a": 1}]


def test_a_model_trains_translates_and_loads_with_a_vocabulary_of_torchtext(
    pairs, tmp_path, monkeypatch
):
    monkeypatch.setenv("DLARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DLARCH_RUNS", str(tmp_path / "runs"))
    sides = []
    for words in (list(WORDS), list(WORDS.values())):
        vocab = torchtext_vocab.build_vocab_from_iterator([words], specials=["<unk>", "<pad>"])
        vocab.set_default_index(0)
        sides.append(from_torchtext_vocab(vocab))
    processor = TranslationProcessor(*sides, source_language="fr", target_language="en")
    data = dlarch.create_data("translation", source=str(pairs), batch_size=16, processor=processor)
    model = dlarch.create_model(
        "seq2seq_attn", data, embedding_size=16, encoder_size=32, hidden_size=32
    )
    result = dlarch.fit(model, data, max_epochs=12, enable_progress_bar=False, accelerator="cpu")
    assert result.metrics["test/exact_match"] > 0.8
    loaded = dlarch.AutoModel.from_pretrained(result.run.folder)
    assert loaded.processor == processor
    assert loaded.translate(["deux trois"]) == ["two three"]


def test_vectors_of_torchtext_become_the_embedding(tmp_path):
    file = tmp_path / "tiny.vec"
    file.write_text("un 1.0 2.0 3.0\ndeux 4.0 5.0 6.0\nzwei 7.0 8.0 9.0\n", encoding="utf-8")
    vectors = torchtext_vocab.Vectors(str(file), cache=str(tmp_path))
    vocab = torchtext_vocab.build_vocab_from_iterator([list(WORDS)], specials=["<unk>"])
    processor = from_torchtext_vocab(vocab)
    weight, found = vectors_from_torchtext(vectors, processor)
    model = dlarch.create_model(
        "seq2seq_attn",
        source_vocab_size=processor.vocab_size,
        target_vocab_size=9,
        embedding_size=3,
    )
    with torch.no_grad():
        model.source_embedding.weight[found] = weight[found]
    rows = model.source_embedding(torch.tensor(processor.encode("deux un")))
    assert rows.tolist() == [[4.0, 5.0, 6.0], [1.0, 2.0, 3.0]]
