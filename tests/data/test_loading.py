import random
from itertools import chain

import numpy as np
import pytest
import torch

from dlarch.data.loading import BatchLoader, bucketed_plan, evaluation_plan
from dlarch.errors import MismatchError, OptionError

SOURCE = np.random.default_rng(0).integers(3, 40, size=1003)
TARGET = np.clip(SOURCE + np.random.default_rng(1).integers(-3, 4, size=1003), 3, None)
DATASET = np.arange(20) * 10
"""Indexing with an index array gives the batch; an array is pickled to spawned workers."""


def plan(epoch=0, rank=0, **options):
    return bucketed_plan(TARGET, SOURCE, seed=1, epoch=epoch, rank=rank, **options)


def longest(batch):
    return int(np.maximum(SOURCE, TARGET)[batch].max())


BOUNDS = [{"batch_size": 8, "pool_batches": 10}, {"batch_tokens": 300}]


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("world_size", [1, 3, 4])
def test_an_epoch_holds_each_example_once_over_all_ranks(bound, world_size):
    left_out = set()
    for epoch in range(3):
        ranks = [plan(epoch, rank, world_size=world_size, **bound) for rank in range(world_size)]
        sizes = [[len(batch) for batch in batches] for batches in ranks]
        assert all(size == sizes[0] for size in sizes)
        seen = np.concatenate([batch for batches in ranks for batch in batches])
        assert len(seen) == len(set(seen.tolist())) == 1003 - 1003 % world_size
        assert seen.dtype == np.int64
        left_out |= set(range(1003)) - set(seen.tolist())
    assert len(left_out) > 3 * (1003 % world_size) - 2  # not the same ones each time


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("world_size", [1, 3])
def test_every_epoch_has_equally_many_batches_in_another_order(bound, world_size):
    epochs = [plan(epoch, world_size=world_size, **bound) for epoch in range(5)]
    assert len({len(batches) for batches in epochs}) == 1
    orders = [np.concatenate(batches).tolist() for batches in epochs]
    assert all(orders[0] != order for order in orders[1:])
    again = np.concatenate(plan(2, world_size=world_size, **bound)).tolist()
    assert again == orders[2]


@pytest.mark.parametrize("world_size", [1, 3])
def test_batch_tokens_bound_the_padded_longer_side_and_are_used_well(world_size):
    ranks = [plan(0, r, world_size=world_size, batch_tokens=300) for r in range(world_size)]
    padded = [len(batch) * longest(batch) for batches in ranks for batch in batches]
    assert max(padded) <= 300
    assert np.mean(padded) > 260
    with pytest.raises(OptionError, match="less than the longest example, 42 tokens"):
        plan(batch_tokens=41)


def test_batches_are_of_similar_length_and_so_are_the_ranks():
    ranks = [plan(0, rank, world_size=2, batch_size=8) for rank in range(2)]
    width = [[longest(batch) for batch in batches] for batches in ranks]
    assert np.abs(np.subtract(*width)).max() <= 2
    padded = sum(len(batch) * TARGET[batch].max() for batch in ranks[0])
    assert padded / sum(TARGET[batch].sum() for batch in ranks[0]) < 1.07
    lengths = [TARGET[batch].max() for batch in ranks[0]]
    assert sorted(lengths) != lengths  # the batches themselves are shuffled


def test_all_batches_but_one_have_the_asked_size():
    sizes = sorted(len(batch) for batch in plan(batch_size=8, pool_batches=7))
    assert sizes == [3] + [8] * 125


@pytest.mark.parametrize("bound", [{"batch_size": 8}, {"batch_tokens": 300}])
@pytest.mark.parametrize("world_size", [1, 3, 1003])
def test_evaluation_sees_each_example_exactly_once(bound, world_size):
    ranks = [
        evaluation_plan(TARGET, SOURCE, world_size=world_size, rank=rank, **bound)
        for rank in range(world_size)
    ]
    assert all(ranks)
    batches = [batch for batches in ranks for batch in batches]
    assert sorted(np.concatenate(batches).tolist()) == list(range(1003))
    assert max(len(batch) for batch in batches) <= bound.get("batch_size", 100)
    assert max(len(b) * longest(b) for b in batches) <= bound.get("batch_tokens", 10**9)


