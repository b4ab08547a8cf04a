"""LightningCLI's parser with registry names in it, and its complaints as one sentence."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from inspect import isclass, signature
from typing import Any, NoReturn

import torch
import yaml
from jsonargparse import _typehints, get_loader, set_dumper, set_loader
from jsonargparse._util import import_object
from lightning.pytorch.cli import LightningArgumentParser

from dlarch.errors import OptionError, did_you_mean

MODE = "dlarch"
"""The parser mode that knows registry names."""

LONGEST_VALUE = 60
"""Characters of a wrong value that are shown."""

_UNKNOWN = re.compile(
    r"Option '(?P<nested>[^']+)' is not accepted"
    r"|does not accept option '(?P<outer>[^']+)'"
    r"|[Uu]nrecognized arguments: (?P<word>\S+)"
)
_KEY = re.compile(r'[Pp]arser key "([^"]+)"')
_EXPECTED = re.compile(r"Expected an? (<class '[\w.]+'>|typing\.Literal\[[^]]*\])")
_VALUE = re.compile(r"(?:Got value: |Given value: )(.*)")
_CLASS = re.compile(
    r"Expected a dot import path string: (?P<name>\S+)"
    r"|Problem with given class_path '(?P<path>[^']*)':\s*(?P<why>[^\n]*)"
)


class ComplaintError(OptionError):
    """What jsonargparse has to say, in its many lines; `sentence` makes one of them."""


class Parser(LightningArgumentParser):
    """Raises a `ComplaintError` where the original prints a usage of hundreds of lines and exits.

    The parsers of nested classes are of this kind too; their complaints come back as a part of the
    outer one's, so that only the outermost can be told to the user.
    """

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise `message` as it is."""
        raise ComplaintError(message) from ex


def install_names(
    to_class_path: Callable[[str, str], str], to_name: Callable[[str, str], str]
) -> None:
    """Let `model` and `data` in YAML be registry names.

    Args:
        to_class_path: kind ("model" or "data") and name, to a class path.
        to_name: the inverse, for files that are written.
    """
    load = get_loader("yaml")

    def load_named(text: str) -> Any:
        return renamed(load(text), to_class_path)

    def dump_named(values: Any) -> str:
        named = renamed(values, to_name)
        return str(yaml.safe_dump(named, sort_keys=False, allow_unicode=True, width=100))

    set_loader(MODE, load_named, exceptions=(yaml.YAMLError,))
    set_dumper(MODE, dump_named)


def prefer_torch_optim() -> None:
    """Let `Adam` mean torch.optim.Adam, whatever other classes of that name have been imported.

    jsonargparse looks for a bare name among all imported subclasses of what an option takes, and
    refuses one that it finds twice: `dlarch.optim` has the same names on purpose.
    """
    resolve = _typehints.resolve_class_path_by_name
    if hasattr(resolve, "__wrapped__"):  # done before
        return

    @wraps(resolve)
    def resolve_torch_first(cls: Any, name: str) -> str:
        found = getattr(torch.optim, name, None) if name.isidentifier() else None
        kinds = [kind for kind in (cls if isinstance(cls, tuple) else (cls,)) if isclass(kind)]
        if isclass(found) and any(issubclass(found, kind) for kind in kinds):
            return f"torch.optim.{name}"
        return str(resolve(cls, name))

    _typehints.resolve_class_path_by_name = resolve_torch_first


def forget_defaults_of_replaced_classes() -> None:
    """Let a class that takes another's place begin with its own defaults.

    jsonargparse carries over all arguments that both classes have, those too that nobody gave: an
    AdamW in the place of an Adam would have Adam's weight_decay of 0, not its own 0.01.
    """
    discard = _typehints.discard_init_args_on_class_path_change
    if hasattr(discard, "__wrapped__"):  # done before
        return

    @wraps(discard)
    def discard_defaults_too(parser: Any, before: Any, after: Any) -> None:
        if before and "init_args" in before and before["class_path"] != after["class_path"]:
            given = before["init_args"]
            parameters = signature(import_object(before["class_path"])).parameters
            for name in [name for name in parameters if name in given]:
                if given[name] == parameters[name].default:
                    del given[name]
        discard(parser, before, after)

    _typehints.discard_init_args_on_class_path_change = discard_defaults_too


def prefer_whole_numbers() -> None:
    """Let the 1 of `--trainer.limit_train_batches 1` mean one batch, never 1.0, which is all.

    `typing` keeps the first of two unions that differ in order only: what has been imported before
    Lightning decides whether its `int | float` reads 1 as a whole number.
    """
    order = _typehints.sort_subtypes_for_union
    if hasattr(order, "__wrapped__"):  # done before
        return

    @wraps(order)
    def order_int_before_float(*args: Any, **options: Any) -> list[Any]:
        kinds = list(order(*args, **options))
        if int in kinds and float in kinds[: kinds.index(int)]:
            kinds.remove(int)
            kinds.insert(kinds.index(float), int)
        return kinds

    _typehints.sort_subtypes_for_union = order_int_before_float


