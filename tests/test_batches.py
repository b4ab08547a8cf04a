"""Batches as plain tuples."""

import torch

from dlarch.batches import TranslationBatch
from dlarch.spec import BOS, EOS, PAD


def test_an_x_y_pair_is_a_batch():
    source, target = torch.tensor([[4, EOS, PAD]]), torch.tensor([[BOS, 5, EOS]])
    batch = TranslationBatch(*(source, target))
    assert batch.source is source
    assert batch.target is target
    assert batch.example is batch.source_text is batch.target_text is None


def test_masks_are_true_on_real_tokens():
    batch = TranslationBatch(
        torch.tensor([[4, EOS, PAD], [EOS, PAD, PAD]]), torch.tensor([[BOS, EOS], [BOS, 5]])
    )
    assert batch.source_mask.tolist() == [[True, True, False], [True, False, False]]
    assert batch.target_mask.dtype == torch.bool
    assert batch.target_mask.all()


def test_lightning_moves_every_tensor_and_keeps_the_type():
    from lightning.pytorch.utilities import move_data_to_device

    batch = TranslationBatch(*torch.ones(2, 1, 2, dtype=torch.long), source_text=["a"])
    moved = move_data_to_device(batch, torch.device("meta"))
    assert type(moved) is TranslationBatch
    assert moved.source.device.type == moved.target.device.type == "meta"
    assert moved.source_text == ["a"]