@pytest.mark.parametrize(
    "make", [evaluation_plan, lambda x, **o: bucketed_plan(x, seed=0, epoch=0, **o)]
)
def test_impossible_plans_are_refused(make):
    with pytest.raises(OptionError, match="2 examples for 3 processes"):
        make(TARGET[:2], batch_size=1, world_size=3)
    with pytest.raises(OptionError, match="either batch_size or batch_tokens"):
        make(TARGET, batch_size=1, batch_tokens=100)
    with pytest.raises(OptionError, match="either batch_size or batch_tokens"):
        make(TARGET)
    with pytest.raises(OptionError, match="batch_size must be at least 1, not 0"):
        make(TARGET, batch_size=0)


def make_loader(**options):
    def shuffled(epoch):
        return bucketed_plan(np.ones(20), seed=5, epoch=epoch, batch_size=3)

    return BatchLoader(DATASET, shuffled, **{"seed": 5, **options})


def epochs_of(loader, count):
    return [[batch.tolist() for batch in loader] for _ in range(count)]


def test_resuming_at_any_position_gives_the_rest_of_the_epoch_and_the_next_ones():
    whole = epochs_of(make_loader(), 4)
    assert sorted(chain(*whole[1])) == DATASET.tolist()
    assert whole[0] != whole[1] != whole[2]
    for position in range(1, 8):
        first = make_loader()
        epochs_of(first, 1)
        batches = iter(first)
        for _ in range(position):
            next(batches)
        resumed = make_loader()
        resumed.load_state_dict(first.state_dict())
        assert len(resumed) == 7
        rest = epochs_of(resumed, 2)
        assert rest == ([whole[1][position:], whole[2]] if position < 7 else whole[2:])


def test_iter_changes_nothing_before_the_first_batch():
    loader = make_loader()
    for _ in range(3):
        iter(loader)
    batches = iter(loader)
    next(batches)
    state = loader.state_dict()
    iter(loader)
    assert loader.state_dict() == state == {"seed": 5, "epoch": 0, "position": 1, "batches": 7}


def test_a_new_iteration_after_some_batches_is_the_next_epoch():
    loader, whole = make_loader(), epochs_of(make_loader(), 2)
    next(iter(loader))
    assert epochs_of(loader, 1) == [whole[1]]
    resumed = make_loader()
    resumed.load_state_dict({"seed": 5, "epoch": 0, "position": 2, "batches": 7})
    resumed.finish_epoch()
    assert epochs_of(resumed, 1) == [whole[1]]


@pytest.mark.parametrize("workers", [{}, {"num_workers": 2}])
def test_the_global_random_states_are_not_touched(workers):
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    epochs_of(make_loader(**workers), 2)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.random.get_state()[1].tolist() == states[2]


@pytest.mark.parametrize("context", [None, "spawn"])
def test_workers_change_nothing(context):
    loader = make_loader(num_workers=1 + (context is None), multiprocessing_context=context)
    epochs = 2 if context is None else 1
    assert epochs_of(loader, epochs) == epochs_of(make_loader(), epochs)


def test_an_evaluation_loader_always_starts_at_the_beginning():
    loader = make_loader(training=False)
    next(iter(loader))
    first, second = epochs_of(loader, 2)
    assert first == second
    assert len(first) == 7
    assert loader.state_dict()["position"] == 0


def test_a_state_that_cannot_be_continued_is_refused():
    state = {"seed": 5, "epoch": 1, "position": 2, "batches": 9}
    with pytest.raises(MismatchError, match="batch 2 of 9, but an epoch has 7 batches now"):
        make_loader().load_state_dict(state)
    with pytest.raises(MismatchError, match="with seed 6, this run with 5"):
        make_loader().load_state_dict({**state, "seed": 6})
    loader = make_loader()
    loader.load_state_dict({**state, "position": 9})  # at the end of an epoch the size may change
    assert epochs_of(loader, 1) == epochs_of(make_loader(), 3)[2:]


def test_a_plan_whose_length_changes_is_an_error():
    loader = BatchLoader(DATASET, lambda epoch: [np.arange(2)] * (2 + epoch))
    with pytest.raises(ValueError, match="equally many"):
        epochs_of(loader, 2)


@pytest.mark.parametrize(
    ("count", "sizes"), [(17, [8, 9]), (16, [8, 8]), (18, [2, 8, 8]), (1, [1])]
)
def test_a_last_example_joins_the_batch_before_when_asked(count, sizes):
    batches = bucketed_plan(np.ones(count, int), seed=0, epoch=0, batch_size=8, join_single=True)
    assert sorted(map(len, batches)) == sizes
    assert sorted(np.concatenate(batches)) == list(range(count))
