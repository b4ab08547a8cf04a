"""One run of a sweep, as a process of its own: what it prints goes to a file beside its folder.

`python -m dlarch.sweep.trial FOLDER WORDS` is `dlarch WORDS` with the folder locked, so that a run
whose sweep was killed is waited for, not started twice.
"""

from __future__ import annotations

import csv
import json
import os
import re
import runpy
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from dlarch.runs import Run, newest_in

OUTPUT = "output.txt"


def folder_name(text: str) -> str:
    """A setting's name as that of a folder."""
    return re.sub(r"[^\w.+-]+", "_", text).strip("._")[:80] or "setting"


def run_words(
    words: Sequence[str],
    root: Path,
    name: str,
    devices: str | None,
    threads: int,
    alive: Callable[[], bool],
) -> int:
    """Run `dlarch WORDS` below the folder of the sweep.

    Args:
        words: what to type after `dlarch`.
        root: folder of all runs of the sweep.
        name: of the run's folder in it.
        devices: CUDA devices that it may see; None leaves that as it is.
        threads: of torch, where OMP_NUM_THREADS does not say.
        alive: called every second; once it is false, the run is asked to stop.

    Returns:
        The exit code.
    """
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    environment = {"OMP_NUM_THREADS": str(threads), **os.environ, "DLARCH_RUNS": str(root)}
    if devices is not None:
        environment["CUDA_VISIBLE_DEVICES"] = devices
    environment.pop("DLARCH_RUN_FOLDER", None)
    with (folder / OUTPUT).open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "dlarch.sweep.trial", str(folder), *words],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )
        asked = False
        while process.poll() is None:
            if not asked and not alive():
                process.terminate()
                asked = True
            time.sleep(0.2)
    return process.returncode


def complaint(folder: Path) -> str:
    """Why a run failed, in one line."""
    lines = (folder / OUTPUT).read_text(encoding="utf-8", errors="replace").splitlines()
    said = [line for line in lines if line.startswith("dlarch: error: ")]
    if said:
        return said[-1].removeprefix("dlarch: error: ")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it ended silently")


def finished(folder: Path) -> Run | None:
    """The run in a folder of runs that has come to its end, if there is one."""
    run = newest_in(folder)
    return run if run is not None and run.metrics.is_file() else None


def record(run: Run) -> dict[str, Any]:
    """What a sweep keeps of a run: metrics.json, the history of its epochs, where it is."""
    values: dict[str, Any] = json.loads(run.metrics.read_text(encoding="utf-8"))
    history: list[dict[str, float]] = []
    path = run.folder / "history.csv"
    if path.is_file():
        with path.open(encoding="utf-8", newline="") as file:
            history = [
                {name: float(value) for name, value in row.items() if value}
                for row in csv.DictReader(file)
            ]
    return values | {"history": history, "folder": str(run.folder)}


def main(folder: Path, words: list[str]) -> None:
    """Run `dlarch WORDS`, or go on with a run that was interrupted; nothing if one is finished."""
    with FileLock(folder / ".lock"):
        if finished(folder) is not None:
            return
        run = newest_in(folder)
        if run is not None and run.last.is_file():
            words = [*words, "--ckpt_path", str(run.folder)]
        # As if it had been typed: distributed training starts other ranks by these words.
        sys.argv[1:] = words
        runpy.run_module("dlarch", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
