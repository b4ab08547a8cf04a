"""A small model, and a small Hugging Face Hub: what huggingface_hub asks for, kept in memory."""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import torch

from dlarch.models.seq2seq.seq2seq_attn import Seq2SeqAttn
from dlarch.processing import TextProcessor, TranslationProcessor

TOKEN = "hf_right"


class HubServer(ThreadingHTTPServer):
    """Repositories as folders of bytes; POST /control/MODE makes the server hang or stop."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos: dict[str, dict[str, bytes]] = {}
        self.private: set[str] = set()
        self.calls: list[str] = []
        self.commits: list[list[dict]] = []
        self.hanging = False
        self.closing = Event()
        self.url = f"http://127.0.0.1:{self.server_port}"
        Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def sha(self, repo: str) -> str:
        content = repr(sorted(self.repos[repo].items())).encode()
        return hashlib.sha1(content).hexdigest()

    def stop(self) -> None:
        self.closing.set()
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    server: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.serve()

    do_HEAD = do_POST = do_GET  # noqa: N815

    def serve(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if self.headers.get("Transfer-Encoding") == "chunked":
            self.body = b"".join(iter(self.chunk, b""))
        else:
            self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if path.startswith("/control/"):
            self.reply({})
            if path.endswith("hang"):
                self.server.hanging = True
            else:
                Thread(target=self.server.stop).start()
            return
        if self.server.hanging:
            self.server.closing.wait()
            self.close_connection = True
            return
        self.server.calls.append(f"{self.command} {path}")
        for pattern, answer in ROUTES.items():
            method, _, route = pattern.partition(" ")
            match = re.fullmatch(route, path)
            if match and self.command in method.split("|"):
                answer(self, *match.groups())
                return
        self.fail(404, "EntryNotFound")

    def chunk(self) -> bytes:
        data = self.rfile.read(int(self.rfile.readline(), 16))
        self.rfile.readline()
        return data

    def reply(self, content: object, status: int = 200, **headers: str) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def fail(self, status: int, code: str = "") -> None:
        self.reply({"error": code}, status, X_Error_Code=code)

    def authorized(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def visible(self, repo: str) -> bool:
        if repo in self.server.repos and (repo not in self.server.private or self.authorized()):
            return True
        self.fail(401, "RepoNotFound")  # as the Hub answers about private ones to strangers
        return False

    # ---- reading

    def info(self, repo: str, revision: str | None) -> None:
        if not self.visible(repo):
            return
        sha = self.server.sha(repo)
        if revision not in (None, "main", sha):
            self.fail(404, "RevisionNotFound")
            return
        files = [{"rfilename": name} for name in self.server.repos[repo]]
        self.reply({"_id": "1", "id": repo, "modelId": repo, "sha": sha, "siblings": files})

    def tree(self, repo: str, _revision: str) -> None:
        if self.visible(repo):
            files = self.server.repos[repo].items()
            self.reply(
                [
                    {"type": "file", "path": name, "size": len(data), "oid": oid(data)}
                    for name, data in files
                ]
            )

    def resolve(self, repo: str, _revision: str, name: str) -> None:
        if not self.visible(repo):
            return
        data = self.server.repos[repo].get(name)
        if data is None:
            self.fail(404, "EntryNotFound")
        else:
            self.reply(data, ETag=f'"{oid(data)}"', X_Repo_Commit=self.server.sha(repo))

    # ---- writing

    def create(self) -> None:
        if not self.authorized():
            self.fail(401)
            return
        asked = json.loads(self.body)
        repo = "/".join(filter(None, [asked.get("organization"), asked["name"]]))
        if repo in self.server.repos:
            self.reply({"url": f"{self.server.url}/{repo}", "error": "exists"}, 409)
            return
        self.server.repos[repo] = {}
        if asked.get("private") or asked.get("visibility") == "private":
            self.server.private.add(repo)
        self.reply({"url": f"{self.server.url}/{repo}", "name": repo, "id": "1"})

    def validate(self) -> None:
        content = json.loads(self.body)["content"]
        errors = [] if content.startswith("---\n") else [{"message": "no front matter"}]
        self.reply({"errors": errors, "warnings": []}, 400 if errors else 200)

    def preupload(self, repo: str, _revision: str) -> None:
        if not self.authorized():
            self.fail(403)
            return
        files = [
            {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
            for file in json.loads(self.body)["files"]
        ]
        self.reply({"files": files, "commitOid": self.server.sha(repo)})

    def commit(self, repo: str, _revision: str) -> None:
        if not self.authorized():
            self.fail(403)
            return
        lines = [json.loads(line) for line in self.body.splitlines()]
        self.server.commits.append(lines)
        for line in lines:
            if line["key"] == "file":
                data = base64.b64decode(line["value"]["content"])
                self.server.repos[repo][line["value"]["path"]] = data
        sha = self.server.sha(repo)
        self.reply(
            {
                "success": True,
                "commitOid": sha,
                "commitUrl": f"{self.server.url}/{repo}/commit/{sha}",
            }
        )


def oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


REPO = "([^/]+/[^/]+)"
ROUTES = {
    f"GET /api/models/{REPO}(?:/revision/(.+))?": Handler.info,
    f"GET /api/models/{REPO}/tree/([^/]+)": Handler.tree,
    f"GET|HEAD /{REPO}/resolve/([^/]+)/(.+)": Handler.resolve,
    "POST /api/repos/create": Handler.create,
    "POST /api/validate-yaml": Handler.validate,
    f"POST /api/models/{REPO}/preupload/([^/]+)": Handler.preupload,
    f"POST /api/models/{REPO}/commit/([^/]+)": Handler.commit,
}


@pytest.fixture(scope="session")
def make_model() -> Callable[..., Seq2SeqAttn]:
    def make(**options: Any) -> Seq2SeqAttn:
        """A small model with random weights and a processor."""
        source = TextProcessor.train(["le chat noir", "deux chiens"], "characters")
        target = TextProcessor.train(["the black cat", "two dogs"], "characters")
        sizes = {"embedding_size": 5, "encoder_size": 6, "hidden_size": 7}
        torch.manual_seed(0)
        model = Seq2SeqAttn(source.vocab_size, target.vocab_size, **sizes | options)
        model.processor = TranslationProcessor(source, target, "fr", "en")
        return model

    return make


@pytest.fixture(scope="module")
def hub_server() -> Iterator[HubServer]:
    server = HubServer()
    yield server
    server.stop()
