"""Models, data modules and baselines made by name, after a look at whether all fits together."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dlarch import registry
from dlarch.config_files import read_mapping
from dlarch.errors import CheckpointError, MismatchError, OptionError, UserError, did_you_mean
from dlarch.runs import Run, resolve_checkpoint
from dlarch.spec import lacking_facts, needs_facts

logger = logging.getLogger(__name__)


def create_model(name: str, /, data: Any = None, **init_args: Any) -> Any:
    """Make a model by name, with the facts of the data it is for.

    Args:
        name: registry name or alias.
        data: a data module, which is prepared and set up if it was not, and whose processor the
            model gets; or a `DataSpec`; or None.
        init_args: constructor arguments.

    Returns:
        The model, a LightningModule.

    Raises:
        UnknownNameError: there is no such model.
        OptionError: the model has no such argument.
        MismatchError: model and data do not fit, or a fact given by hand contradicts the data.
    """
    model_class = registry.find("model", name).load()
    parameters = check_init_args(model_class, init_args)
    if data is None:
        return model_class(**init_args)
    if callable(getattr(data, "facts", None)):
        spec, processor = data, None
    else:
        check_batch_types(model_class, type(data))
        spec, processor = _spec_of(data), getattr(data, "processor", None)
    facts = {fact: value for fact, value in spec.facts().items() if fact in parameters}
    for fact, value in facts.items():
        given = init_args.get(fact)
        if given is not None and _comparable(given) != _comparable(value):
            raise MismatchError(
                f"{fact} is given as {given}, but the data have {value}. "
                "Leave it out, and it is taken from the data."
            )
    lacking = lacking_facts(getattr(model_class, "build", lambda: None), init_args | facts)
    if lacking:
        raise MismatchError(needs_facts(f"'{name}'", lacking))
    model = model_class(**init_args | facts)
    if processor is not None:
        model.processor = processor
    return model


def create_data(name: str, /, **init_args: Any) -> Any:
    """Make a data module by name.

    Raises:
        UnknownNameError: there is no such data module.
        OptionError: it has no such argument.
    """
    data_class = registry.find("data", name).load()
    check_init_args(data_class, init_args)
    return data_class(**init_args)


def create_data_of(run: str | Path, /, **init_args: Any) -> Any:
    """Make the data module that a run was trained on.

    Args:
        run: run folder, recipe of which the newest run is meant, or checkpoint.
        init_args: constructor arguments, in place of those of the run.

    Raises:
        CheckpointError: there is no such run, or it does not say what its data were.
    """
    config = Run(resolve_checkpoint(str(run)).parent.parent).config
    if not config.is_file():
        raise CheckpointError(
            f"{run} does not say what it was trained on: it has no {config.name}."
        )
    asked = read_mapping(config, "configuration", "must be that of a run.").get("data")
    if isinstance(asked, str):
        asked = {"class_path": asked}
    if not isinstance(asked, dict) or "class_path" not in asked:
        raise CheckpointError(f"{config} names no data.")
    return create_data(asked["class_path"], **(asked.get("init_args") or {}) | init_args)


def create_baseline(name: str, /, **init_args: Any) -> Any:
    """Make a baseline by name.

    Raises:
        UnknownNameError: there is no such baseline.
        OptionError: it has no such argument.
    """
    baseline_class = registry.find("baseline", name).load()
    check_init_args(baseline_class, init_args)
    return baseline_class(**init_args)


def check_init_args(cls: type[Any], init_args: Iterable[str]) -> list[str]:
    """Return the names of the constructor's arguments, after looking for each of `init_args`.

    Raises:
        OptionError: the constructor has no such argument; the nearest one is in the message.
    """
    known: dict[str, None] = {}
    for base in cls.__mro__:
        if "__init__" in vars(base):
            parameters = list(inspect.signature(vars(base)["__init__"]).parameters.values())[1:]
            named = (p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD))
            known.update(dict.fromkeys(named))
            # **kwargs stand for the arguments of the next class in line.
            if not any(p.kind is p.VAR_KEYWORD for p in parameters):
                break
    for name in init_args:
        if name not in known:
            called = getattr(cls, "registry_name", cls.__name__)
            raise OptionError(
                f"'{called}' has no option '{name}'.{did_you_mean(name, known)} "
                f"It has: {', '.join(known)}."
            )
    return list(known)


def check_batch_types(model_class: type[Any], data_class: type[Any]) -> None:
    """Refuse a model and a data module that do not speak of the same kind of batch.

    Raises:
        MismatchError: their `batch_type` differs; the message names data that fit the model.
    """
    wanted = getattr(model_class, "batch_type", None)
    offered = getattr(data_class, "batch_type", None)
    if wanted is None or offered is None or offered in _kinds(wanted):
        return
    fitting = ", ".join(f"'{name}'" for name in _data_with(wanted)) or "none is registered"
    model, data = (getattr(cls, "registry_name", cls.__name__) for cls in (model_class, data_class))
    raise MismatchError(
        f"The model '{model}' takes batches of type "
        f"{' or '.join(kind.__name__ for kind in _kinds(wanted))}, but the data '{data}' "
        f"have {offered.__name__}. Data that fit: {fitting}."
    )


def _kinds(batch_type: Any) -> tuple[type[Any], ...]:
    """The batch types that a model takes: one, or any of several."""
    return batch_type if isinstance(batch_type, tuple) else (batch_type,)


def _data_with(batch_type: Any) -> list[str]:
    fitting = []
    for name in registry.list_data():
        try:
            if getattr(registry.data_info(name).load(), "batch_type", None) in _kinds(batch_type):
                fitting.append(name)
        except UserError as error:
            logger.warning("%s", error)
    return fitting


def _spec_of(data: Any) -> Any:
    if not hasattr(data, "setup"):
        raise OptionError(f"data must be a data module or a DataSpec, not {type(data).__name__}.")
    if getattr(data, "spec", None) is None:
        data.prepare_data()
        data.setup("fit")
    if getattr(data, "spec", None) is None:
        raise MismatchError(f"The data module {type(data).__name__} has no `spec` after setup.")
    return data.spec


def _comparable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
