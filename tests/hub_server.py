"""A hub on the loopback interface: the part of the file API that the hub library uses, for tests."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_of_the_tests"


@dataclass
class Repository:
    """Files of a repository at one commit. ``gated``: only ``TOKEN`` opens it."""

    files: dict[str, bytes]
    commit: str = COMMIT
    gated: bool = False


@dataclass
class Hub:
    """``repositories`` by "datasets/<id>" or "models/<id>". ``cut``: so many bytes of a file are sent, then
    the connection ends, as often as ``cuts`` says; ``down``: files as long are refused after that.
    ``requests``: (method, path, range) of all that was asked.
    """

    repositories: dict[str, Repository]
    cut: int = 0
    cuts: int = 0
    down: bool = False
    url: str = ""
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)


@contextmanager
def empty_cache(folder, monkeypatch):
    """A hub that holds nothing yet and, in this process, the library with an empty cache below ``folder``."""
    from huggingface_hub import constants

    with serving(Hub({})) as hub:
        path = constants.HUGGINGFACE_CO_URL_TEMPLATE.partition("/{repo_id}")
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "".join(path[1:]))
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "ANAMNESIS_USER_OFFLINE", "HF_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        yield hub


def cut_short(hub: Hub, monkeypatch, at: int, cuts: int, chunk: int) -> None:
    """Make the hub break off ``cuts`` times after ``at`` bytes of a file; the library tries again at once."""
    from huggingface_hub import constants, file_download

    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", chunk)
    monkeypatch.setattr(file_download.time, "sleep", lambda seconds: None)
    hub.cut, hub.cuts = at, cuts


@contextmanager
def serving(hub, handler: type[BaseHTTPRequestHandler] | None = None):
    """The hub under ``hub.url`` while the block runs; ``handler``: what answers, and knows it as ``hub``."""
    handler = type("Handler", (handler or _Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self._answer()

    def do_GET(self):
        self._answer()

    def _answer(self) -> None:
        path = unquote(self.path.split("?")[0])
        self.hub.requests.append((self.command, path, self.headers.get("Range")))
        api = re.fullmatch(r"/api/(datasets|models)/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?(?:/.*)?", path)
        file = re.fullmatch(r"/(?:(datasets)/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if not (api or file):
            return self._refuse(404, "EntryNotFound", "no such page")
        kind, name = (api[1], api[2]) if api else (file[1] or "models", file[2])
        revision = (api[4] if api else file[3]) or "main"
        found = self.hub.repositories.get(f"{kind}/{name}")
        if found is None:
            return self._refuse(404, "RepoNotFound", "Repository not found")
        if found.gated and self.headers.get("Authorization") != f"Bearer {TOKEN}" and file:
            return self._refuse(401, "GatedRepo", f"Access to {kind}/{name} is restricted")
        if revision not in ("main", found.commit):
            return self._refuse(404, "RevisionNotFound", "Invalid rev id")
        if api and api[3] == "tree":
            return self._send(json.dumps(self._tree(found)).encode(), "application/json", found)
        if api:
            return self._send(json.dumps(self._description(name, found)).encode(), "application/json", found)
        if file[4] not in found.files:
            return self._refuse(404, "EntryNotFound", "Entry not found")
        if self.hub.down and not self.hub.cuts and len(found.files[file[4]]) > self.hub.cut:
            return self._refuse(400, "Down", "not now")
        return self._send(found.files[file[4]], "application/octet-stream", found, resumable=True)

    @staticmethod
    def _tree(found: Repository) -> list[dict]:
        return [
            {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
            for name, data in found.files.items()
        ]

    @staticmethod
    def _description(name: str, found: Repository) -> dict:
        siblings = [{"rfilename": file} for file in found.files]
        return {
            "id": name,
            "sha": found.commit,
            "private": False,
            "gated": "manual" if found.gated else False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "siblings": siblings,
        }

    def _refuse(self, status: int, code: str, words: str) -> None:
        body = json.dumps({"error": words}).encode()
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", words)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def _send(self, body: bytes, kind: str, found: Repository, resumable: bool = False) -> None:
        etag, start = hashlib.sha256(body).hexdigest(), 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if resumable and asked:
            start = int(asked[1])
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body) - start))
        self.send_header("ETag", f'"{etag}"')
        self.send_header("X-Repo-Commit", found.commit)
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        if self.command == "HEAD":
            return
        part = body[start:]
        if resumable and self.hub.cuts > 0 and len(part) > self.hub.cut:
            self.hub.cuts -= 1
            self.wfile.write(part[: self.hub.cut])
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(2)
            return
        self.wfile.write(part)
