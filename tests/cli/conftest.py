"""A tiny recipe, and `dlarch ...` in this process with what it printed."""

import contextlib
import hashlib
import io
import random
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from dlarch.cli.main import main
from dlarch.runs import Run

RECIPE = """\
# Tiny pairs.
model:
  class_path: seq2seq_attn
  init_args:
    embedding_size: 8
    encoder_size: 8
    hidden_size: 8
    pictures: false
    optimizer:
      class_path: torch.optim.Adam
      init_args:
        lr: 0.01
data:
  class_path: translation
  init_args:
    source: {pairs}
    tokens: characters
    batch_size: 32
trainer:
  max_epochs: 1
  accelerator: cpu
  log_every_n_steps: 5
"""


class Outcome(NamedTuple):
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def run(self) -> Run:
        """The run folder that the summary names."""
        line = next(line for line in self.out.splitlines() if line.startswith("Run folder: "))
        return Run(Path(line.removeprefix("Run folder: ")))

    @property
    def figures(self) -> dict[str, float]:
        """The metrics that `dlarch test` prints."""
        pairs = (line.split("\t") for line in self.out.splitlines() if "\t" in line)
        return {name: float(value) for name, value in pairs}

    @property
    def complaint(self) -> str:
        """The one line of an error."""
        assert self.code == 2, self
        assert "Traceback" not in self.err
        assert self.err.splitlines()[-1].startswith("dlarch: error: "), self.err
        return self.err.splitlines()[-1].removeprefix("dlarch: error: ")


def dlarch(command: str) -> Outcome:
    """Run `dlarch COMMAND` in this process."""
    with (
        contextlib.redirect_stdout(io.StringIO()) as out,
        contextlib.redirect_stderr(io.StringIO()) as err,
    ):
        code = main(shlex.split(command))
    return Outcome(code, out.getvalue(), err.getvalue())


def fingerprint(folder: Path) -> dict[str, str]:
    """Hash of each file in a folder."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@contextlib.contextmanager
def workplace(folder: Path, cache: Path) -> Iterator[Path]:
    """Be in a folder with the tiny recipe and its pairs."""
    letters = random.Random(0)
    words = ["".join(letters.choices("abcdefgh", k=letters.randint(2, 6))) for _ in range(300)]
    pairs = folder / "pairs.tsv"
    pairs.write_text("".join(f"{word}\t{word[::-1]}\n" for word in words))
    (folder / "tiny.yaml").write_text(RECIPE.format(pairs=pairs))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("DLARCH_CACHE", str(cache))
        for name in ("DLARCH_RUNS", "DLARCH_DATA", "DLARCH_DEBUG", "DLARCH_LOG"):
            patch.delenv(name, raising=False)
        yield folder


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache for all tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[Path]:
    """The working directory of a module's tests, with tiny.yaml and pairs.tsv in it."""
    with workplace(tmp_path_factory.mktemp("here"), cache) as folder:
        yield folder


@pytest.fixture(scope="module")
def cli(here: Path) -> Callable[[str], Outcome]:
    """`dlarch` in that directory."""
    return dlarch


@pytest.fixture(scope="module")
def trained(cli: Callable[[str], Outcome]) -> Outcome:
    """A finished run of the tiny recipe."""
    outcome = cli("fit --config tiny")
    assert outcome.code == 0, outcome.err
    return outcome
