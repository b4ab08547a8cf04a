"""`dlarch doctor`: what a bug report should say, read from package metadata."""

import os
import platform
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

import dlarch
from dlarch import recipes, registry
from dlarch.cli.options import OptionParser, print_table, print_text

ENVIRONMENT = {
    "DLARCH_DATA": ("folder of local copies, OWNER/NAME as on the Hub", "not set"),
    "DLARCH_CACHE": ("folder of tokenised and decoded data", "the user's cache folder"),
    "DLARCH_RUNS": ("folder of run folders", "runs"),
    "DLARCH_DEBUG": ("1: a traceback with each error", "0"),
    "DLARCH_LOG": ("level of the log: DEBUG, INFO, WARNING, ERROR, CRITICAL", "INFO"),
}
"""The environment variables: meaning and default."""


def run(argv: list[str]) -> int:
    """Print versions, machine, environment variables and what is wrong; 1 if something is."""
    OptionParser("doctor", "Print versions and settings, and what is wrong with them.").parse(argv)
    problems = [*version_problems("dlarch"), *version_problems("torchvision")]
    problems += registry.broken_plugins()
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    print_table(
        [
            ("dlarch", f"{dlarch.__version__} in {Path(dlarch.__file__).parent}"),
            ("recipes", str(recipes.recipes_folder())),
            ("python", f"{platform.python_version()} in {sys.prefix}"),
            ("platform", system),
            ("cpus", str(os.cpu_count())),
            *((name, _version(name) or "not installed") for name in _required("dlarch")),
        ]
    )
    print()
    print_table([(name, *row) for name, row in environment_rows(os.environ).items()])
    print()
    for problem in problems:
        print_text(f"problem: {problem}")
    if not problems:
        print("no problems found")
    return 1 if problems else 0


def environment_rows(environment: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Of each variable its value, or its default in brackets, and its meaning."""
    return {
        name: (environment.get(name) or f"({default})", meaning)
        for name, (meaning, default) in ENVIRONMENT.items()
    }


def version_problems(package: str) -> Iterator[str]:
    """A sentence for each installed version that `package` was not made for."""
    for name, requirement in _required(package).items():
        installed = _version(name)
        wanted = f"{package} needs {requirement.name}{requirement.specifier}"
        if installed is None:
            yield f"{wanted}, which is not installed. `pip install '{requirement}'`"
        elif not requirement.specifier.contains(installed, prereleases=True):
            yield f"{wanted}, but {installed} is installed. `pip install '{requirement}'`"


def _required(package: str) -> dict[str, Requirement]:
    """What a package needs on this machine, without its extras; empty when it is not installed."""
    try:
        lines = requires(package) or []
    except PackageNotFoundError:
        return {}
    parsed = map(Requirement, lines)
    chosen = [r for r in parsed if r.marker is None or r.marker.evaluate({"extra": ""})]
    return {requirement.name: requirement for requirement in chosen}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
