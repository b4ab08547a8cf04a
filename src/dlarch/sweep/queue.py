"""The trials of a sweep in Optuna's storage, which several processes and machines may share.

A trial carries all that it takes to run it, so that whoever takes it from the queue can. Those who
work on one say so again and again; a trial whose worker has fallen silent is queued anew, and goes
on in the run folder where it stood.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from dlarch.errors import MismatchError, OptionError, UserError
from dlarch.sweep.plan import Plan, Setting, Space, as_word, direction, named

try:
    import optuna
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
    from optuna.trial import FrozenTrial, Trial, TrialState
except ImportError as error:
    raise UserError("Sweeps need Optuna 4 or later: pip install 'dlarch[sweep]'.") from error

logger = logging.getLogger(__name__)

BEAT_S = 30.0
"""Seconds between two signs of life."""

SILENT_S = 180.0
"""Seconds of silence after which a worker counts as gone."""


@dataclass(frozen=True)
class Task:
    """A trial that was taken from the queue.

    Attributes:
        number: of the trial.
        setting: its name and options.
        seeds: of its runs.
    """

    number: int
    setting: Setting
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Outcome:
    """What is known of a trial.

    Attributes:
        setting: its name.
        seeds: of its runs.
        state: "finished", "failed", "running" or "waiting".
        records: one for each finished run, as `dlarch.sweep.trial` makes them.
        error: why it failed.
    """

    setting: str
    seeds: tuple[int, ...]
    state: str
    records: tuple[dict[str, Any], ...] = ()
    error: str = ""


class Queue:
    """The trials of a plan.

    Args:
        plan: what is to run.
        storage: a file, or a database's address such as "postgresql://...".
        retry_failed: queue those that failed once more.

    Raises:
        UserError: the storage cannot be used, or holds a search of another space.
    """

    def __init__(self, plan: Plan, storage: str, retry_failed: bool = False) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.plan = plan
        self.retry_failed = retry_failed
        self._lock = Lock()  # of the threads of this process
        self._taken: dict[int, Trial] = {}
        self._keys = {
            plan.key(setting.options, seed): (setting, seed)
            for seed in plan.seeds
            for setting in plan.settings
        }
        self._study = optuna.create_study(
            study_name=plan.name,
            storage=_storage(storage),
            sampler=_sampler(plan),
            direction=direction(plan),
            load_if_exists=True,
        )
        self._check_space()

    def fill(self) -> int:
        """Queue what was never run, was lost, or is to be tried again; the number of trials left.

        Trials of an older version of the plan stay in the storage, and count no more.
        """
        with self._lock:
            self._give_up_the_lost()
            trials = self._study.get_trials(deepcopy=False)
            lost = _lost(trials)
            known = {t.user_attrs.get("key") for t in trials if self._stands(t, lost)}
            for key, (setting, seed) in self._keys.items():
                if key not in known:
                    self._study.enqueue_trial({}, _attributes(key, setting, (seed,)))
            unfinished = (TrialState.WAITING, TrialState.RUNNING)
            return len(self._study.get_trials(False, unfinished))

    def take(self) -> Task | None:
        """The next trial to run; None if there is none left for us."""
        while True:
            with self._lock:
                self._give_up_the_lost()
                waiting = self._study.get_trials(False, (TrialState.WAITING,))
                if not waiting and not self._may_search():
                    return None
                trial = self._study.ask()
                task = self._task(trial)
            if task is not None:
                return task

    def beat(self, number: int) -> None:
        """Tell the other machines that the trial is still being worked on."""
        with self._lock:
            self._taken[number].set_user_attr("beat", time.time())

    def put_back(self, task: Task) -> None:
        """Let somebody else go on with a trial that was interrupted."""
        with self._lock:
            self._lose(self._study.get_trials(deepcopy=False)[task.number])

    def finish(self, task: Task, records: Iterable[dict[str, Any]], error: str = "") -> None:
        """Keep what came of a trial: a record for each run, or why it failed."""
        found = list(records)
        with self._lock:
            trial = self._taken.pop(task.number)
            trial.set_user_attr("records", json.dumps(found))
            if error:
                trial.set_user_attr("error", error)
                self._study.tell(task.number, state=TrialState.FAIL)
            else:
                scores = [record["best_score"] or 0.0 for record in found]
                self._study.tell(task.number, sum(scores) / len(scores))

    def outcomes(self) -> list[Outcome]:
        """All trials of the plan as it is now, in its order."""
        order = {setting.name: place for place, setting in enumerate(self.plan.settings)}
        found: dict[str, Outcome] = {}
        trials = self._study.get_trials(deepcopy=False)
        lost = _lost(trials)
        for trial in trials:
            key = trial.user_attrs.get("key")
            if key is None or trial.number in lost or trial.state == TrialState.PRUNED:
                continue
            if self.plan.search is None and key not in self._keys:
                continue
            found[key] = Outcome(
                setting=self._keys[key][0].name if key in self._keys else trial.user_attrs["name"],
                seeds=tuple(trial.user_attrs["seeds"]),
                state=_STATES[trial.state],
                records=tuple(json.loads(trial.user_attrs.get("records", "[]"))),
                error=trial.user_attrs.get("error", ""),
            )
        return sorted(found.values(), key=lambda each: (order.get(each.setting, 0), each.seeds))

    # ---- inside, with the lock held

    def _task(self, trial: Trial) -> Task | None:
        """Make a trial ours; None if it is of no use any more."""
        attrs = dict(trial.user_attrs)
        space = self.plan.search.space if self.plan.search is not None else {}
        options = {name: _suggest(trial, name, values) for name, values in space.items()}
        if "key" not in attrs:
            if self.plan.search is None:  # another machine took the last one before us
                self._study.tell(trial, state=TrialState.PRUNED)
                return None
            setting = Setting(f"{trial.number}: {named(options)}", options)
            key = f"{self.plan.key(options, None)}-{trial.number}"
            attrs |= _attributes(key, setting, self.plan.seeds)
        elif self._is_done(trial.number, attrs["key"]) or self._is_outdated(attrs):
            self._study.tell(trial, state=TrialState.PRUNED)
            return None
        attrs |= {"host": socket.gethostname(), "pid": os.getpid(), "beat": time.time()}
        for name, value in attrs.items():
            trial.set_user_attr(name, value)
        self._taken[trial.number] = trial
        setting = Setting(attrs["name"], json.loads(attrs["options"]))
        return Task(trial.number, setting, tuple(attrs["seeds"]))

    def _is_done(self, number: int, key: str) -> bool:
        """Whether an earlier trial is or does the same: two machines may have queued it at once."""
        return any(
            trial.user_attrs.get("key") == key
            for trial in self._study.get_trials(False, (TrialState.RUNNING, TrialState.COMPLETE))
            if trial.number < number
        )

    def _is_outdated(self, attrs: dict[str, Any]) -> bool:
        """Whether a setting of this name has other options by now."""
        names = {setting.name for setting in self.plan.settings}
        seeds = set(attrs["seeds"]) <= set(self.plan.seeds)
        return attrs["name"] in names and seeds and attrs["key"] not in self._keys

    def _may_search(self) -> bool:
        if self.plan.search is None:
            return False
        trials = self._study.get_trials(deepcopy=False)
        lost = _lost(trials)
        begun = [trial for trial in trials if self._stands(trial, lost)]
        return len(begun) < self.plan.search.trials

    def _stands(self, trial: FrozenTrial, lost: set[int]) -> bool:
        """Whether a trial need not be queued again."""
        if trial.state == TrialState.FAIL:
            return not self.retry_failed and trial.number not in lost
        return trial.state != TrialState.PRUNED

    def _give_up_the_lost(self) -> None:
        for trial in self._study.get_trials(False, (TrialState.RUNNING,)):
            if "key" not in trial.user_attrs or _is_alive(trial.user_attrs):
                continue
            self._lose(trial)

    def _lose(self, trial: FrozenTrial) -> None:
        """Queue a trial anew with the same options, and close this one."""
        attrs = trial.user_attrs
        setting = Setting(attrs["name"], json.loads(attrs["options"]))
        again = _attributes(attrs["key"], setting, tuple(attrs["seeds"]))
        self._study.enqueue_trial(trial.params, again | {"retry_of": trial.number})
        self._study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)

    def _check_space(self) -> None:
        """Refuse to search another space in a storage, whose trials would mean something else."""
        if self.plan.search is None:
            return
        told = repr((sorted(self.plan.search.space.items()), self.plan.metric))
        before = self._study.user_attrs.setdefault("space", told)
        if "space" not in self._study.user_attrs or before == told:
            self._study.set_user_attr("space", told)
            return
        raise MismatchError(
            f"The storage holds a search of the sweep {self.plan.name} in another space: give the "
            "file another name, or another --storage."
        )


_STATES = {
    TrialState.COMPLETE: "finished",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


def _lost(trials: Iterable[FrozenTrial]) -> set[int]:
    """Numbers of the trials that were queued anew."""
    return {trial.user_attrs["retry_of"] for trial in trials if "retry_of" in trial.user_attrs}


def _attributes(key: str, setting: Setting, seeds: tuple[int, ...]) -> dict[str, Any]:
    options = json.dumps(dict(setting.options))
    return {"key": key, "name": setting.name, "options": options, "seeds": list(seeds)}


def _is_alive(attrs: dict[str, Any]) -> bool:
    if attrs.get("host") == socket.gethostname() and not _runs(attrs["pid"]):
        return False
    return time.time() - float(attrs.get("beat", 0.0)) < SILENT_S


def _runs(pid: int) -> bool:
    """Whether there is such a process; where that cannot be asked, silence has to tell."""
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _storage(text: str) -> Any:
    """Optuna's storage in a file or database.

    Raises:
        OptionError: it cannot be opened.
    """
    try:
        if "://" in text:
            return RDBStorage(text)
        path = Path(text)
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = JournalFileOpenLock(text) if os.name == "nt" else None  # no symbolic links there
        return JournalStorage(JournalFileBackend(text, lock))
    except Exception as error:  # of whatever database driver
        gist = " ".join(str(error).split())[:200]
        raise OptionError(f"The storage {text} cannot be opened: {gist}") from error


def _sampler(plan: Plan) -> Any:
    if plan.search is None or plan.search.sampler == "random":
        return optuna.samplers.RandomSampler(seed=plan.search.seed if plan.search else None)
    return optuna.samplers.TPESampler(seed=plan.search.seed)


def _suggest(trial: Trial, option: str, space: Space) -> Any:
    if space.choices is not None:  # Optuna's choices cannot be lists
        words = [as_word(choice) for choice in space.choices]
        return space.choices[words.index(trial.suggest_categorical(option, words))]
    if isinstance(space.low, int) and isinstance(space.high, int):
        step = int(space.step or 1)
        return trial.suggest_int(option, space.low, space.high, log=space.log, step=step)
    return trial.suggest_float(option, space.low, space.high, log=space.log, step=space.step)
