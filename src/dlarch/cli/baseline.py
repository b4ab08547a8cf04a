"""`dlarch baseline`: what methods of scikit-learn reach on the same data, beside the networks."""

from __future__ import annotations

import csv
import inspect
import io
import json
import sys
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from dlarch import factory, registry
from dlarch.cli.options import OptionParser, print_table, print_text
from dlarch.errors import MismatchError, OptionError
from dlarch.runs import SWEEPS, runs_root


def run(argv: list[str]) -> int:
    """`dlarch baseline --config RECIPE` or `--data NAME [--data.OPTION VALUE ...]`."""
    parser = OptionParser(
        "baseline", "Fit methods of scikit-learn on a data module's splits, score them as networks."
    )
    parser.add_argument(
        "names",
        nargs="*",
        help="baselines, as NAME or NAME:OPTION=VALUE; all that fit the data when not given",
    )
    parser.add_argument("--config", help="a recipe, of which the data are taken")
    parser.add_argument("--data", help="a data module; its options follow as --data.NAME VALUE")
    parser.add_argument(
        "--features", nargs="+", help="what texts are turned into, one after another: words, tfidf,"
        " characters, naive_bayes, mean_vectors, tfidf_vectors; or images: pixels, codes"
    )  # fmt: skip
    parser.add_argument("--run", help="the run of an autoencoder, for codes of images")
    parser.add_argument("--vectors", help="file of word vectors, for means of vectors")
    parser.add_argument("--seed", type=int, default=1, help="of what is random (default: 1)")
    parser.add_argument("--list", action="store_true", help="only list the baselines")
    words, data_options = _without_data_options(argv)
    options = parser.parse(words)
    if options.list:
        print_table([(n, registry.baseline_info(n).summary) for n in registry.list_baselines()])
        return 0
    data = _data(options.config, options.data, data_options)
    names = options.names or _fitting(data)
    baselines = {name: _baseline(name) for name in names}

    from dlarch.baselines import score

    called = registry_name_of(data)
    rows: list[dict[str, Any]] = []
    asked = options.features or (["codes"] if options.run is not None else [None])
    for (name, baseline), features in product(baselines.items(), asked):
        name = name if features is None else f"{name} on {_called(features, options.run)}"
        print_text(f"fitting {name}")
        scores = score(baseline, data, options.seed, features, options.vectors, options.run)
        rows.append({"name": name, "kind": "baseline", "minutes": scores.seconds / 60})
        rows[-1] |= scores.metrics
    metrics = list(dict.fromkeys(tag for row in rows for tag in row if "/" in tag))
    rows += _networks(data, metrics)
    _show(called, rows, metrics)
    path = runs_root() / "baselines" / f"{called}.csv"
    _write(path, rows, ["name", "kind", *metrics, "minutes"])
    print_text(f"\nAs a file: {path}")
    return 0


def _called(features: str, run: str | None) -> str:
    return f"codes of {run}" if features == "codes" and run is not None else features


def _without_data_options(argv: list[str]) -> tuple[list[str], dict[str, Any]]:
    """The other words, and the values of --data.NAME VALUE or --data.NAME=VALUE.

    Raises:
        OptionError: a value is missing.
    """
    words: list[str] = []
    options: dict[str, Any] = {}
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        option, equals, value = word.partition("=")
        if not option.startswith("--data."):
            words.append(word)
            continue
        if not equals and (not rest or rest[0].startswith("--")):
            raise OptionError(f"{option} needs a value.")
        text = value if equals else rest.pop(0)
        options[option.removeprefix("--data.")] = yaml.safe_load(text)
    return words, options


def _baseline(words: str) -> Any:
    """The baseline of NAME or NAME:OPTION=VALUE,OPTION=VALUE.

    Raises:
        OptionError: an option has no value.
    """
    name, _, given = words.partition(":")
    options = {}
    for word in filter(None, given.split(",")):
        option, equals, value = word.partition("=")
        if not equals:
            raise OptionError(f"{words}: option {option} needs a value, as in NAME:OPTION=VALUE.")
        options[option] = yaml.safe_load(value)
    return factory.create_baseline(name, **options)


