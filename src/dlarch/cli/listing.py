"""`dlarch list`, `info` and `recipes`: what there is, said without importing it."""

import shutil
from pathlib import Path

from dlarch import recipes, registry
from dlarch.cli.options import OptionParser, choose, print_table, print_text
from dlarch.errors import OptionError, UnknownNameError, did_you_mean
from dlarch.registry import Entry


def run_list(argv: list[str]) -> int:
    """`dlarch list [PATTERN] [--task T] [--family F]`: models, data and baselines, one per line.

    Raises:
        UnknownNameError: nothing matches.
    """
    parser = OptionParser("list", "Print models, then data, then baselines: name and summary.")
    parser.add_argument("pattern", nargs="?", default="*", help='such as "*seq2seq*"')
    parser.add_argument("--task", help="only models of this task, such as Translation")
    parser.add_argument("--family", help="only models of this family, such as seq2seq")
    options = parser.parse(argv)
    names = registry.list_models(options.pattern, task=options.task, family=options.family)
    entries = [registry.model_info(name) for name in names]
    if options.task is None and options.family is None:
        entries += [registry.data_info(name) for name in registry.list_data(options.pattern)]
        found = registry.list_baselines(options.pattern)
        entries += [registry.baseline_info(name) for name in found]
    if not entries:
        raise _nothing_matches(options.pattern, options.task, options.family)
    print_table([(entry.name, _summary(entry)) for entry in entries])
    return 0


def _summary(entry: Entry) -> str:
    """What is said of an entry; a baseline, which may be called as a model is, says what it is."""
    return f"Baseline: {entry.summary}" if entry.kind == "baseline" else entry.summary


def _nothing_matches(pattern: str, task: str | None, family: str | None) -> UnknownNameError:
    models = [registry.model_info(name) for name in registry.list_models()]
    names = [*(e.name for e in models), *registry.list_data(), *registry.list_baselines()]
    hints = (
        (pattern.strip("*?"), names),
        (task or "", {entry.task for entry in models}),
        (family or "", {entry.family for entry in models}),
    )
    hint = next(filter(None, (did_you_mean(text, choices) for text, choices in hints)), "")
    return UnknownNameError(f"Nothing matches.{hint} `dlarch list` shows all there is.")


def run_info(argv: list[str]) -> int:
    """`dlarch info NAME [--layers [--ARGUMENT VALUE ...]]`: what a model or data module is.

    Raises:
        UnknownNameError: there is neither a model nor a data module of that name.
        OptionError: an argument is given without --layers, or for data.
    """
    parser = OptionParser("info", "Print what is known of a model or data module.")
    parser.add_argument("name", help="of a model or data module")
    parser.add_argument(
        "--layers",
        action="store_true",
        help="also build the model and print its layers; constructor arguments and facts of the "
        "data may follow as --NAME VALUE, the facts left out are those of a tiny example",
    )
    options, rest = parser.parse_known_args(argv)
    entry = _find(options.name)
    if rest and not options.layers:
        parser.refuse(rest[0])
    if options.layers and entry.kind != "model":
        raise OptionError(f"'{entry.name}' is no model: it has no layers.")
    if not options.layers:
        _print_entry(entry)
        return 0
    from dlarch.cli import layers  # with torch

    model = layers.build(entry.name, rest)
    _print_entry(entry)
    print()
    layers.print_layers(model)
    return 0


def _find(name: str) -> Entry:
    for find in (registry.model_info, registry.data_info, registry.baseline_info):
        try:
            return find(name)
        except UnknownNameError:
            continue
    names = [*registry.list_models(), *registry.list_data(), *registry.list_baselines()]
    hint = did_you_mean(name, names)
    raise UnknownNameError(
        f"There is no model or data module '{name}'.{hint} `dlarch list` shows them all."
    )


def _print_entry(entry: Entry) -> None:
    facts: list[tuple[str, str]] = [(entry.kind, entry.name)]
    if entry.aliases:
        facts.append(("aliases", ", ".join(entry.aliases)))
    if entry.paper:
        facts.append(("paper", f"https://arxiv.org/abs/{entry.paper}"))
    if entry.kind == "model":
        facts += [("task", entry.task), ("family", entry.family)]
    facts.append(("class", f"{entry.module}.{entry.qualname}"))
    if entry.distribution not in (None, "dlarch"):
        facts.append(("package", str(entry.distribution)))
    names = {entry.name, entry.qualname, f"{entry.module}.{entry.qualname}", *entry.aliases}
    if entry.kind != "baseline":
        serving = [r.name for r in recipes.list_recipes() if {r.model, r.data} & names]
        facts.append(("recipes", ", ".join(serving) or "none"))
    print_table(facts)
    if entry.docstring:
        print_text(f"\n{entry.docstring}")


def run_recipes(argv: list[str]) -> int:
    """`dlarch recipes [list | show NAME | copy NAME [TARGET] [--force]]`.

    Raises:
        UnknownNameError: there is no such recipe.
        OptionError: the target exists and --force is not given.
    """
    verb = "list" if not argv or argv[0].startswith("-") else ""
    verb = verb or choose("recipes", argv, ("list", "show", "copy"))
    words = argv[1:] if argv and argv[0] == verb else argv
    return {"list": _list_recipes, "show": _show_recipe, "copy": _copy_recipe}[verb](words)


def _list_recipes(argv: list[str]) -> int:
    description = "List the shipped recipes; `show NAME` prints one, `copy NAME [TARGET]` copies."
    OptionParser("recipes", description).parse(argv)
    rows = [(r.name, r.model, r.data, r.summary) for r in recipes.list_recipes()]
    rows += [(r.name, f"sweep of {r.varies}", "", r.summary) for r in recipes.list_sweeps()]
    if rows:
        print_table(rows, header=("recipe", "model", "data", "summary"))
    return 0


def _show_recipe(argv: list[str]) -> int:
    parser = OptionParser("recipes show", "Print a recipe.")
    parser.add_argument("name", help="of a shipped recipe, or a path")
    print_text(recipes.find_recipe(parser.parse(argv).name).read_text(encoding="utf-8").rstrip())
    return 0


def _copy_recipe(argv: list[str]) -> int:
    parser = OptionParser("recipes copy", "Copy a recipe, to change it.")
    parser.add_argument("name", help="of a shipped recipe, or a path")
    parser.add_argument("target", nargs="?", default=".", help="file or folder (default: here)")
    parser.add_argument("--force", action="store_true", help="overwrite the target")
    options = parser.parse(argv)
    source = recipes.find_recipe(options.name)
    target = Path(options.target)
    if target.is_dir():
        target = target / source.name
    if target.exists() and (not options.force or target.samefile(source)):
        raise OptionError(f"'{target}' exists already. Give another target, or --force.")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    print(target)
    return 0
