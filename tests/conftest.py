"""Fixtures for more than one room."""

import ctypes
import gc
import logging
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest

PLUGIN = Path(__file__).parent / "plugin_package"

TESTS_BETWEEN = 20
"""Tests after which memory that is free goes back to the system."""


_ran = count(1)


@pytest.fixture(autouse=True)
def memory_goes_back() -> Iterator[None]:
    """Trainers are circles of objects, and glibc keeps what is free: 10 GB after 2,000 tests."""
    yield
    if next(_ran) % TESTS_BETWEEN == 0:
        gc.collect()
        if sys.platform == "linux":
            with suppress(AttributeError):  # another libc
                ctypes.CDLL(None).malloc_trim(0)


@pytest.fixture(autouse=True)
def logger_as_it_was() -> Iterator[None]:
    """The command line sets the level of the log, which would silence it for the tests after."""
    logger = logging.getLogger("dlarch")
    level, handlers = logger.level, list(logger.handlers)
    yield
    logger.setLevel(level)
    logger.handlers[:] = handlers


@pytest.fixture(scope="session")
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of data for tests that are not about the cache: digits take a second to decode."""
    return tmp_path_factory.mktemp("dlarch-cache")


def install_plugin(
    target: Path, models: dict[str, str] | None = None, data: dict[str, str] | None = None
) -> Path:
    """Install the plugin package into a folder as pip would, without needing pip or a network.

    Args:
        target: folder, to be put on the path.
        models: entry points in place of those of its pyproject.toml.
        data: likewise.
    """
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    shutil.copytree(PLUGIN / "src", target, dirs_exist_ok=True)
    metadata = target / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n",
        encoding="utf-8",
    )
    points = project["entry-points"]
    groups = {
        "dlarch.models": points["dlarch.models"] if models is None else models,
        "dlarch.data": points["dlarch.data"] if data is None else data,
    }
    lines = []
    for group, members in groups.items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in members.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return target


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Path]:
    """Install the plugin package for this test; call it with other entry points to break it."""

    def install(**entry_points: dict[str, str]) -> Path:
        folder = install_plugin(tmp_path / "site", **entry_points)
        monkeypatch.syspath_prepend(folder)
        monkeypatch.setenv("PYTHONPATH", str(folder))
        for name in [name for name in sys.modules if name.startswith("dlarch_echo")]:
            monkeypatch.delitem(sys.modules, name)
        return folder

    return install