def registry_name_of(thing: Any) -> str:
    """The name under which a class is registered."""
    return str(getattr(type(thing), "registry_name", type(thing).__name__))


def _data(config: str | None, name: str | None, options: dict[str, Any]) -> Any:
    """The data module that is meant, set up."""
    from dlarch.cli.words import class_path, read_recipe
    from dlarch.compat.parser import renamed
    from dlarch.recipes import find_recipe

    section: Any = name
    if config is not None:
        values = read_recipe(find_recipe(config))
        section = values.get("data") if name is None else name
    if section is None:
        raise OptionError("Say which data: --config RECIPE, or --data NAME.")
    section = renamed({"data": section}, class_path)["data"]
    data = _instantiated(section, options)
    if not hasattr(data, "in_order"):
        raise MismatchError(f"{type(data).__name__} is no data module of dlarch's kind.")
    data.prepare_data()
    data.setup("fit")
    return data


def _instantiated(section: dict[str, Any], more: dict[str, Any]) -> Any:
    from lightning import LightningDataModule

    from dlarch.compat.parser import ComplaintError, Parser, sentence

    parser = Parser(allow_abbrev=False)
    parser.add_lightning_class_args(LightningDataModule, "data", subclass_mode=True)
    options = {**(section.get("init_args") or {}), **more}
    try:
        text = json.dumps({**section, "init_args": options})
        return parser.instantiate_classes(parser.parse_args(["--data", text])).data
    except ComplaintError as complaint:
        given = [f"data.{name}" for name in options]
        known = [f"data.{name}" for name in inspect.signature(_loaded(section)).parameters]
        raise OptionError(sentence(str(complaint), given, known)) from complaint


def _loaded(section: dict[str, Any]) -> Any:
    module, _, name = section["class_path"].rpartition(".")
    return getattr(import_module(module), name)


def _fitting(data: Any) -> list[str]:
    """The baselines that can learn from the data."""
    kind = "classes" if data.spec.num_classes is not None else "numbers"
    found = []
    for name in registry.list_baselines():
        loaded = registry.baseline_info(name).load()
        if loaded.predicts == kind and data.batch_type in loaded.batch_type:
            found.append(name)
    if not found:
        raise MismatchError(f"There is no baseline for {registry_name_of(data)}.")
    return found


def _networks(data: Any, metrics: list[str]) -> list[dict[str, Any]]:
    """The newest finished run of each recipe that was trained on the same examples.

    Runs of sweeps stand in tables of their own.
    """
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(runs_root().glob("**/metrics.json")):
        if path.is_relative_to(runs_root() / SWEEPS):
            continue
        try:
            spec = json.loads((path.parent / "spec.json").read_text(encoding="utf-8"))["spec"]
            record = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, KeyError):
            continue
        if (spec or {}).get("fingerprint") != data.spec.fingerprint:
            continue
        name = path.parent.relative_to(runs_root()).parent.as_posix()
        row = {"name": name, "kind": record["model"], "minutes": record["minutes"]}
        # Validation as in the epoch that was tested, where it is what chose the epoch.
        best = {record.get("monitor"): record.get("best_score")}
        values = {**record["metrics"], **best}
        found[name] = row | {tag: values[tag] for tag in metrics if values.get(tag) is not None}
    return list(found.values())


def _show(called: str, rows: list[dict[str, Any]], metrics: list[str]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("", "kind", *metrics, "minutes", title=called, title_justify="left")
    for row in rows:
        values = [f"{row[tag]:.4f}" if tag in row else "-" for tag in metrics]
        table.add_row(row["name"], row["kind"], *values, f"{row['minutes']:.1f}")
    Console(highlight=False, width=None if sys.stdout.isatty() else 160).print(table)


def _write(path: Path, rows: list[dict[str, Any]], columns: list[str]) -> None:
    from dlarch.run_files import write_text

    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
