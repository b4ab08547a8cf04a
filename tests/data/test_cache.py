"""Folders that are built once."""

import json
import os
import subprocess
import sys
import threading
import time

import pytest

from dlarch.data.cache import MANIFEST, cache_key, cache_root, cached
from dlarch.errors import DataError


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("DLARCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def build():
    """Fills a folder, and counts how often it was called."""

    def fill(folder):
        fill.calls += 1
        (folder / "deep").mkdir()
        (folder / "deep" / "data.bin").write_bytes(b"0123456789")

    fill.calls = 0
    return fill


def test_what_was_built_is_not_built_again(root, build):
    folder = cached("kind", "key", build)
    assert folder == root / "kind" / "key"
    before = (folder / MANIFEST).stat().st_mtime_ns
    assert cached("kind", "key", build) == folder
    assert build.calls == 1
    assert (folder / MANIFEST).stat().st_mtime_ns == before
    assert json.loads((folder / MANIFEST).read_text()) == {"deep/data.bin": 10}


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "deep" / "data.bin").write_bytes(b"0123"),
        lambda folder: (folder / "deep" / "data.bin").unlink(),
        lambda folder: (folder / MANIFEST).unlink(),
        lambda folder: (folder / MANIFEST).write_text('{"deep/da'),
    ],
    ids=["truncated", "missing", "no manifest", "half a manifest"],
)
def test_a_damaged_cache_is_built_anew_with_a_warning(build, damage, caplog):
    folder = cached("kind", "key", build)
    damage(folder)
    assert cached("kind", "key", build) == folder
    assert build.calls == 2
    assert (folder / "deep" / "data.bin").read_bytes() == b"0123456789"
    assert "incomplete or damaged" in caplog.text


def test_a_build_that_fails_leaves_nothing_behind(root, build):
    def fail(folder):
        build(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached("kind", "key", fail)
    assert [path for path in (root / "kind").iterdir() if path.is_dir()] == []
    cached("kind", "key", build)
    assert build.calls == 2


def test_what_a_killed_build_left_is_cleared_away(root, build):
    (root / "kind" / ".key.building" / "deep").mkdir(parents=True)
    (root / "kind" / ".key.building" / "left").write_text("x")
    folder = cached("kind", "key", build)
    assert not (folder / "left").exists()


def test_of_several_at_once_one_builds(build):
    def slow(folder):
        build(folder)
        time.sleep(0.2)

    threads = [threading.Thread(target=cached, args=("kind", "key", slow)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert build.calls == 1


@pytest.mark.slow
def test_of_two_processes_one_builds(root):
    script = (
        "import sys, time\n"
        "from dlarch.data.cache import cached\n"
        "def build(folder):\n"
        "    (folder / 'by').write_text(sys.argv[1])\n"
        "    time.sleep(1)\n"
        "    print('built')\n"
        "print((cached('kind', 'key', build) / 'by').read_text())\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, name], stdout=subprocess.PIPE, text=True, env=os.environ
        )
        for name in "ab"
    ]
    said = [process.communicate(timeout=120)[0].split() for process in processes]
    assert sum(words.count("built") for words in said) == 1
    assert said[0][-1] == said[1][-1]


def test_a_cache_that_cannot_be_written_names_the_way_out(tmp_path, monkeypatch, build):
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("DLARCH_CACHE", str(blocked))
    with pytest.raises(DataError, match="set DLARCH_CACHE to another folder"):
        cached("kind", "key", build)


def test_keys_depend_on_every_setting_and_on_no_order():
    one = cache_key({"a": 1, "b": [None, "é"]})
    assert one == cache_key({"b": [None, "é"], "a": 1})
    assert one != cache_key({"a": 1, "b": [None, "e"]})
    assert one.isalnum()


def test_the_users_cache_folder_is_the_default(monkeypatch, tmp_path):
    monkeypatch.delenv("DLARCH_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_root() == tmp_path / "dlarch"
