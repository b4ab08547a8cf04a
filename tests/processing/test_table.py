import numpy as np
import pytest
import torch

from dlarch.errors import DataError
from dlarch.processing import TableProcessor, processor_from_dict


def processor(classes=None):
    return TableProcessor(["a", "b"], [1.0, 2.0], [2.0, 4.0], classes, ["y"], [10.0], [5.0])


def test_rows_are_normalised_by_order_or_by_name():
    wanted = torch.tensor([[1.0, -0.5]])
    assert torch.equal(processor().encode([[3, 0]]).features, wanted)
    assert torch.equal(processor().encode([{"b": 0, "a": 3}]).features, wanted)


def test_predictions_come_back_in_their_own_units():
    assert processor().decode(torch.tensor([[0.0], [2.0]])) == [[10.0], [20.0]]
    targets = processor().normalize_targets(np.array([[20.0]]))
    assert targets.item() == 2.0
    labels = processor(["no", "yes"]).normalize_targets(np.array([1, 0]))
    assert labels.dtype == torch.int64


def test_what_is_stored_comes_back():
    for classes in (None, ["no", "yes"]):
        assert processor_from_dict(processor(classes).to_dict()) == processor(classes)


def test_bad_rows_are_named():
    with pytest.raises(DataError, match=r"Row 2 has 3 numbers instead of 2 \(a, b\)"):
        processor().encode([[1, 2], [1, 2, 3]])
    with pytest.raises(DataError, match="Row 1 lacks b"):
        processor().encode([{"a": 1}])
