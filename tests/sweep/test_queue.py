"""The queue of trials: nothing is run twice, nothing is lost."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from dlarch.errors import MismatchError, OptionError
from dlarch.recipes import find_recipe
from dlarch.sweep import queue as queues
from dlarch.sweep.plan import Plan, Search, Setting, Space
from dlarch.sweep.queue import Queue

RECORD = {"best_score": 0.5, "metrics": {"test/accuracy": 0.5}}


@pytest.fixture
def plan():
    settings = (Setting("relu", {}), Setting("tanh", {"model.activation": "tanh"}))
    return Plan("trial", find_recipe("mlp"), {}, (1, 2), settings, None, None, None)


@pytest.fixture
def search(plan):
    space = {
        "model.optimizer.lr": Space(None, 1e-4, 1.0, log=True),
        "model.hidden_sizes": Space(([10], [20, 10])),
        "data.batch_size": Space(None, 8, 64),
    }
    return replace(plan, settings=(), search=Search("tpe", 5, 1, space), metric="val/accuracy")


@pytest.fixture
def storage(tmp_path):
    return str(tmp_path / "trials.journal")


def drain(queue):
    """Take and finish all there is; the names and seeds that were taken."""
    taken = []
    while (task := queue.take()) is not None:
        taken.append((task.setting.name, task.seeds))
        queue.finish(task, [RECORD for _ in task.seeds])
    return taken


def test_every_setting_runs_once_with_every_seed(plan, storage):
    queue = Queue(plan, storage)
    assert queue.fill() == 4
    assert drain(queue) == [("relu", (1,)), ("tanh", (1,)), ("relu", (2,)), ("tanh", (2,))]
    again = Queue(plan, storage)
    assert again.fill() == 0
    assert drain(again) == []
    assert [o.state for o in again.outcomes()] == ["finished"] * 4


def test_new_seeds_and_settings_are_added_and_old_results_stay(plan, storage):
    queue = Queue(plan, storage)
    queue.fill()
    drain(queue)
    settings = (*plan.settings, Setting("selu", {"model.activation": "selu"}))
    wider = Queue(replace(plan, settings=settings, seeds=(1, 2, 3)), storage)
    assert wider.fill() == 5
    names = {("selu", (1,)), ("selu", (2,)), ("relu", (3,)), ("tanh", (3,)), ("selu", (3,))}
    assert set(drain(wider)) == names
    assert len(wider.outcomes()) == 9


def test_a_changed_setting_runs_anew_under_its_old_name(plan, storage):
    queue = Queue(plan, storage)
    queue.fill()
    first = queue.take()
    queue.finish(first, [RECORD])
    changed = (plan.settings[0], Setting("tanh", {"model.activation": "sigmoid"}))
    edited = Queue(replace(plan, settings=changed), storage)
    edited.fill()
    taken = []
    while (task := edited.take()) is not None:
        taken.append((task.setting.name, dict(task.setting.options), task.seeds))
        edited.finish(task, [RECORD])
    sigmoid = {"model.activation": "sigmoid"}
    assert sorted(taken, key=str) == sorted(
        [("relu", {}, (2,)), ("tanh", sigmoid, (1,)), ("tanh", sigmoid, (2,))], key=str
    )


def test_two_workers_share_the_trials(plan, storage):
    one, two = Queue(plan, storage), Queue(plan, storage)
    one.fill()
    two.fill()
    taken = []
    for queue in (one, two, one, two):
        task = queue.take()
        taken.append((task.setting.name, task.seeds))
        queue.finish(task, [RECORD])
    assert len(set(taken)) == 4
    assert one.take() is None
    assert two.take() is None


def test_what_two_machines_queued_at_once_runs_once(plan, storage, monkeypatch):
    one, two = Queue(plan, storage), Queue(plan, storage)
    with monkeypatch.context() as patch:  # neither sees what the other has queued
        patch.setattr(Queue, "_stands", lambda *_: False)
        one.fill()
        two.fill()
    assert len(drain(one)) == 4
    assert drain(two) == []


def test_a_failed_trial_is_recorded_and_tried_again_only_on_request(plan, storage):
    queue = Queue(plan, storage)
    queue.fill()
    queue.finish(queue.take(), [], error="it broke")
    drain(queue)
    first = queue.outcomes()[0]
    assert (first.state, first.error) == ("failed", "it broke")
    assert Queue(plan, storage).fill() == 0
    again = Queue(plan, storage, retry_failed=True)
    assert again.fill() == 1
    assert drain(again) == [("relu", (1,))]
    assert [o.state for o in again.outcomes()] == ["finished"] * 4


@pytest.mark.parametrize("gone", ["process", "silent"])
def test_a_trial_whose_worker_is_gone_is_queued_anew(plan, storage, monkeypatch, gone):
    queue = Queue(plan, storage)
    queue.fill()
    lost = queue.take()
    if gone == "process":
        monkeypatch.setattr(queues, "_runs", lambda pid: False)
    else:
        monkeypatch.setattr(queues.socket, "gethostname", lambda: "another machine")
        monkeypatch.setattr(queues, "SILENT_S", -1.0)
    other = Queue(plan, storage)
    assert other.fill() == 4
    monkeypatch.undo()
    assert set(drain(other)) == {(s.name, (n,)) for s in plan.settings for n in (1, 2)}
    assert lost.setting.name == "relu"
    assert len(other.outcomes()) == 4


def test_a_trial_at_work_elsewhere_is_left_alone(plan, storage, monkeypatch):
    queue = Queue(plan, storage)
    queue.fill()
    queue.take()
    monkeypatch.setattr(queues.socket, "gethostname", lambda: "another machine")
    other = Queue(plan, storage)
    other.fill()
    assert len(drain(other)) == 3
    assert [o.state for o in other.outcomes()].count("running") == 1


def test_a_trial_put_back_is_taken_again(plan, storage):
    queue = Queue(plan, storage)
    queue.fill()
    queue.put_back(queue.take())
    assert len(drain(queue)) == 4


def test_a_search_makes_as_many_trials_as_asked_within_the_space(search, storage):
    queue = Queue(search, storage)
    settings = []
    while (task := queue.take()) is not None:
        settings.append(dict(task.setting.options))
        queue.finish(task, [RECORD, RECORD])
    assert len(settings) == 5
    for options in settings:
        assert 1e-4 <= options["model.optimizer.lr"] <= 1.0
        assert options["model.hidden_sizes"] in ([10], [20, 10])
        assert options["data.batch_size"] in range(8, 65)
    assert Queue(search, storage).take() is None
    assert all(outcome.seeds == (1, 2) for outcome in queue.outcomes())


def test_a_search_comes_nearer_to_the_best(search, storage):
    plan = replace(search, search=replace(search.search, trials=40))
    queue = Queue(plan, storage)
    distances = []  # from 0.1, in powers of ten
    while (task := queue.take()) is not None:
        distances.append(abs(math.log10(task.setting.options["model.optimizer.lr"]) + 1))
        queue.finish(task, [{**RECORD, "best_score": -distances[-1]}] * 2)
    assert sum(distances[-10:]) < sum(distances[:10]) / 2


def test_a_lost_trial_of_a_search_keeps_its_options(search, storage, monkeypatch):
    queue = Queue(search, storage)
    lost = queue.take()
    monkeypatch.setattr(queues, "_runs", lambda pid: False)
    other = Queue(search, storage)
    again = other.take()
    assert again.setting == lost.setting
    monkeypatch.undo()
    other.finish(again, [RECORD, RECORD])
    assert len(drain(other)) == 4


def test_a_search_of_another_space_is_refused(search, storage):
    Queue(search, storage).take()
    other = replace(search, search=replace(search.search, space={"model.dropout": Space((0.1,))}))
    with pytest.raises(MismatchError, match="another space"):
        Queue(other, storage)


def test_a_storage_that_cannot_be_opened(plan, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(OptionError, match="cannot be opened"):
        Queue(plan, str(Path(tmp_path / "file" / "below")))


def test_a_database_is_a_storage_too(plan, tmp_path):
    queue = Queue(plan, f"sqlite:///{tmp_path / 'trials.db'}")
    queue.fill()
    assert len(drain(queue)) == 4
