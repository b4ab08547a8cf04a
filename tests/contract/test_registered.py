"""Nothing that is registered escapes the contract, and exemptions do not grow unseen."""

import numpy as np
import pytest
import torch
from torch import Tensor

from dlarch import create_data, list_data, list_models, model_info
from dlarch.data import DataModule
from dlarch.tasks import Task


def test_the_table_of_exemptions_is_as_long_as_it_was(helpers):
    assert len(helpers.EXEMPTIONS) == helpers.COUNTS["exemptions"]
    assert len(list_models()) == helpers.COUNTS["models"]
    assert len(list_data()) == helpers.COUNTS["data"] == len(helpers.SMALL_DATA)
    known = {*list_models(), *list_data()}
    for (name, _), reason in helpers.EXEMPTIONS.items():
        assert name in known
        assert len(reason) > 10


@pytest.mark.parametrize("name", list_models())
def test_models_subclass_one_task(name):
    cls = model_info(name).load()
    assert issubclass(cls, Task)
    tasks = [base for base in cls.__mro__ if base.__module__.startswith("dlarch.tasks")]
    assert model_info(name).task == tasks[0].__name__
    assert cls.monitor is None or cls.monitor[1] in ("min", "max")


@pytest.fixture(params=list_data())
def data(request, helpers):
    module = create_data(request.param, **helpers.SMALL_DATA[request.param])
    module.prepare_data()
    module.setup("fit")
    return module


def test_data_know_their_facts(data):
    assert isinstance(data, DataModule)
    assert data.spec.facts()
    assert data.spec.fingerprint
    assert data.batch_type._fields


def test_some_model_takes_the_data(data, helpers):
    assert any(helpers.takes(model_info(name).load(), data) for name in list_models())


def test_batches_are_of_the_named_type_and_lead_with_their_examples(data):
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        for batch in loader:
            assert type(batch) is data.batch_type
            sizes = {len(field) for field in batch if field is not None}
            assert len(sizes) == 1
            assert any(isinstance(field, Tensor) for field in batch)


def examples(dataset, plan):
    """The positions that the batches of a plan stand for, in the order in which they come."""
    if hasattr(dataset, "read_at"):
        return np.concatenate([dataset.read_at(index) for index in plan])
    return np.concatenate(plan)


def test_each_example_comes_once(data):
    """Of a long text, each token; in training a few at its ends are left out."""
    for split in ("validation", "test"):
        rows = examples(data.dataset(split), data.evaluation_plan(split))
        assert sorted(rows) == list(range(len(data.dataset(split))))
    for epoch in (0, 1):
        dataset = data.dataset("train")
        rows = sorted(examples(dataset, data.training_plan(7, epoch)))
        if hasattr(dataset, "window"):
            assert rows == list(range(rows[0], rows[-1] + 1))
            assert len(dataset) - 2 * dataset.window < len(rows) <= len(dataset)
        else:
            assert rows == list(range(len(dataset)))
    first, again, next_epoch = (
        [index.tolist() for index in data.training_plan(7, epoch)] for epoch in (0, 0, 1)
    )
    assert first == again != next_epoch


def test_a_loader_goes_on_where_it_was(data, helpers):
    loader = iter(data.train_dataloader())
    next(loader)
    state = data.state_dict()
    rest = [batch[0] for batch in loader]
    again = create_data(data.registry_name, **helpers.SMALL_DATA[data.registry_name])
    again.prepare_data()
    again.setup("fit")
    again.load_state_dict(state)
    for one, other in zip(rest, again.train_dataloader(), strict=True):
        assert torch.equal(one, other[0])


def test_the_processor_travels(data):
    values = data.processor.to_dict()
    again = type(data.processor).from_dict(values)
    assert again.to_dict() == values
    assert again.hash() == data.processor.hash()
