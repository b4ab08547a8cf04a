from typing import Any, NamedTuple

import torch
from torch import Tensor

from dlarch.decoding import PerSentence, expand, has_tensors, reorder, select


class Cache(NamedTuple):
    keys: Tensor
    rest: Any


def example(size: int = 3, count: int = 4) -> Cache:
    keys = torch.arange(size * count * 2).view(size, count, 2)
    return Cache(keys, ([keys[..., 0], None], {"flags": keys[..., 1] % 3 == 0}, 7))


def test_reorder_gathers_hypotheses_of_every_nested_tensor() -> None:
    state = example()
    index = torch.tensor([[3, 3, 0, 1, 1], [0, 1, 2, 3, 0], [2, 2, 2, 2, 2]])
    moved = reorder(state, index)
    assert type(moved) is Cache
    for row in range(3):
        assert torch.equal(moved.keys[row], state.keys[row, index[row]])
        assert torch.equal(moved.rest[0][0][row], state.rest[0][0][row, index[row]])
        assert torch.equal(moved.rest[1]["flags"][row], state.rest[1]["flags"][row, index[row]])
    assert moved.rest[0][1] is None
    assert moved.rest[2] == 7


def test_reorder_takes_tensors_that_are_not_contiguous() -> None:
    tensor = torch.randn(4, 3, 5).transpose(0, 1)  # (B, K) = (3, 4) by strides
    index = torch.randint(4, (3, 6))
    expected = torch.stack([tensor[row, index[row]] for row in range(3)])
    assert torch.equal(reorder((tensor,), index)[0], expected)


def test_select_takes_sentences_in_the_order_asked() -> None:
    state = example()
    chosen = select(state, torch.tensor([2, 0]))
    assert torch.equal(chosen.keys, state.keys[[2, 0]])
    assert torch.equal(chosen.rest[1]["flags"], state.rest[1]["flags"][[2, 0]])
    assert select(None, torch.tensor([0])) is None


def test_expand_copies_so_that_one_hypothesis_can_be_written_in_place() -> None:
    state = example(count=1)
    wide = expand(state, 3)
    assert torch.equal(wide.keys, state.keys.expand(3, 3, 2))
    wide.keys[:, 1] = -1
    assert torch.equal(wide.keys[:, 0], state.keys[:, 0])
    assert torch.equal(state.keys, example(count=1).keys)


def test_what_hypotheses_share_stays_when_they_move_and_goes_with_its_sentence() -> None:
    shared = PerSentence((torch.randn(3, 2), None))
    own = torch.arange(3).view(3, 1)
    many = expand((own, shared), 4)
    assert many[0].shape == (3, 4)
    moved = reorder(many, torch.zeros(3, 2, dtype=torch.long))
    assert moved[0].shape == (3, 2)
    assert moved[1] is many[1] is shared
    rows = torch.tensor([2, 0])
    assert torch.equal(select(moved, rows)[1].shared[0], shared.shared[0][rows])


def test_has_tensors_looks_into_the_nest() -> None:
    assert has_tensors(([None, {"a": torch.zeros(1)}],))
    assert not has_tensors((None, [], {"a": 3}))
