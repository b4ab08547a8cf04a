"""Run folders: where a run writes, which one is the newest, which checkpoint is meant."""

import os
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from dlarch.errors import CheckpointError, RunError

SWEEPS = "sweeps"
"""Below the folder of runs, those of `dlarch sweep`."""

_RUN_NAME = re.compile(r"(\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d)(?:-(\d+))?")


@dataclass(frozen=True)
class Run:
    """A run folder, `runs/RECIPE/2026-11-23_04-51-07`; what is in it may not exist yet."""

    folder: Path

    @property
    def name(self) -> str:
        """The recipe and the time of the start, such as "seq2seq_attn/2026-11-23_04-51-07"."""
        try:
            return self.folder.absolute().relative_to(runs_root().absolute()).as_posix()
        except ValueError:
            return self.folder.name

    @property
    def exists(self) -> bool:
        """Whether training has started in it, and not just a folder `checkpoints` lies in it."""
        return self.spec.is_file()

    @property
    def config(self) -> Path:
        """What was asked for; runs again with `dlarch fit --config`."""
        return self.folder / "config.yaml"

    @property
    def spec(self) -> Path:
        """The facts of the data that the model was built with."""
        return self.folder / "spec.json"

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.folder / "checkpoints"

    @property
    def last(self) -> Path:
        """The newest checkpoint, from which a run resumes exactly."""
        return self.checkpoints / "last.ckpt"

    @property
    def best(self) -> Path:
        """The checkpoint with the best validation metric, for scoring and use."""
        return self.checkpoints / "best.ckpt"

    @property
    def averaged(self) -> Path:
        """The mean of the last checkpoints, there only if it is better than the best one."""
        return self.checkpoints / "averaged.ckpt"

    @property
    def best_weights(self) -> Path:
        """What is scored and used of a run: the mean if there is one, else the best checkpoint."""
        return self.averaged if self.averaged.is_file() else self.best

    @property
    def metrics(self) -> Path:
        """The results, as `dlarch results add` reads them."""
        return self.folder / "metrics.json"

    @property
    def logs(self) -> Path:
        """The folder that TensorBoard shows."""
        return self.folder / "logs"


def runs_root() -> Path:
    """The folder of all runs: `$DLARCH_RUNS`, or `runs` in the working directory."""
    return Path(os.environ.get("DLARCH_RUNS") or "runs")


def new_run(recipe_name: str) -> Run:
    """Make the folder of a new run; no two calls return the same one, in whatever process.

    Args:
        recipe_name: name or path of the recipe; its suffix is dropped.

    Raises:
        RunError: the folder cannot be written to.
    """
    parent = runs_root() / _folder_name(recipe_name)
    start = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for attempt in range(1, 10_000):
            folder = parent / (start if attempt == 1 else f"{start}-{attempt}")
            try:
                folder.mkdir()
            except FileExistsError:
                continue
            return Run(folder)
    except OSError as error:
        raise RunError(
            f"Cannot write the run folder {parent}: {error.strerror or error}. "
            "Set DLARCH_RUNS to a folder that can be written to."
        ) from error
    raise RunError(f"{parent} has too many runs that started at {start}.")


def newest_run(recipe_name: str | None = None) -> Run:
    """The run that started last, of one recipe or of all.

    Raises:
        RunError: there is none.
    """
    parent = runs_root() / _folder_name(recipe_name) if recipe_name else runs_root()
    run = newest_in(parent, "*" if recipe_name else "**/*")
    if run is None:
        raise RunError(f"There is no run in {parent}. `dlarch fit` makes one.")
    return run


def newest_in(parent: Path, pattern: str = "*") -> Run | None:
    """The run in a folder that started last; None if there is none."""
    runs = [path for path in parent.glob(pattern) if _RUN_NAME.fullmatch(path.name)]
    return Run(max(runs, key=_start)) if runs else None


def better(metric: str) -> Literal["min", "max"]:
    """Whether a metric is better the lower or the higher it is, by its name."""
    downward = ("loss", "perplexity", "error", "sse", "mse", "mae", "nll", "mmd", "frechet")
    return "min" if any(word in metric for word in downward) else "max"


def resolve_checkpoint(
    text: str, recipe: str | None = None, prefer: Literal["last", "best"] = "best"
) -> Path:
    """The checkpoint file that `text` means.

    Args:
        text: "last" or "best" (of the newest run of `recipe`), a run folder, a folder of runs, of
            which the newest is meant, or a file.
        recipe: name of the recipe; None takes the newest run of any.
        prefer: which checkpoint of a run folder. Where there is no best one yet, the last one is
            taken; never the other way round, because only the last resumes exactly.

    Raises:
        RunError: there is no run.
        CheckpointError: there is no such checkpoint.
    """
    if text in ("last", "best"):
        run = newest_run(recipe)
        best = run.best_weights if prefer == "best" else run.best
        wanted = run.last if text == "last" else best
        if not wanted.is_file():
            raise CheckpointError(f"The newest run, {run.folder}, has no {text} checkpoint yet.")
        return wanted
    path = Path(text)
    if not path.exists() and (runs_root() / text).exists():
        path = runs_root() / text
    if path.is_file():
        return path
    if not path.is_dir():
        raise CheckpointError(
            f"There is no checkpoint or run folder '{text}'. "
            "Give a file, a run folder, 'last' or 'best'."
        )
    run = Run(path.parent if path.name == "checkpoints" else path)
    if not run.checkpoints.is_dir():
        run = newest_in(path) or run
    candidates = (run.last,) if prefer == "last" else (run.best_weights, run.last)
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise CheckpointError(f"The run folder {run.folder} has no {prefer} checkpoint.")


def _folder_name(recipe_name: str) -> str:
    """A recipe's folder below the root of runs, with nothing that a file system might refuse."""
    name = re.sub(r"\.ya?ml$", "", recipe_name.replace("\\", "/"))
    parts = [re.sub(r"[^\w.+-]", "-", part).strip(".") for part in name.split("/")]
    return "/".join(part for part in parts if part) or "run"


def _start(folder: Path) -> tuple[str, int]:
    match = _RUN_NAME.fullmatch(folder.name)
    return (match[1], int(match[2] or 1)) if match else ("", 0)
