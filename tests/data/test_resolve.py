import hashlib
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from dlarch.data.hub_rows import hub_splits, iterate_hub
from dlarch.data.resolve import HubId, LocalFile, LocalFolder, content_hash, resolve_source
from dlarch.errors import DataError

ROWS = {
    "train": [("un", "one"), ("deux", "two"), ("trois", "three")],
    "validation": [("quatre", "four")],
    "test": [("cinq", "five"), ("six", "six")],
}


def write_hub_folder(folder: Path, rows=ROWS) -> Path:
    (folder / "data").mkdir(parents=True)
    for split, pairs in rows.items():
        table = pyarrow.table({"fr": [p[0] for p in pairs], "en": [p[1] for p in pairs]})
        pyarrow.parquet.write_table(table, folder / "data" / f"{split}-00000-of-00001.parquet")
    return folder


@pytest.fixture
def places(tmp_path, monkeypatch):
    """An empty working directory and an empty $DLARCH_DATA."""
    here, data = tmp_path / "here", tmp_path / "data"
    here.mkdir()
    data.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("DLARCH_DATA", str(data))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    return here, data


def test_a_local_path_wins_over_dlarch_data_and_that_over_the_hub(places):
    here, data = places
    assert resolve_source("owner/name") == HubId("owner/name")
    (data / "owner" / "name").mkdir(parents=True)
    assert resolve_source("owner/name") == LocalFolder(data / "owner" / "name")
    (here / "owner" / "name").mkdir(parents=True)
    assert resolve_source("owner/name") == LocalFolder(Path("owner/name"))


def test_files_are_found_here_and_under_dlarch_data(places):
    here, data = places
    (data / "pairs").mkdir()
    (data / "pairs" / "fra.tsv").write_text("x\ty\n")
    assert resolve_source("pairs/fra.tsv") == LocalFile(data / "pairs" / "fra.tsv")
    assert resolve_source(data / "pairs" / "fra.tsv") == LocalFile(data / "pairs" / "fra.tsv")
    (here / "noun").write_text("x\ty\n")
    assert resolve_source("noun") == LocalFile(Path("noun"))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("pairz.tsv", "'pairz.tsv' is no Hub id OWNER/NAME. Did you mean 'pairs.tsv'?"),
        ("sub/pairz.tsv", "Did you mean 'pairs.tsv'?"),
        ("nowhere/pairs.tsv", "There is no folder 'nowhere' either."),
        ("datess", "Did you mean 'dates'?"),
        ("a/b/c", "'a/b/c' is no Hub id OWNER/NAME."),
        ("../x", "'../x' is no Hub id OWNER/NAME."),
        ("", "The source is empty"),
    ],
)
def test_a_source_that_can_be_nothing_is_refused_with_near_names(places, source, message):
    here, data = places
    (here / "pairs.tsv").touch()
    (data / "sub").mkdir()
    (data / "sub" / "pairs.tsv").touch()
    with pytest.raises(DataError) as caught:
        resolve_source(source, known=["dates", "copy"])
    assert message in str(caught.value)


def test_official_splits_are_read_whole_and_in_order(places):
    folder = LocalFolder(write_hub_folder(places[1] / "owner" / "name"))
    assert hub_splits(folder) == {"train": "train", "validation": "validation", "test": "test"}
    for split, rows in ROWS.items():
        assert list(iterate_hub(folder, split, ("fr", "en"))) == rows
    assert list(iterate_hub(folder, "test", ("en",))) == [("five",), ("six",)]


def test_splits_and_nested_columns_of_json_lines_are_found(places):
    folder = places[1] / "owner" / "name"
    folder.mkdir(parents=True)
    for split in ("train", "dev"):
        lines = [{"translation": {"fr": f"{split} {n}", "en": f"{n}"}} for n in range(3)]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = hub_splits(LocalFolder(folder))
    assert set(found) == {"train", "validation"}
    assert list(iterate_hub(LocalFolder(folder), found["validation"], ("en", "fr"))) == [
        ("0", "dev 0"),
        ("1", "dev 1"),
        ("2", "dev 2"),
    ]


