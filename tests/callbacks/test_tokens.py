import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import nn

from dlarch.callbacks.tokens import TokenProjector, token_tables
from dlarch.spec import SPECIAL_TOKENS

WORDS = (*SPECIAL_TOKENS, "the", "a b", "\n", "\x07")


def reader(task, layers):
    """A task with more layers, that offers a vocabulary for each side that they have."""

    class Reader(task):
        def __init__(self):
            super().__init__()
            for name, layer in layers.items():
                self.add_module(name, layer)

        def vocabularies(self):
            return {"": WORDS, "source": WORDS, "target": (*WORDS, "end")}

    return Reader()


def written(runs, name):
    """Rows and tokens that the projector shows."""
    (folder,) = (runs.folder / "logs").glob(f"**/{name}")
    tokens = (folder / "metadata.tsv").read_text(encoding="utf-8").split("\n")
    return np.loadtxt(folder / "tensors.tsv", ndmin=2), [token for token in tokens if token]


def test_a_table_is_written_when_a_fit_ends(runs, task):
    table = nn.Embedding(len(WORDS), 5)
    runs.fit(reader(task, {"embedding": table}), TokenProjector())
    rows, tokens = written(runs, "embedding")
    assert tokens == ["the", "a␣b", "⏎", "�"]
    np.testing.assert_allclose(rows, table.weight.detach()[4:].numpy(), atol=1e-4)


def test_wide_tables_are_written_as_principal_components(runs, task, monkeypatch):
    monkeypatch.setattr("dlarch.callbacks.projector.MOST_DIMENSIONS", 2)
    table = nn.Embedding(len(WORDS), 5)
    runs.fit(reader(task, {"embedding": table}), TokenProjector())
    rows, _ = written(runs, "embedding")
    wanted = PCA(2, svd_solver="full").fit_transform(table.weight.detach()[4:].numpy())
    np.testing.assert_allclose(np.abs(rows), np.abs(wanted), atol=1e-3)


def test_the_first_tokens_are_written(runs, task, monkeypatch):
    monkeypatch.setattr("dlarch.callbacks.tokens.MOST_TOKENS", 2)
    runs.fit(reader(task, {"embedding": nn.Embedding(len(WORDS), 5)}), TokenProjector())
    assert written(runs, "embedding")[1] == ["the", "a␣b"]


def test_each_side_has_its_own_table():
    both = {"": WORDS, "source": WORDS, "target": (*WORDS, "end")}
    layers = nn.ModuleDict(
        {
            "encoder": nn.ModuleDict({"source_embedding": nn.Embedding(8, 3)}),
            "target_embedding": nn.Embedding(9, 3),
            "embedding": nn.EmbeddingBag(100, 3),  # with places for what is no token
            "condition": nn.Embedding(8, 3),
            "output": nn.Linear(3, 9),
        }
    )
    found = {name: (rows, tokens) for name, rows, tokens in token_tables(layers, both)}
    assert set(found) == {"encoder.source_embedding", "target_embedding", "embedding"}
    assert list(found["target_embedding"][1]) == [*WORDS[4:], "end"]
    for name, (rows, tokens) in found.items():
        torch.testing.assert_close(rows, layers.get_submodule(name).weight[4 : 4 + len(tokens)])
    shared = nn.ModuleDict({"source_embedding": layers["target_embedding"]})
    shared["target_embedding"] = layers["target_embedding"]
    assert [name for name, *_ in token_tables(shared, both)] == ["source_embedding"]


def test_one_hot_codes_are_no_table():
    codes = nn.ModuleDict({"embedding": nn.Embedding(len(WORDS), len(WORDS))})
    assert len(list(token_tables(codes, {"": WORDS}))) == 1
    codes["embedding"].weight.data = torch.eye(len(WORDS))
    assert list(token_tables(codes, {"": WORDS})) == []


@pytest.mark.parametrize("tokens", [(), SPECIAL_TOKENS])
def test_without_tokens_there_is_nothing_to_write(tokens):
    layers = nn.ModuleDict({"embedding": nn.Embedding(8, 3)})
    assert list(token_tables(layers, {"": tokens})) == []


def test_other_tasks_are_left_alone(runs, task):
    runs.fit(task(), TokenProjector())
    assert not list((runs.folder / "logs").glob("**/tensors.tsv"))
