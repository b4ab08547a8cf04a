"""What all tests of quality need: to train by the command line, and to know which data are here."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from dlarch.cli.main import main
from dlarch.data.resolve import HubId, resolve_source
from dlarch.errors import DataError


class Fitted(NamedTuple):
    """A run that has ended: its folder and its metrics by name."""

    folder: Path
    metrics: dict[str, float]


@pytest.fixture
def fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Fitted]:
    """A function from the words after `dlarch fit` to the run."""
    monkeypatch.chdir(tmp_path)
    count = 0

    def fitted(words: str) -> Fitted:
        nonlocal count
        count += 1
        runs = tmp_path / f"run_{count}"
        monkeypatch.setenv("DLARCH_RUNS", str(runs))
        assert main(["fit", *words.split()]) == 0
        (figures,) = runs.rglob("metrics.json")
        return Fitted(figures.parent, json.loads(figures.read_text())["metrics"])

    return fitted


@pytest.fixture
def need_stored() -> Callable[[str], None]:
    """A function that skips the test when a file or Hub id is not stored on this machine."""

    def need(source: str) -> None:
        try:
            found = resolve_source(source)
        except DataError:
            found = None
        if found is None or isinstance(found, HubId):
            pytest.skip(f"needs $DLARCH_DATA/{source}")

    return need
