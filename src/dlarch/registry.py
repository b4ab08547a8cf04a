"""Models, data modules and baselines by name: who registers, and what is found.

Listing imports none of them. The names of dlarch's own classes are read off the decorators in
the files of `models/`, `data/` and `baselines/`, those of other packages off their entry points
`dlarch.models` and so on, whose files are read in the same way. A class is imported when it is
asked for.
"""

import inspect
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cache
from importlib import import_module
from operator import attrgetter
from typing import Any, Literal, TypeVar

from dlarch.discovery import Declaration, sources
from dlarch.errors import (
    NameClashError,
    UnknownNameError,
    UserError,
    did_you_mean,
)

logger = logging.getLogger(__name__)

Kind = Literal["model", "data", "baseline"]
ClassType = TypeVar("ClassType", bound=type[Any])

_CALLED: dict[Kind, str] = {"model": "model", "data": "data module", "baseline": "baseline"}
_FILES: dict[Kind, str] = {
    "model": "models/*/*.py", "data": "data/*.py", "baseline": "baselines/*.py",
}  # fmt: skip
_ENTRY_POINTS: dict[Kind, str] = {
    "model": "dlarch.models", "data": "dlarch.data", "baseline": "dlarch.baselines",
}  # fmt: skip
_DECORATORS: dict[Kind, str] = {
    "model": "register_model", "data": "register_data", "baseline": "register_baseline",
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """What is known of a registered class without importing it.

    Attributes:
        kind: "model" or "data".
        name: its registry name.
        module: where the class is defined.
        qualname: the name of the class in its module.
        summary: first line of its docstring.
        task: its first base class that is not itself registered; empty for data.
        family: the folder that its file is in; empty for data.
        paper: number on arXiv.
        aliases: other names that lead to it.
        distribution: the package that brings it; None for a class registered by a user's script.
        docstring: of the class, without its indentation.
    """

    kind: Kind
    name: str
    module: str
    qualname: str
    summary: str
    task: str = ""
    family: str = ""
    paper: str | None = None
    aliases: tuple[str, ...] = ()
    distribution: str | None = None
    docstring: str = field(default="", repr=False)

    def load(self) -> type[Any]:
        """Import the class.

        Raises:
            UserError: the package of a plugin cannot be imported.
        """
        key = (self.kind, self.module, self.qualname)
        if key not in _classes:
            try:
                loaded = attrgetter(self.qualname)(import_module(self.module))
            except Exception as error:
                if self.distribution == "dlarch":
                    raise
                raise UserError(
                    f"The {_CALLED[self.kind]} '{self.name}' of the package {self.distribution} "
                    f"cannot be loaded: {type(error).__name__}: {error}"
                ) from error
            loaded.registry_name = self.name
            _classes[key] = loaded
        return _classes[key]

    def same_class(self, other: "Entry") -> bool:
        """Whether both stand for one class, perhaps imported twice."""
        return (self.module, self.qualname) == (other.module, other.qualname)


# The classes that have been imported, and the entries of those that only a decorator told of.
_classes: dict[tuple[Kind, str, str], type[Any]] = {}
_registered: dict[Kind, dict[str, Entry]] = {"model": {}, "data": {}, "baseline": {}}


def register_model(
    name: str, *, paper: str | None = None, aliases: Iterable[str] = (), override: bool = False
) -> Callable[[ClassType], ClassType]:
    """Register a LightningModule under `name`, as a class decorator.

    The arguments must be literals, because listing reads them without importing the file.

    Args:
        name: lower case with underscores.
        paper: number on arXiv.
        aliases: other names that lead to the class.
        override: replace whatever has the name.

    Raises:
        NameClashError: another class has the name and `override` is false.
    """
    return _register("model", name, paper, tuple(aliases), override)


def register_data(
    name: str, *, paper: str | None = None, aliases: Iterable[str] = (), override: bool = False
) -> Callable[[ClassType], ClassType]:
    """Register a data module under `name`; see `register_model`."""
    return _register("data", name, paper, tuple(aliases), override)


def register_baseline(
    name: str, *, aliases: Iterable[str] = (), override: bool = False
) -> Callable[[ClassType], ClassType]:
    """Register a `dlarch.baselines.Baseline` under `name`; see `register_model`."""
    return _register("baseline", name, None, tuple(aliases), override)


def _register(
    kind: Kind, name: str, paper: str | None, aliases: tuple[str, ...], override: bool
) -> Callable[[ClassType], ClassType]:
    def decorate(cls: ClassType) -> ClassType:
        bases = [base.__name__ for base in cls.__mro__[1:] if "registry_name" not in vars(base)]
        docstring = inspect.cleandoc(cls.__doc__ or "")
        entry = _entry(
            kind,
            Declaration(
                cls.__module__, cls.__qualname__, bases[0], docstring, name, paper, aliases
            ),
        )
        other = _clash(_names(kind), entry)
        if other is not None and not override:
            raise NameClashError(
                f"'{name}' would name two {_CALLED[kind]}s: {other.module}.{other.qualname} and "
                f"{entry.module}.{entry.qualname}. Choose another name, or pass override=True."
            )
        read = _scan(kind)[0].get(name)
        if read is None or not read.same_class(entry):
            _registered[kind][name] = entry
        _classes[kind, entry.module, entry.qualname] = cls
        cls.registry_name = name
        return cls

    return decorate


def _clash(names: dict[str, Entry], entry: Entry) -> Entry | None:
    """The other class that has one of the names of `entry`."""
    holders = (names.get(name) for name in (entry.name, *entry.aliases))
    return next((other for other in holders if other and not other.same_class(entry)), None)


def find(kind: Kind, name: str) -> Entry:
    """The entry called `name`, also by an alias.

    Raises:
        UnknownNameError: there is none; the nearest names are in the message.
    """
    names = _names(kind)
    if name in names:
        return names[name]
    raise UnknownNameError(
        f"There is no {_CALLED[kind]} '{name}'.{did_you_mean(name, names)} "
        "`dlarch list` shows them all."
    )


def list_models(
    pattern: str = "*", *, task: str | None = None, family: str | None = None
) -> list[str]:
    """Sorted names of the models; patterns have wildcards and ignore case.

    Args:
        pattern: of the name, such as "*seq2seq*".
        task: pattern of the task, such as "Translation".
        family: pattern of the family, such as "seq2seq".
    """
    return sorted(
        entry.name
        for entry in _entries("model").values()
        if _matches(entry.name, pattern)
        and _matches(entry.task, task or "*")
        and _matches(entry.family, family or "*")
    )


def list_data(pattern: str = "*") -> list[str]:
    """Sorted names of the data modules; `pattern` has wildcards and ignores case."""
    return sorted(name for name in _entries("data") if _matches(name, pattern))


def list_baselines(pattern: str = "*") -> list[str]:
    """Sorted names of the baselines; `pattern` has wildcards and ignores case."""
    return sorted(name for name in _entries("baseline") if _matches(name, pattern))


def model_info(name: str) -> Entry:
    """What is known of a model without importing it; raises as `find` does."""
    return find("model", name)


def data_info(name: str) -> Entry:
    """What is known of a data module without importing it; raises as `find` does."""
    return find("data", name)


def baseline_info(name: str) -> Entry:
    """What is known of a baseline without importing it; raises as `find` does."""
    return find("baseline", name)


def stored_name(kind: Kind, path: str) -> str:
    """The name under which any process finds a class path; the path itself where there is none.

    A class of the user's folder, whose name is known only once it was imported, keeps its path.
    """
    entries = _scan(kind)[0].values()
    return next((e.name for e in entries if f"{e.module}.{e.qualname}" == path), path)


def broken_plugins() -> list[str]:
    """One sentence for each entry point that had to be skipped."""
    return [sentence for kind in _FILES for sentence in _scan(kind)[1]]


def _matches(text: str, pattern: str) -> bool:
    return fnmatchcase(text.lower(), pattern.lower())


def _entries(kind: Kind) -> dict[str, Entry]:
    return _scan(kind)[0] | _registered[kind]


def _names(kind: Kind) -> dict[str, Entry]:
    return _with_aliases(_entries(kind))


def _with_aliases(entries: dict[str, Entry]) -> dict[str, Entry]:
    return {alias: entry for entry in entries.values() for alias in entry.aliases} | entries


@cache
def _scan(kind: Kind) -> tuple[dict[str, Entry], list[str]]:
    """The classes of this package and of plugins, and a sentence for each that is broken."""
    found: dict[str, Entry] = {}
    broken: list[str] = []
    for called, distribution, read in sources(_FILES[kind], _ENTRY_POINTS[kind], _DECORATORS[kind]):
        try:
            for declaration in read():
                entry = _entry(kind, declaration, distribution)
                other = _clash(_with_aliases(found), entry)
                if other is not None and not declaration.override:
                    raise NameClashError(f"{other.module}.{other.qualname} has its name")
                found[entry.name] = entry
        except (ImportError, LookupError, OSError, SyntaxError, ValueError, UserError) as error:
            broken.append(f"Skipped {called}: {error}.")
            logger.warning("%s", broken[-1])
    tasks = {entry.qualname: entry.task for entry in found.values()}
    return {name: replace(entry, task=_task(entry, tasks)) for name, entry in found.items()}, broken


def _entry(kind: Kind, declaration: Declaration, distribution: str | None = None) -> Entry:
    is_model = kind == "model"
    return Entry(
        kind=kind,
        name=declaration.name or "",
        module=declaration.module,
        qualname=declaration.qualname,
        summary=declaration.docstring.partition("\n")[0],
        task=declaration.base if is_model else "",
        family=["", *declaration.module.split(".")][-2] if is_model else "",
        paper=declaration.paper,
        aliases=declaration.aliases,
        distribution=distribution,
        docstring=declaration.docstring,
    )


def _task(entry: Entry, tasks: dict[str, str]) -> str:
    """Follow the base class while it is itself registered (BetaVAE is a VAE)."""
    task, seen = entry.task, {entry.qualname}
    while task in tasks and task not in seen:
        seen.add(task)
        task = tasks[task]
    return task
