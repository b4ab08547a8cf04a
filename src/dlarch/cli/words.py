"""What was typed after `dlarch`: recipes, names and the checkpoint that are meant."""

from __future__ import annotations

import inspect
import json
import logging
import re
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import yaml

from dlarch import registry
from dlarch.compat.parser import flattened, option_name, renamed
from dlarch.config_files import read_mapping
from dlarch.errors import CheckpointError, OptionError, UserError, did_you_mean
from dlarch.hub.stored import Stored, open_stored, rename_arguments
from dlarch.recipes import find_recipe, list_recipes
from dlarch.runs import Run, newest_run, resolve_checkpoint

logger = logging.getLogger(__name__)

KINDS: tuple[registry.Kind, ...] = ("model", "data")

OWN_OPTIONS = {
    "config": "a recipe",
    "ckpt_path": "a run folder or checkpoint",
    "test_after_fit": "test the best checkpoint after fit",
    "monitor": "metric that chooses the best checkpoint; the task's own when not given",
    "score_train": "score the training split too, with the tested weights",
    "beam": "hypotheses that test and predict follow per sentence (translation); 1 is greedy",
    "length_penalty": "power of the length by which scores of a beam are divided (translation)",
    "name": "of the folder of runs; the recipe's when not given",
    "save_every_n_steps": "optimizer steps between two exactly resumable checkpoints",
    "seed_everything": "seed of all random numbers",
    "print_config": "print the configuration and exit",
    "help": "show the options and exit",
    "model": "a model",
    "data": "a data module",
}
"""Options outside the sections model, data and trainer."""

SECTIONS = ("model", "data", "trainer", "ckpt_path", "weights_only", "verbose", *OWN_OPTIONS)
"""What may stand at the left margin of a recipe."""

_KEYS = ("class_path", "init_args", "dict_kwargs")
"""What stands in a section that names a class."""

_DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.\w+)+")
_HARMLESS = ("torch.nn.", "torch.optim.", "lightning.pytorch.", "dlarch.")
"""Where the classes are that a stored configuration may name."""

_SHORT_NAMES = (
    "torch.optim",
    "torch.optim.lr_scheduler",
    "lightning.pytorch.callbacks",
    "lightning.pytorch.loggers",
)
"""Modules whose classes may be named without them."""


def class_path(kind: str, name: str) -> str:
    """The class path of a registry name; a class path is returned as it is."""
    if "." in name:
        return name
    entry = registry.find("model" if kind == "model" else "data", name)
    entry.load()  # a broken plugin is named here
    return f"{entry.module}.{entry.qualname}"


def registry_name(kind: str, path: str) -> str:
    """The registry name of a class path; the path itself where there is none."""
    return registry.stored_name("model" if kind == "model" else "data", path)


