"""A small model, a quiet Trainer, small data."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import lightning as L  # noqa: N812
import pytest
import torch
from torch import optim

from dlarch import create_data
from dlarch.batches import TranslationBatch
from dlarch.models.seq2seq.seq2seq_attn import Seq2SeqAttn

SIZES = {"embedding_size": 6, "encoder_size": 5, "hidden_size": 7}


@pytest.fixture
def make_model() -> Callable[..., Seq2SeqAttn]:
    def make(facts: bool = True, **options: Any) -> Seq2SeqAttn:
        """The same weights at each call; plain gradient descent shows what the gradient was."""
        torch.manual_seed(0)
        known = {"source_vocab_size": 11, "target_vocab_size": 13} if facts else {}
        defaults = {"optimizer": lambda parameters: optim.SGD(parameters, lr=0.5)}
        return Seq2SeqAttn(**known | SIZES | defaults | options)

    return make


@pytest.fixture
def make_trainer(tmp_path) -> Callable[..., L.Trainer]:
    def make(**options: Any) -> L.Trainer:
        defaults = {
            "accelerator": "cpu",
            "devices": 1,
            "logger": False,
            "max_epochs": 1,
            "enable_checkpointing": False,
            "enable_model_summary": False,
            "enable_progress_bar": False,
            "num_sanity_val_steps": 0,
            "default_root_dir": tmp_path,
        }
        return L.Trainer(**defaults | options)

    return make


@pytest.fixture
def make_data(session_cache, monkeypatch) -> Callable[..., Any]:
    monkeypatch.setenv("DLARCH_CACHE", str(session_cache))

    def make(**options: Any) -> Any:
        defaults = {"source": "copy", "train_size": 64, "batch_size": 16}
        return create_data("translation", **defaults | options)

    return make


class Batches(Sequence[TranslationBatch]):
    """Batches as a loader; a plain list would be one loader per batch to Lightning."""

    def __init__(self, batches: Iterable[TranslationBatch]) -> None:
        self.batches = list(batches)

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, at: Any) -> Any:
        return Batches(self.batches[at]) if isinstance(at, slice) else self.batches[at]


@pytest.fixture
def batches() -> Batches:
    """Four batches of different sizes and numbers of tokens, as plain (x, y)."""
    sizes = (2, 5, 3, 4)
    return Batches(
        TranslationBatch(*Seq2SeqAttn.example(size, seed)[1][:2]) for seed, size in enumerate(sizes)
    )


@pytest.fixture
def union() -> Callable[..., Batches]:
    def join(*groups: Batches) -> Batches:
        """One batch of all the pairs of each group."""
        return Batches(map(one, groups))

    def one(parts: Batches) -> TranslationBatch:

        def side(tensors: list[torch.Tensor]) -> torch.Tensor:
            rows = [row for tensor in tensors for row in tensor]
            return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)

        return TranslationBatch(side([p.source for p in parts]), side([p.target for p in parts]))

    return join
