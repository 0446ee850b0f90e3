"""A hub on the loopback interface that takes uploads: the part of its API that the library uses."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from hub_server import serving


@dataclass
class Uploads:
    """``files``: path -> content of what was committed; ``token``: the one that may write; ``created``."""

    token: str
    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    created: list[dict] = field(default_factory=list)


def taking_uploads(uploads: Uploads):
    """The hub under ``uploads.url`` while the block runs."""
    return serving(uploads, _Handler)


class _Handler(BaseHTTPRequestHandler):
    hub: Uploads
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self._send(404, {"error": "not here"})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            return self._send(401, {"error": "Invalid username or password."})
        if self.path == "/api/repos/create":
            self.hub.created.append(json.loads(body))
            return self._send(200, {"url": f"{self.hub.url}/me/{json.loads(body)['name']}"})
        if self.path == "/api/validate-yaml":
            return self._send(200, {"errors": [], "warnings": []})
        if re.fullmatch(r"/api/models/[^/]+/[^/]+/preupload/main", self.path):
            files = [
                {**file, "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(body)["files"]
            ]
            return self._send(200, {"files": files})
        if re.fullmatch(r"/api/models/[^/]+/[^/]+/commit/main", self.path):
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.hub.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            return self._send(200, {"commitUrl": f"{self.hub.url}/me/x/commit/1", "commitOid": "1"})
        return self._send(404, {"error": f"no page {self.path}"})

    def _send(self, status: int, content: dict) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
