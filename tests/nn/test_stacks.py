"""Stacks of linear layers."""

import torch

from dlarch.nn import dense_stack


def test_the_last_layer_has_no_activation_unless_asked_for():
    assert [type(layer).__name__ for layer in dense_stack([5, 4, 3])] == [
        "Linear",
        "ReLU",
        "Linear",
    ]
    assert type(dense_stack([5, 4], "tanh", ends_active=True)[-1]).__name__ == "Tanh"
    assert dense_stack([5, 4])(torch.zeros(2, 5)).shape == (2, 4)


def test_units_of_several_pieces_keep_the_sizes():
    assert dense_stack([5, 4, 3], "maxout", ends_active=True)(torch.zeros(2, 5)).shape == (2, 3)
