"""What a sweep is to run: the settings of a recipe that its file lists, crosses or searches."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from dlarch.config_files import read_mapping
from dlarch.errors import OptionError, did_you_mean
from dlarch.recipes import find_recipe, list_sweeps
from dlarch.runs import better

SECTIONS = ("recipe", "set", "seeds", "runs", "grid", "search", "metric", "columns")
SEARCH_KEYS = ("sampler", "trials", "seed", "space")
RANGE_KEYS = ("low", "high", "log", "step")

RECIPE = "recipe"
"""The one option that is no option of `dlarch fit`: the recipe itself, to compare models."""

Options = Mapping[str, Any]
"""Values by the name of the option of `dlarch fit`, such as "model.activation", or `RECIPE`."""


@dataclass(frozen=True)
class Setting:
    """Options that are tried together.

    Attributes:
        name: what it is called in tables and folders.
        options: beside those of the recipe and of the whole sweep.
    """

    name: str
    options: Options


@dataclass(frozen=True)
class Space:
    """The values of one option to search in.

    Attributes:
        choices: the values themselves; None for a range.
        low: smallest value.
        high: largest value.
        log: whether equal ratios are equally likely.
        step: between values.
    """

    choices: tuple[Any, ...] | None = None
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float | None = None


@dataclass(frozen=True)
class Search:
    """A search by Optuna.

    Attributes:
        sampler: "random", or "tpe", which learns from the trials so far.
        trials: how many settings to try.
        seed: of the sampler.
        space: values by option.
    """

    sampler: Literal["random", "tpe"]
    trials: int
    seed: int
    space: Mapping[str, Space]


@dataclass(frozen=True)
class Plan:
    """A sweep as its file says it.

    Attributes:
        name: of the file, without suffix.
        recipe: file of the recipe; None where each setting has its own.
        shared: options of all settings.
        seeds: each setting is run once with each.
        settings: in the order of the file; empty for a search.
        search: None for a list or grid.
        metric: validation metric that chooses among settings and checkpoints; None: the recipe's.
        columns: metrics of the table; None: all of the test.
    """

    name: str
    recipe: Path | None
    shared: Options
    seeds: tuple[int, ...]
    settings: tuple[Setting, ...]
    search: Search | None
    metric: str | None
    columns: tuple[str, ...] | None

    def key(self, options: Options, seed: int | None) -> str:
        """What tells a trial from any other: recipe, options and seed; of a search no seed."""
        # What the recipe says: its comments and its place do not count.
        recipe = read_mapping(self._recipe(options), "recipe", "must say what to train.")
        told = [recipe, dict(self.shared), _without_recipe(options), self.metric, seed]
        return hashlib.sha256(yaml.safe_dump(told).encode()).hexdigest()[:16]

    def words(self, options: Options, seed: int, name: str) -> list[str]:
        """What to type after `dlarch` for one run.

        Args:
            options: of the setting.
            seed: of the run.
            name: of its folder of runs.
        """
        words = ["fit", "--config", str(self._recipe(options)), "--name", name]
        words += ["--seed_everything", str(seed)]
        if self.metric is not None:
            words += ["--monitor", self.metric]
        for option, value in {**self.shared, **_without_recipe(options)}.items():
            words += [f"--{option}", as_word(value)]
        return words

    def _recipe(self, options: Options) -> Path:
        recipe = options.get(RECIPE, self.recipe)
        assert recipe is not None, "read_plan has seen to it"
        return Path(recipe)


def read_plan(text: str) -> Plan:
    """Read the file of a sweep.

    Args:
        text: path, or name among the shipped ones.

    Raises:
        UserError: there is no such file, or it cannot be understood.
    """
    shipped = {recipe.name.rpartition("/")[2]: recipe.name for recipe in list_sweeps()}
    path = find_recipe(text if Path(text).is_file() else shipped.get(text, text))
    values = read_mapping(
        path, "sweep", "must name a recipe, and have one of the sections runs, grid and search."
    )
    if "model" in values:
        raise OptionError(
            f"{path} is a recipe, not a sweep: a file of a sweep names it, `recipe: {path.stem}`, "
            "and has one of the sections runs, grid and search."
        )
    for key in values:
        if key not in SECTIONS:
            raise OptionError(
                f"{path} has the unknown section {key}.{did_you_mean(key, SECTIONS)} A sweep has: "
                f"{', '.join(SECTIONS)}."
            )
    kinds = [kind for kind in ("runs", "grid", "search") if values.get(kind)]
    if len(kinds) != 1:
        raise OptionError(
            f"{path} must have exactly one of the sections runs (a list), grid (all combinations) "
            f"and search (by Optuna), not {' and '.join(kinds) or 'none'}."
        )
    section = _mapping(values[kinds[0]], path, kinds[0])
    search = _search(section, path) if kinds == ["search"] else None
    settings = () if search else tuple(_settings(kinds[0], section, path))
    recipe = values.get(RECIPE)
    each_has_one = [search.space] if search else [setting.options for setting in settings]
    if not isinstance(recipe, str) and not all(RECIPE in options for options in each_has_one):
        raise OptionError(f"{path} names no recipe: add a line like `recipe: mlp`.")
    shared = _options(values.get("set") or {}, path, "set")
    if RECIPE in shared:
        raise OptionError(f"{path}: recipe is a line of its own, not one of set.")
    metric = values.get("metric")
    if metric is not None and not isinstance(metric, str):
        raise OptionError(f"{path}: metric must be a name such as val/accuracy, not {metric!r}.")
    if search is not None and (metric is None or metric.startswith("test/")):
        raise OptionError(
            f"{path}: a search needs a validation metric to choose by, `metric: val/accuracy`; "
            "what chooses by the test tells nothing of new data."
        )
    return Plan(
        name=path.stem,
        recipe=_recipe_beside(path, recipe) if isinstance(recipe, str) else None,
        shared=shared,
        seeds=_seeds(values.get("seeds", [1]), path),
        settings=settings,
        search=search,
        metric=metric,
        columns=tuple(map(str, values["columns"])) if values.get("columns") else None,
    )


def direction(plan: Plan) -> Literal["minimize", "maximize"]:
    """What a search does with its metric."""
    return "maximize" if plan.metric and better(plan.metric) == "max" else "minimize"


def as_word(value: Any) -> str:
    """A value as it is typed after an option."""
    return value if isinstance(value, str) else json.dumps(value)


def named(options: Options) -> str:
    """A name for a setting: its options by their last words."""
    return ", ".join(
        f"{name.rpartition('.')[2]} {_shown(value)}" for name, value in options.items()
    )


def _shown(value: Any) -> str:
    """A value in a name; of a class its last word and its arguments."""
    if not isinstance(value, Mapping) or "class_path" not in value:
        return as_word(value)
    arguments = named(value.get("init_args") or {})
    return " ".join(filter(None, (value["class_path"].rpartition(".")[2], arguments)))


def _recipe_beside(path: Path, text: str) -> Path:
    """The recipe that a sweep names: beside it, in the working directory, or shipped."""
    beside = path.parent / text
    return beside if beside.is_file() else find_recipe(text)


def _found(options: Options, path: Path) -> Options:
    """The options with the file of the recipe that they name, if they name one."""
    if RECIPE not in options:
        return options
    return {**options, RECIPE: str(_recipe_beside(path, str(options[RECIPE])))}


def _without_recipe(options: Options) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name != RECIPE}


def _settings(kind: str, section: Mapping[str, Any], path: Path) -> Iterable[Setting]:
    if kind == "runs":
        for name, options in section.items():
            yield Setting(str(name), _found(_options(options or {}, path, f"runs, {name}"), path))
        return
    axes = [_axis(name, values, path) for name, values in section.items()]
    for one, other in itertools.combinations(axes, 2):
        twice = {name for setting in one for name in setting.options}
        twice &= {name for setting in other for name in setting.options}
        if twice:
            raise OptionError(f"{path}: two sides of the grid set {', '.join(sorted(twice))}.")
    for combination in itertools.product(*axes):
        options = {
            name: value for setting in combination for name, value in setting.options.items()
        }
        yield Setting(", ".join(setting.name for setting in combination), _found(options, path))


def _axis(name: str, values: Any, path: Path) -> list[Setting]:
    """One side of a grid: the values of an option, or names with the options that each sets."""
    if isinstance(values, Mapping) and values:
        return [
            Setting(str(each), _options(options or {}, path, f"{name}, {each}"))
            for each, options in values.items()
        ]
    return [Setting(named({name: value}), {name: value}) for value in _list(values, path, name)]


def _search(section: Mapping[str, Any], path: Path) -> Search:
    _known(section, SEARCH_KEYS, path, "search")
    sampler, trials = section.get("sampler", "tpe"), section.get("trials")
    if sampler not in ("random", "tpe"):
        raise OptionError(f"{path}: sampler must be random or tpe, not {sampler!r}.")
    if not isinstance(trials, int) or trials < 1:
        raise OptionError(f"{path}: search needs the number of trials, such as `trials: 30`.")
    space = _mapping(section.get("space"), path, "space")
    spaces = {option: _space(value, path, option) for option, value in space.items()}
    return Search(sampler, trials, int(section.get("seed", 1)), spaces)


def _space(value: Any, path: Path, option: str) -> Space:
    if isinstance(value, list) and value:
        return Space(choices=tuple(_found({option: each}, path)[option] for each in value))
    if not isinstance(value, Mapping):
        raise OptionError(
            f"{path}: {option} must be a list of values, or a range such as "
            f"{{low: 1.0e-4, high: 1.0, log: true}}, not {value!r}."
        )
    _known(value, RANGE_KEYS, path, option)
    low, high = value.get("low"), value.get("high")
    numbers = all(isinstance(n, int | float) and not isinstance(n, bool) for n in (low, high))
    if not numbers or not low < high:  # type: ignore[operator]
        hint = " (YAML reads 1e-4 as text: write 1.0e-4.)" if isinstance(low, str) else ""
        raise OptionError(f"{path}: {option} needs numbers low < high, not {low} and {high}.{hint}")
    return Space(None, low, high, bool(value.get("log")), value.get("step"))  # type: ignore[arg-type]


def _known(section: Mapping[str, Any], keys: Iterable[str], path: Path, where: str) -> None:
    for key in section:
        if key not in keys:
            raise OptionError(
                f"{path}: {where} has the unknown key {key}.{did_you_mean(key, keys)}"
            )


def _options(value: Any, path: Path, where: str) -> dict[str, Any]:
    """Options with their values; a class with its arguments may be given as in a recipe."""
    return {name: _number(each) for name, each in _mapping(value, path, where).items()}


def _number(value: Any) -> Any:
    """A number that YAML took for text, since 1e-4 has no point."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _mapping(value: Any, path: Path, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise OptionError(f"{path}: {where} must be options with values, not {value!r}.")
    return {str(key): each for key, each in value.items()}


def _list(value: Any, path: Path, option: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise OptionError(f"{path}: {option} must be a list of values, not {value!r}.")
    return [_number(each) for each in value]


def _seeds(value: Any, path: Path) -> tuple[int, ...]:
    seeds = value if isinstance(value, list) else [value]
    if not seeds or not all(isinstance(seed, int) and seed >= 0 for seed in seeds):
        raise OptionError(f"{path}: seeds must be whole numbers such as [1, 2, 3], not {value!r}.")
    return tuple(seeds)