class Words:
    """The words after `dlarch`, made into what LightningCLI parses.

    Attributes:
        verb: fit, validate, test or predict.
        words: verb and options with class paths for names; configurations come first, those of the
            checkpoint before recipes.
        recipe: name of the recipe, for the run folder; None if there is none.
        checkpoint: the file that was asked for or found; None to start afresh.
        stored: what is stored in it.
        given: all options of recipes and command line, names without `init_args`, and their values.
        resolved: arguments that the checkpoint's model replaced when it was built, with their
            values: they win over recipes.
    """

    def __init__(self, argv: list[str]) -> None:
        self.verb = argv[0]
        self.given: list[tuple[str, Any]] = []
        self.recipe: str | None = None
        self._helps = False
        asked, recipes, options = self._sorted(argv[1:])
        configs = [("--config", str(path)) for path in recipes]
        if recipes:
            self.recipe = _recipe_name(recipes[-1])
        self.checkpoint = self._find_checkpoint(asked or dict(self.given).get("ckpt_path"))
        self.stored: Stored | None = None
        self.resolved: dict[str, Any] = {}
        if self.checkpoint is not None:
            self.stored = open_stored(self.checkpoint, None)
            configs = [*self._config_of_checkpoint(recipes), *configs]
            configs += self._config_resolved(self.stored)
        self.words = [self.verb, *(word for pair in configs for word in pair), *options]
        if not self._helps:
            self._check_named()

    def _sorted(self, rest: list[str]) -> tuple[str | None, list[Path], list[str]]:
        """The checkpoint asked for, the recipes, and the other words."""
        if rest and rest[0].endswith((".yaml", ".yml")):
            raise OptionError(f"A recipe is given as --config {rest[0]}.")
        asked: str | None = None
        recipes: list[Path] = []
        options: list[str] = []
        in_recipes: list[tuple[str, Any]] = []
        while rest:
            word, *rest = rest
            option, equals, value = word.partition("=")
            if option in ("-h", "--help", "--print_config") or option.endswith(".help"):
                self._helps = True
            if not option.startswith("--") and option != "-c":
                options.append(word)
                continue
            name = option_name(option.lstrip("-"))
            takes_name = name in KINDS or option in ("--model.help", "--data.help")
            bare = not equals and (not rest or rest[0].startswith("--"))
            if bare and "." in option and not option.endswith(".help"):
                raise OptionError(f"{option} needs a value.")
            if option not in ("--config", "-c", "--ckpt_path") and not takes_name:
                self.given.append((name, value if equals else (rest[0] if rest else None)))
                options.append(word)
                continue
            if not equals:
                if not rest or rest[0].startswith("--"):
                    if option.endswith(".help"):
                        options.append(word)
                        continue
                    raise OptionError(f"{option} needs a value.")
                value, *rest = rest
            if option == "--ckpt_path":
                asked = None if value in ("null", "None", "") else value
            elif takes_name:
                options += [option, self._named(name.split(".")[0], value)]
            else:
                recipes.append(find_recipe(value))
                in_recipes += flattened(read_recipe(recipes[-1]))
        self.given = [*in_recipes, *self.given]
        return asked, recipes, options

    def _named(self, kind: str, value: str) -> str:
        """The value of --model or --data with a class path for a name."""
        if not value.lstrip().startswith("{"):
            path = class_path(kind, value)
            self.given.append((kind, path))
            return path
        try:
            section = renamed({kind: yaml.safe_load(value)}, class_path)
        except yaml.YAMLError as error:
            raise OptionError(f"--{kind} is no YAML: {value}") from error
        self.given += flattened(section)
        return json.dumps(section[kind])

    def _find_checkpoint(self, asked: str | None) -> Path | None:
        if asked is not None:
            return resolve_checkpoint(
                asked, recipe=self.recipe, prefer="last" if self.verb == "fit" else "best"
            )
        if self.verb == "fit" or self._helps:
            return None
        # Never score random weights by accident: take the best of the newest run.
        found = resolve_checkpoint(str(newest_run(self.recipe).folder), prefer="best")
        logger.info("Checkpoint: %s", found)
        return found

    def _config_of_checkpoint(self, recipes: list[Path]) -> list[tuple[str, str]]:
        """How the checkpoint's run was made, as a --config; of it only the model beside a recipe.

        Raises:
            OptionError: there is no recipe, and the checkpoint does not say.
        """
        assert self.checkpoint is not None
        assert self.stored is not None
        run = Run(self.checkpoint.parent.parent)
        in_run = self.checkpoint.parent == run.checkpoints and run.config.is_file()
        config = read_recipe(run.config) if in_run else self.stored.values.get("config")
        if isinstance(config, dict):
            if not in_run:
                _check_foreign(config, self.checkpoint)
            config = self._by_names_of_today(config)
        else:
            if not recipes:
                raise OptionError(
                    f"{self.checkpoint} does not say how it was made: name its recipe with "
                    "--config."
                )
            return []
        if recipes:
            # A recipe for another model is refused later, with its weights.
            config = {"model": config["model"]} if "model" in config else {}
        elif in_run:
            self.recipe = run.folder.parent.name
        self.given = [*flattened(config), *self.given]
        return [("--config", json.dumps(renamed(config, class_path)))]

    def _config_resolved(self, stored: Stored) -> list[tuple[str, str]]:
        """What the checkpoint's model replaced when it was built, as a --config.

        What it was made from, such as another run, need not be there any more.
        """
        path = str(dict(self.given).get("model"))
        model_class = _loaded("model", path)
        if model_class is None or stored.values.get("model") != registry_name("model", path):
            return []
        hparams = json.loads(json.dumps(stored.values["hparams"], default=str))
        names = getattr(model_class, "resolved_arguments", ())
        self.resolved = {name: hparams[name] for name in names if name in hparams}
        if not self.resolved:
            return []
        section = {"class_path": path, "init_args": self.resolved}
        return [("--config", json.dumps(renamed({"model": section}, class_path)))]

    def _by_names_of_today(self, config: dict[str, Any]) -> dict[str, Any]:
        """A stored configuration with the model's arguments as they are called now."""
        section = config.get("model")
        if self.stored is None or not isinstance(section, dict):
            return config
        arguments = section.get("init_args")
        if not isinstance(arguments, dict):
            return config
        named = rename_arguments(self.stored.values.get("model"), arguments)
        return {**config, "model": {**section, "init_args": named}}

    @property
    def resumed_step(self) -> int | None:
        """Optimizer steps before this run; None in a new one."""
        checkpoint = self.stored.checkpoint if self.stored is not None else None
        step = None if checkpoint is None else checkpoint.get("global_step")
        return step if isinstance(step, int) else None

    def _check_named(self) -> None:
        """Refuse to go on without a model and data, naming recipes that have both."""
        given = dict(self.given)
        model = given.get("model")
        if not isinstance(model, str):
            known = ", ".join(recipe.name for recipe in list_recipes())
            raise OptionError(f"Say what to {self.verb}: --config RECIPE, one of {known}.")
        if not isinstance(given.get("data"), str):
            name = registry_name("model", model)
            fitting = [recipe.name for recipe in list_recipes() if recipe.model == name]
            hint = f" Recipes for {name}: {', '.join(fitting)}." if fitting else ""
            raise OptionError(f"{name} needs data: give --data NAME, or --config RECIPE.{hint}")

    def known_options(self) -> list[str]:
        """Names of all options there are, with those of the classes that are given."""
        names = dict.fromkeys([*OWN_OPTIONS, "trainer"])
        for prefix, value in (("trainer", "lightning.pytorch.Trainer"), *self.given):
            loaded = _loaded(prefix, value) if prefix in names else None
            if loaded is not None:
                names |= {f"{prefix}.{name}": None for name in inspect.signature(loaded).parameters}
        return list(names)


