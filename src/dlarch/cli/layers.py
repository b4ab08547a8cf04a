"""The layer table of `dlarch info MODEL --layers`."""

from collections.abc import Sequence
from typing import Any, cast

import yaml
from torch import nn

from dlarch import factory, registry
from dlarch.cli.options import as_options, print_table
from dlarch.errors import MismatchError, OptionError
from dlarch.spec import FACT_NAMES, DataSpec


def build(name: str, words: Sequence[str]) -> nn.Module:
    """Build a model to look at its layers.

    Args:
        name: of the model.
        words: `--NAME VALUE` pairs, constructor arguments and facts of the data; the facts left
            out are those of the task's example.

    Returns:
        The model, with its layers.

    Raises:
        OptionError: an argument that the model does not have, or a value it cannot be built with.
        MismatchError: facts are missing.
    """
    model_class = registry.model_info(name).load()
    given = {option: _value(text) for option, text in as_options(words).items()}
    known = factory.check_init_args(model_class, given)
    example = getattr(model_class, "example", None)
    facts = example(size=2, seed=0)[0].facts() if example is not None else {}
    facts |= {option: value for option, value in given.items() if option in FACT_NAMES}
    arguments = {option: value for option, value in given.items() if option not in FACT_NAMES}
    try:
        model = factory.create_model(name, DataSpec.from_dict(facts), **arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        raise OptionError(f"'{name}' cannot be built like this: {error}") from error
    lacking = [fact for fact in known if fact in FACT_NAMES and fact not in facts]
    if lacking and next(model.parameters(), None) is None:
        raise MismatchError(f"'{name}' must know {', '.join(lacking)}: give them as --NAME VALUE.")
    return cast(nn.Module, model)


def print_layers(model: nn.Module) -> None:
    """Print one line per layer, and the number of parameters."""
    total = sum(parameter.numel() for parameter in model.parameters())
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    print_table(layer_rows(model), header=("layer", "kind", "parameters", "trainable", "shapes"))
    print(f"\n{total:,} parameters, {trainable:,} of them trainable")


def layer_rows(model: nn.Module) -> list[tuple[str, str, str, str, str]]:
    """One row per module that owns parameters: name, kind, their number, trainable, shapes.

    Parameters that two modules share are counted at the first and named at the second.
    """
    rows = []
    owner: dict[int, str] = {}
    for name, module in model.named_modules():
        shapes, count, trainable = [], 0, 0
        for parameter_name, parameter in module.named_parameters(
            recurse=False, remove_duplicate=False
        ):
            path = f"{name}.{parameter_name}" if name else parameter_name
            first = owner.setdefault(id(parameter), path)
            if first != path:
                shapes.append(f"{parameter_name} is {first}")
                continue
            shapes.append(f"{parameter_name} {tuple(parameter.shape)}")
            count += parameter.numel()
            trainable += parameter.numel() if parameter.requires_grad else 0
        if shapes:
            state = "yes" if trainable == count else "no" if trainable == 0 else f"{trainable:,}"
            kind = type(module).__name__
            rows.append((name or "(itself)", kind, f"{count:,}", state, ", ".join(shapes)))
    return rows


def _value(text: str) -> Any:
    """A value as YAML reads it, and 1e-3 as the number it is."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value
