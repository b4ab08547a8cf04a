"""Every constructor argument of a model changes something that can be seen.

An argument is varied by its annotation. If nothing changes, it is varied once more beside each
other argument (`teacher_forcing_steps` matters only with a `teacher_forcing_end`), and beside each
value of a choice (`optimizer` matters only with one of several solvers).
"""

import inspect
import types
import typing
from collections.abc import Sequence

import pytest
import torch
from torch import nn, optim
from torch.optim.lr_scheduler import LambdaLR

from dlarch import list_models
from dlarch.nn import Constant, Initializer
from dlarch.spec import FACT_NAMES
from dlarch.tasks import LossCallable, OptimizerCallable, SchedulerCallable

pytestmark = pytest.mark.parametrize("subject", list_models(), indirect=True)

SEEDS = {
    bool: True,
    int: 3,
    float: 0.5,
    str: "other",
    Initializer: Constant(0.07),
    nn.Module: nn.CrossEntropyLoss(label_smoothing=0.3),
}
"""What an optional argument is set to, whose default is None."""


def other_value(annotation, default):
    """A value of the annotated type that is not the default."""
    if annotation in (LossCallable, OptimizerCallable, SchedulerCallable):
        return {
            LossCallable: nn.CrossEntropyLoss(label_smoothing=0.3),
            OptimizerCallable: lambda parameters: optim.SGD(parameters, lr=0.1),
            SchedulerCallable: lambda optimizer: LambdaLR(optimizer, lambda step: 0.5**step),
        }[annotation]
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return next(value for value in arguments if value != default)
    if origin in (typing.Union, types.UnionType):
        kinds = [kind for kind in arguments if kind is not type(None)]
        return other_value(kinds[0], default)
    if origin in (list, tuple, Sequence):
        return (*(default or ()), other_value(arguments[0], (default or [None])[-1]))
    if default is None:
        return SEEDS[annotation]
    if annotation is bool:
        return not default
    if annotation is int:
        return 2 * default or 1  # sizes stay divisible
    if annotation is float:
        return default / 2 or 0.5
    raise NotImplementedError(f"say how to vary {annotation}")


def other_values(annotation, default):
    """All other values of a choice; a single one of what is no choice."""
    if typing.get_origin(annotation) is typing.Literal:
        return [value for value in typing.get_args(annotation) if value != default]
    return [other_value(annotation, default)]


def variations(subject, helpers):
    """Each argument but facts and exemptions, with other values."""
    hints = typing.get_type_hints(subject.cls.__init__)
    parameters = list(inspect.signature(subject.cls.__init__).parameters.values())[1:]
    for parameter in parameters:
        assert parameter.default is not inspect.Parameter.empty, f"{parameter.name} has no default"
        if parameter.name in FACT_NAMES:  # the data decide them; contradictions are refused
            assert parameter.default is None
            continue
        key = (subject.name, parameter.name)
        if key in helpers.EXEMPTIONS:
            continue
        if key in helpers.OTHER_VALUES:
            yield parameter.name, [helpers.OTHER_VALUES[key]]
            continue
        annotation = hints[parameter.name]
        if typing.get_origin(annotation) in (typing.Union, types.UnionType):
            inner = [kind for kind in typing.get_args(annotation) if kind is not type(None)]
            # A callable that is optional is still known by its name.
            if typing.get_origin(inner[0]) is not None and "Callable" in str(inner[0]):
                annotation = inner[0]
        yield parameter.name, other_values(annotation, parameter.default)


def visible(subject, helpers, folder, **options):
    """Shapes, first weights, losses of three steps, output, callbacks and metrics of a model."""
    model = subject.make(**options)
    weights = [parameter.detach().clone() for parameter in model.parameters()]
    losses = []
    step = model.training_step

    def watched(*arguments):
        losses.append(step(*arguments))
        return losses[-1]

    model.training_step = watched
    batch = subject.example()[1]
    trainer = helpers.quiet_trainer(folder, max_steps=3, max_epochs=-1)
    torch.manual_seed(5)
    trainer.fit(model, helpers.Loader([batch] * 3))
    names = {type(callback).__name__ for callback in trainer.callbacks} | set(model.metrics("test"))
    outputs = subject.outputs(model.eval(), batch)
    return names, [*weights, *(loss.detach() for loss in losses), *outputs]


def differ(one, other):
    if one[0] != other[0] or [t.shape for t in one[1]] != [t.shape for t in other[1]]:
        return True
    pairs = zip(one[1], other[1], strict=True)
    return any(not torch.equal(a, b) for a, b in pairs)


def test_every_argument_changes_something(subject, helpers, tmp_path):
    choices = dict(variations(subject, helpers))
    assert choices
    changes = {name: values[0] for name, values in choices.items()}
    plain = visible(subject, helpers, tmp_path)
    assert not differ(plain, visible(subject, helpers, tmp_path))  # else all would seem to matter
    idle = [
        name
        for name, value in changes.items()
        if not differ(plain, visible(subject, helpers, tmp_path, **{name: value}))
    ]
    for name in idle:
        # A number of steps is far beyond three of them, so a small one is tried.
        given = (subject.name, name) in helpers.OTHER_VALUES
        changed = {name: 2 if type(changes[name]) is int and not given else changes[name]}
        assert any(
            differ(
                visible(subject, helpers, tmp_path, **{other: value}),
                visible(subject, helpers, tmp_path, **{other: value} | changed),
            )
            for other, values in choices.items()
            for value in values
            if other != name
        ), f"{name} changes nothing"


def test_arguments_are_hparams_but_for_callables(subject):
    model = subject.make()
    callables = {"loss", "optimizer", "critic_optimizer", "scheduler", "initializer"}
    names = set(inspect.signature(subject.cls.__init__).parameters) - {"self"} - callables
    assert set(model.hparams) == names
    for name, value in model.hparams.items():
        assert isinstance(value, int | float | str | bool | tuple | list | dict | None), name


def test_facts_are_called_as_in_the_spec(subject):
    parameters = list(inspect.signature(subject.cls.build).parameters.values())[1:]
    names = {parameter.name for parameter in parameters}
    assert names <= set(FACT_NAMES)
    assert names <= set(inspect.signature(subject.cls.__init__).parameters)
    needed = {p.name for p in parameters if p.default is inspect.Parameter.empty}
    assert needed <= set(subject.example()[0].facts())