def _check_foreign(config: dict[str, Any], checkpoint: Path) -> None:
    """Refuse to import what a configuration that came with a checkpoint names.

    Such a file may be a stranger's: registered models and data, and the classes of torch, Lightning
    and dlarch, are all that it may ask for.

    Raises:
        CheckpointError: it names anything else.
    """
    for kind in KINDS:
        section = config.get(kind)
        path = section.get("class_path") if isinstance(section, dict) else section
        if isinstance(path, str) and "." in path:
            _refuse_code(path, checkpoint)
    for text in _strings({**config, **{kind: _arguments(config.get(kind)) for kind in KINDS}}):
        root = text.partition(".")[0]
        if _DOTTED.fullmatch(text) and not text.startswith(_HARMLESS) and find_spec(root):
            _refuse_code(text, checkpoint)


def _refuse_code(path: str, checkpoint: Path) -> NoReturn:
    raise CheckpointError(
        f"{checkpoint} asks for {path}, code that is not dlarch's: if you know who made the "
        "checkpoint, name the recipe that it was made with, --config RECIPE."
    )


def _arguments(section: Any) -> Any:
    return section.get("init_args") if isinstance(section, dict) else None


def _strings(values: Any) -> Iterator[str]:
    """All texts of a configuration."""
    if isinstance(values, str):
        yield values
    elif isinstance(values, dict):
        for value in values.values():
            yield from _strings(value)
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _strings(value)


def read_recipe(path: Path) -> dict[str, Any]:
    """The content of a recipe.

    Raises:
        OptionError: it is no YAML, or no mapping of sections.
        DataError: it cannot be read.
    """
    values = read_mapping(
        path,
        "recipe",
        "must have the sections model, data and trainer, each `name:` with its options indented "
        "below.",
    )
    if "recipe" in values:
        raise OptionError(f"{path} is a sweep: run it by `dlarch sweep --config {path}`.")
    for name in values:
        if name not in SECTIONS:
            hint = did_you_mean(name, SECTIONS)
            raise OptionError(f"{path} has the unknown section {name}.{hint}")
    for kind in KINDS:
        section = values.get(kind, "")
        if isinstance(section, dict):
            stray = [str(key) for key in section if key not in _KEYS]
            hint = did_you_mean(stray[0], _KEYS) if stray else ""
            if hint:
                raise OptionError(f"{path}: {kind} has the unknown key {stray[0]}.{hint}")
            if stray and "class_path" in section:
                raise OptionError(
                    f"{path}: put {', '.join(stray)} of {kind} under init_args, indented."
                )
        path_given = section.get("class_path", "") if isinstance(section, dict) else section
        if not isinstance(path_given, str):
            raise OptionError(
                f"{path}: `{kind}` must be a name, or `class_path` and `init_args`, "
                f"not {section!r}."
            )
    return values


def _recipe_name(path: Path) -> str:
    return path.parent.parent.name if path.name == "config.yaml" else path.stem


def _loaded(prefix: str, value: Any) -> type[Any] | None:
    """The class that an option names, if it does."""
    for path in _paths(prefix, value) if isinstance(value, str) else ():
        module, _, name = path.rpartition(".")
        try:
            loaded = getattr(import_module(module), name)
        except (ImportError, AttributeError, ValueError):
            continue
        if isinstance(loaded, type):
            return loaded
    return None


def _paths(prefix: str, value: str) -> Iterator[str]:
    if prefix in KINDS:
        try:
            yield class_path(prefix, value)
        except UserError:
            return
    elif "." in value:
        yield value
    elif value.isidentifier():
        yield from (f"{module}.{value}" for module in _SHORT_NAMES)
