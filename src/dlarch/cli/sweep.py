"""`dlarch sweep`: run a recipe under many settings, and tell how they compare."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from dlarch.cli.options import OptionParser, positive, print_text
from dlarch.runs import SWEEPS, runs_root

if TYPE_CHECKING:
    from dlarch.sweep.plan import Plan
    from dlarch.sweep.queue import Queue, Task

STORAGE = "trials.journal"


def run(argv: list[str]) -> int:
    """`dlarch sweep --config SWEEP`: 0, or 1 where trials failed, 130 where it was interrupted."""
    parser = OptionParser("sweep", "Run a recipe under many settings; go on where it was stopped.")
    parser.add_argument("--config", required=True, help="a sweep: path or name of a shipped one")
    parser.add_argument("--workers", type=positive, default=1, help="runs at a time (default: 1)")
    parser.add_argument("--seeds", type=int, nargs="+", help="instead of those of the file")
    parser.add_argument(
        "--storage",
        help="file or database that several machines share (default: a file in the sweep's folder)",
    )
    parser.add_argument("--devices", help="CUDA devices such as 0,1: one for each worker in turn")
    parser.add_argument("--retry_failed", action="store_true", help="run failed trials again")
    parser.add_argument("--report", action="store_true", help="run nothing, tell how it stands")
    options = parser.parse(argv)

    from dataclasses import replace

    from dlarch.sweep.plan import read_plan
    from dlarch.sweep.queue import Queue

    plan = read_plan(options.config)
    if options.seeds:
        plan = replace(plan, seeds=tuple(options.seeds))
    folder = (runs_root() / SWEEPS / plan.name).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    queue = Queue(plan, options.storage or str(folder / STORAGE), options.retry_failed)
    sweep = Sweep(plan, queue, folder, options.workers, options.devices)
    if not options.report:
        sweep.run()
    failed = sweep.report()
    return 130 if sweep.stopped.is_set() else int(failed > 0)


class Sweep:
    """Workers that take trials from the queue until there is none.

    Args:
        plan: of the sweep.
        queue: its trials.
        folder: where its runs and reports go.
        workers: runs at a time.
        devices: CUDA devices by comma, of which each worker sees one.
    """

    def __init__(
        self, plan: Plan, queue: Queue, folder: Path, workers: int, devices: str | None
    ) -> None:
        self.plan, self.queue, self.folder, self.workers = plan, queue, folder, workers
        self.devices = devices.split(",") if devices else None
        self.threads = max(1, (os.cpu_count() or 1) // workers)
        self.stopped = threading.Event()

    def run(self) -> None:
        """Run what is to be run; at Ctrl-C or a kill the trials at work are put back."""
        left = self.queue.fill()
        if left:
            print_text(f"{self.plan.name}: {left} trials to run, in {self.folder}")
        before = {kind: signal.signal(kind, self._stop) for kind in (signal.SIGINT, signal.SIGTERM)}
        try:
            with ThreadPoolExecutor(self.workers) as pool:
                for future in [pool.submit(self._work, slot) for slot in range(self.workers)]:
                    future.result()
        finally:
            for kind, handler in before.items():
                signal.signal(kind, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.stopped.set()
        print("Stopping: trials at work are put back; the same command goes on.", file=sys.stderr)

    def _work(self, slot: int) -> None:
        while not self.stopped.is_set() and (task := self.queue.take()) is not None:
            try:
                self._run_trial(task, slot)
            except BaseException:
                self.stopped.set()
                self.queue.put_back(task)
                raise

    def _run_trial(self, task: Task, slot: int) -> None:
        """All runs of a trial, one for each seed."""
        from dlarch.sweep import trial
        from dlarch.sweep.queue import BEAT_S

        beaten = time.monotonic()

        def alive() -> bool:
            nonlocal beaten
            if time.monotonic() - beaten > BEAT_S:
                self.queue.beat(task.number)
                beaten = time.monotonic()
            return not self.stopped.is_set()

        records: list[dict[str, Any]] = []
        for seed in task.seeds:
            # A setting that has changed, or is called nearly as another, has a folder of its own.
            key = self.plan.key(task.setting.options, seed)[:8]
            name = f"{trial.folder_name(task.setting.name)}/seed_{seed}_{key}"
            code = trial.run_words(
                self.plan.words(task.setting.options, seed, name),
                self.folder,
                name,
                self.devices[slot % len(self.devices)] if self.devices else None,
                self.threads,
                alive,
            )
            finished = trial.finished(self.folder / name)
            if finished is None and self.stopped.is_set():
                self.queue.put_back(task)
                return
            if finished is None:
                error = trial.complaint(self.folder / name)
                self.queue.finish(task, records, f"seed {seed}, exit code {code}: {error}")
                print_text(f"failed    {task.setting.name}, seed {seed}: {error}")
                return
            records.append(trial.record(finished))
            score = records[-1]["best_score"]
            told = "" if score is None else f": {records[-1]['monitor']} {score:.4f}"
            print_text(f"finished  {task.setting.name}, seed {seed}{told}")
        self.queue.finish(task, records)

    def report(self) -> int:
        """Print the table, write the files; the number of failed trials."""
        from rich.console import Console
        from rich.table import Table

        from dlarch.sweep import report

        outcomes = self.queue.outcomes()
        table = report.ranked(self.plan, report.rows(outcomes))
        metrics = report.columns(self.plan, table)
        shown = Table(
            *report.header(self.plan, table, metrics), title=self.plan.name, title_justify="left"
        )
        for row in table:
            shown.add_row(*report.cells(row, metrics))
        Console(highlight=False, width=None if sys.stdout.isatty() else 160).print(shown)
        failed = [outcome for outcome in outcomes if outcome.state == "failed"]
        for outcome in failed:
            print_text(f"failed: {outcome.setting}: {outcome.error}")
        report.write_runs(self.folder / "runs.csv", outcomes)
        print_text(f"\nEach run: {self.folder / 'runs.csv'}")
        curve = self.plan.metric or report.monitored(table)
        if curve and report.draw_curves(self.folder / "curves.png", table, curve):
            print_text(f"Learning curves: {self.folder / 'curves.png'}")
        print_text(f"TensorBoard: tensorboard --logdir {self.folder}")
        return len(failed)