def test_rows_with_an_empty_field_are_left_out_and_counted(places, caplog):
    rows = {"train": [("un", "one"), ("", "two"), ("trois", None), ("quatre", " ")]}
    folder = LocalFolder(write_hub_folder(places[1] / "owner" / "name", rows))
    assert list(iterate_hub(folder, "train", ("fr", "en"))) == [("un", "one")]
    assert "left out 3 rows" in caplog.text


def test_unknown_split_and_column_are_refused_with_near_names(places):
    folder = LocalFolder(write_hub_folder(places[1] / "owner" / "name"))
    with pytest.raises(DataError, match=r"no split 'tests', only .*Did you mean 'test'"):
        list(iterate_hub(folder, "tests", ("fr", "en")))
    with pytest.raises(DataError, match=r"no column 'eng' in split train.*Did you mean 'en'"):
        list(iterate_hub(folder, "train", ("fr", "eng")))


def test_damaged_empty_and_scripted_folders_are_refused(places):
    damaged = write_hub_folder(places[1] / "damaged")
    (damaged / "data" / "train-00000-of-00001.parquet").write_bytes(b"PAR1 no parquet")
    with pytest.raises(DataError, match=r"damaged (cannot be read|is no data set)"):
        list(iterate_hub(LocalFolder(damaged), "train", ("fr", "en")))
    (places[1] / "empty").mkdir()
    with pytest.raises(DataError, match="empty is no data set in the Hub's layout"):
        hub_splits(LocalFolder(places[1] / "empty"))
    scripted = write_hub_folder(places[1] / "scripted")
    (scripted / "scripted.py").write_text("raise SystemExit('ran')")
    with pytest.raises(DataError, match="loading script, which is never run"):
        hub_splits(LocalFolder(scripted))


