"""Every fenced command of the README runs and prints what the README shows; install ones aside.

In ```console fences a line after `$ ` is a command, other lines are output, `...` stands for
anything. In ```python fences a comment after a `print` is its output. Training is cut short by
options that are added here.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FENCES = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
INSTALL = dict(re.findall(r"^<!-- (install-\w+) -->\n```sh\n(.*?)\n```$", README, re.MULTILINE))

SMALL = [
    *("--data.train_size", "400"),
    *("--trainer.val_check_interval", "2"),
    *("--trainer.limit_val_batches", "1"),
    *("--trainer.limit_test_batches", "1"),
    *("--trainer.accelerator", "cpu"),
    *("--model.pictures", "false"),
]


class Block(NamedTuple):
    """A command, or a whole Python program, and the lines it shows."""

    words: list[str]
    shown: list[str]


def blocks() -> Iterator[Block]:
    for language, text in FENCES:
        if language == "python":
            shown = re.findall(r"^print\(.*\)  # (.*)$", text, re.MULTILINE)
            yield Block([sys.executable, "-c", text], shown)
        elif language == "console":
            for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
                command, *shown = part.splitlines()
                yield Block(small(command), shown)


def small(command: str) -> list[str]:
    """The words of a `dlarch` command, run by this Python, on little data."""
    program, verb, *words = shlex.split(command)
    assert program == "dlarch", f"the README may show commands of dlarch only, not {command}"
    if verb == "fit":
        words += ["--trainer.max_steps", "4" if "--ckpt_path" in words else "2"]
    if verb in ("fit", "test"):
        words += SMALL
    return [sys.executable, "-m", "dlarch", verb, *words]


def run(words: list[str], folder: Path) -> str:
    environment = os.environ | {
        "DLARCH_RUNS": str(folder / "runs"),
        "DLARCH_CACHE": str(folder / "cache"),
        "CUDA_VISIBLE_DEVICES": "",
        "COLUMNS": "200",
        "PYTHONIOENCODING": "utf-8",
    }
    done = subprocess.run(
        words,
        cwd=folder,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder after the README's first command, with the files that its reader has."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "sentences.txt").write_text("lundi 2 août 1999\n1999-08-02\n", encoding="utf-8")
    pairs = "".join(f"le chat numéro {n} dort\tcat number {n} sleeps\n" for n in range(400))
    (folder / "my_pairs.tsv").write_text("fr\ten\n" + pairs, encoding="utf-8")
    command = INSTALL["install-run"].rpartition("&& ")[2]
    run(small(command.replace(".venv/bin/dlarch", "dlarch")), folder)
    return folder


# In the order of the README: later commands use the runs of earlier ones.
@pytest.mark.parametrize("block", blocks(), ids=lambda block: " ".join(block.words[1:4])[:60])
def test_fenced_command_prints_what_the_readme_shows(block: Block, folder: Path):
    printed = one_space(run(block.words, folder))
    assert printed
    for line in block.shown:
        pattern = ".*".join(map(re.escape, one_space(line).split("...")))
        assert re.search(pattern, printed), f"{line!r} is not in:\n{printed}"


def one_space(text: str) -> str:
    return re.sub(r"[ \t]+", " ", text)


def test_only_the_two_install_commands_are_left_out():
    assert list(INSTALL) == ["install-run", "install-test"]
    unexecuted = [text for language, text in FENCES if language not in ("python", "console")]
    plain_output = [text for language, text in FENCES if language == "text"]
    assert unexecuted == [*(f"{command}\n" for command in INSTALL.values()), *plain_output]


@pytest.mark.parametrize("command", INSTALL.values(), ids=INSTALL)
def test_install_command_is_one_line_for_an_empty_machine(command: str):
    assert "\n" not in command
    assert command.startswith("python3 -m venv .venv && .venv/bin/pip install ")


def test_links_of_the_readme_lead_to_files():
    made_by_command = {"docs/results.md"}
    linked = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    missing = [path for path in linked if not (ROOT / path).exists()]
    assert set(missing) <= made_by_command