def renamed(values: Any, rename: Callable[[str, str], str]) -> Any:
    """A configuration with the classes of its `model` and `data` renamed."""
    if not isinstance(values, dict):
        return values
    values = dict(values)
    for kind in ("model", "data"):
        section = values.get(kind)
        if isinstance(section, str):
            values[kind] = {"class_path": rename(kind, section)}
        elif isinstance(section, dict) and isinstance(section.get("class_path"), str):
            values[kind] = {**section, "class_path": rename(kind, section["class_path"])}
    return values


def option_name(key: str) -> str:
    """An option as people type it: without the `init_args` that lead to it."""
    return ".".join(
        part for part in key.rstrip("+").split(".") if part not in ("init_args", "class_path")
    )


def flattened(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Each option of a configuration with its value; that of a class is its path.

    `{"model": {"class_path": "vae", "init_args": {"code_size": 2}}}` gives `("model", "vae")` and
    `("model.code_size", 2)`. Members of a list go under the list's name.
    """
    for key, value in values.items():
        name = option_name(f"{prefix}.{key}" if prefix else str(key))
        for member in value if isinstance(value, list) and value else [value]:
            if isinstance(member, Mapping):
                yield from flattened(member, name)
            else:
                yield name, member


def sentence(complaint: str, given: Iterable[str], known: Iterable[str]) -> str:
    """Say what is wrong in one sentence, and what was meant.

    Args:
        complaint: of jsonargparse; where a value may be of several types, one for each of them.
        given: names of all options that the recipe and the command line give, in their order. The
            complaint has only the last part of a name.
        known: names of all options that exist.
    """
    keys = _KEY.findall(complaint)
    unknown = _UNKNOWN.search(complaint)
    if unknown is not None:
        word = next(group for group in unknown.groups() if group)
        if unknown["word"] and not word.startswith("-"):
            return f"There is no use for '{word}'; options begin with --."
        order = list(given)
        name = _full_name([*keys, word.lstrip("-").partition("=")[0]], order)
        owner = name.rpartition(".")[0]
        if name in order and owner in order[order.index(name) :]:
            return f"--{name} stands before the --{owner} that it belongs to: give that first."
        return f"There is no option --{name}.{_near(name, known)}"
    if complaint.startswith("argument "):
        option, _, problem = complaint.removeprefix("argument ").partition(": ")
        missing = "expected one argument" in problem
        return f"{option} {'needs a value' if missing else problem}."
    if not keys:
        return f"{complaint.strip().splitlines()[0].rstrip('. ')}."
    option = f"--{_full_name(keys, given)}"
    kinds = dict.fromkeys(_plain(kind) for kind in _EXPECTED.findall(complaint) if kind != _NONE)
    found = _CLASS.search(complaint)
    if found is not None and not {"int", "float"} & set(kinds):
        if found["path"]:
            return f"{option}: the class {found['path']} cannot be used: {found['why']}."
        return f"{option}: there is no class '{found['name']}'; give its path, module.Class."
    value = _VALUE.search(complaint)
    shown = _shortened(value[1]) if value else "this"
    if kinds:
        return f"{option} must be {' or '.join(kinds)}, not {shown}."
    if "Not a valid subclass" in complaint:
        return f"{option} must be the name of a class, or class_path and init_args, not {shown}."
    return f"{option} cannot be {shown}."


_NONE = "<class 'NoneType'>"


def _plain(kind: str) -> str:
    """A type as people call it: `int`, or `'gru' or 'lstm'`."""
    if kind.startswith("typing.Literal"):
        return " or ".join(kind[len("typing.Literal[") : -1].split(", "))
    return kind.split("'")[1].rsplit(".", 1)[-1]


def _shortened(value: str) -> str:
    nested = re.match(r"NestedArg\(key='[^']*', val=(.*)\)$", value)
    value = nested[1].strip("'") if nested else value.strip()
    return f"'{value if len(value) <= LONGEST_VALUE else value[:LONGEST_VALUE] + '...'}'"


def _full_name(keys: list[str], given: Iterable[str]) -> str:
    """The whole name of the option that a complaint about nested `keys` means."""
    first, last = option_name(keys[0]), option_name(keys[-1])
    if len(keys) == 1:
        return first
    within = [name for name in given if name.startswith(f"{first}.")]
    return next((name for name in within if name.endswith(f".{last}")), f"{first}.{last}")


def _near(name: str, known: Iterable[str]) -> str:
    """A hint at the options that are like `name`: first at those beside it, then at all."""
    section, _, last = name.rpartition(".")
    every = list(known)
    beside = {option.rpartition(".")[2] for option in every if option.rpartition(".")[0] == section}
    hint = did_you_mean(last, sorted(beside))
    if hint:
        return hint.replace(" '", f" '--{section}." if section else " '--")
    return did_you_mean(name, every).replace(" '", " '--")