def test_content_hash_of_a_file_is_that_of_sha256sum(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2
    assert content_hash(LocalFile(path)) == known


def test_content_hash_of_a_folder_depends_on_names_and_bytes_only(tmp_path):
    def folder(name: str, **files: str) -> LocalFolder:
        (tmp_path / name).mkdir()
        for file, text in files.items():
            (tmp_path / name / file).write_text(text)
        return LocalFolder(tmp_path / name)

    first = content_hash(folder("first", a="1", b="2"))
    assert first == content_hash(folder("second", b="2", a="1"))
    assert first != content_hash(folder("third", a="1", b="3"))
    assert first != content_hash(folder("fourth", a="1", c="2"))
    (tmp_path / "first" / ".cache").write_text("left behind by a download")
    assert first == content_hash(LocalFolder(tmp_path / "first"))
    files = "".join(
        f"{name}\0{hashlib.sha256(text.encode()).hexdigest()}\n"
        for name, text in (("a", "1"), ("b", "2"))
    )
    assert first == hashlib.sha256(files.encode()).hexdigest()


# The Hub itself: its library reads HF_ENDPOINT when imported, so each case is a process of its own.

FETCH = """
import json, sys, time
from dlarch.data.hub_rows import iterate_hub
from dlarch.data.resolve import HubId, content_hash
from dlarch.errors import DataError
import huggingface_hub
start = time.perf_counter()
try:
    rows = list(iterate_hub(HubId("owner/name"), "train", ("fr", "en")))
    answer = {"rows": rows, "hash": content_hash(HubId("owner/name"))}
except DataError as error:
    answer = {"error": str(error), "seconds": time.perf_counter() - start}
print(json.dumps(answer))
"""


def fetch_from(endpoint: str, home: Path) -> dict:
    environment = os.environ | {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "0",
    }
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        environment.pop(proxy, None)
    done = subprocess.run(
        [sys.executable, "-c", FETCH],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def closed_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{server.getsockname()[1]}"  # bound, but nobody listens


@pytest.fixture
def hanging_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(16)  # connections are taken, but never answered
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.slow
@pytest.mark.parametrize("port", ["closed_port", "hanging_port"])
def test_no_network_is_noticed_within_ten_seconds(places, request, port):
    home = places[1].parent / "hf"
    answer = fetch_from(request.getfixturevalue(port), home)
    assert answer["seconds"] < 10
    assert "'owner/name' is neither here nor under $DLARCH_DATA" in answer["error"]
    assert "place it at $DLARCH_DATA/owner/name in the Hub's layout" in answer["error"]
    assert len(answer["error"].splitlines()) == 1


class FakeHub(http.server.BaseHTTPRequestHandler):
    """As much of the Hub's protocol as downloading one data set needs."""

    folder: Path
    sha = "0123456789abcdef0123456789abcdef01234567"

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, with_body: bool):
        files = {p.relative_to(self.folder).as_posix(): p for p in self.folder.rglob("*.*")}
        path = self.path.partition("?")[0]
        body, etag = None, "none"
        if path.startswith("/api/datasets/owner/name/tree/"):
            entries = [self.entry(name, file) for name, file in files.items()]
            body = json.dumps(entries).encode()
        elif path.startswith("/api/datasets/owner/name"):
            siblings = [{"rfilename": name} for name in files]
            info = {"id": "owner/name", "sha": self.sha, "siblings": siblings, "private": False}
            body = json.dumps(info).encode()
        elif path.startswith("/datasets/owner/name/resolve/"):
            name = path.split("/", 6)[6]
            if name in files:
                body = files[name].read_bytes()
                etag = hashlib.sha256(body).hexdigest()
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Length", str(len(body or b"")))
        self.send_header("ETag", f'"{etag}"')
        self.send_header("X-Repo-Commit", self.sha)
        if body is None:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()
        if with_body and body:
            self.wfile.write(body)

    def entry(self, name: str, file: Path) -> dict:
        return {"type": "file", "path": name, "size": file.stat().st_size, "oid": "0" * 40}

    def log_message(self, *arguments):
        pass


@pytest.fixture
def fake_hub(tmp_path):
    handler = type("Handler", (FakeHub,), {"folder": write_hub_folder(tmp_path / "remote")})
    (tmp_path / "remote" / "remote.py").write_text("raise SystemExit('a stranger ran')")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_a_data_set_of_the_hub_is_fetched_once_and_then_read_without_a_network(
    places, fake_hub, closed_port
):
    home = places[1].parent / "hf"
    online = fetch_from(fake_hub, home)
    assert [tuple(row) for row in online["rows"]] == ROWS["train"]
    assert not list(home.rglob("*.py"))
    start = time.perf_counter()
    assert fetch_from(closed_port, home) == online
    assert time.perf_counter() - start < 60


@pytest.mark.slow
def test_a_data_set_that_the_hub_does_not_have_is_said_to_be_missing(places, fake_hub, tmp_path):
    for file in (tmp_path / "remote" / "data").iterdir():
        file.unlink()
    answer = fetch_from(fake_hub + "/elsewhere", tmp_path / "hf")
    assert "has no data set 'owner/name' that you may read" in answer["error"]


@pytest.mark.skipif("DLARCH_DATA" not in os.environ, reason="DLARCH_DATA is not set")
def test_multi30k_has_its_published_sizes():
    source = resolve_source("bentrevett/multi30k")
    if not isinstance(source, LocalFolder):
        pytest.skip("bentrevett/multi30k is not under $DLARCH_DATA")
    splits = hub_splits(source)
    counts = {s: sum(1 for _ in iterate_hub(source, splits[s], ("de", "en"))) for s in splits}
    assert counts == {"train": 29_000, "validation": 1_014, "test": 1_000}
