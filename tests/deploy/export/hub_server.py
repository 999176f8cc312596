"""A hub on this machine that takes repositories: the part of Hugging Face's protocol that sending a folder needs."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

TOKEN = "hf_only_of_this_test"


@dataclass
class Hub:
    """What the hub holds, and what it was asked."""

    address: str = ""
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: dict[str, bool] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)  # large files by digest, before a commit names them
    requests: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)


@contextmanager
def serving() -> Iterator[Hub]:
    """Serve an empty hub, which knows one token."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(b"")

        def do_POST(self) -> None:
            self._answer(self._body())

        def do_PUT(self) -> None:
            body = self._body()
            hub.stored[self.path.removeprefix("/store/")] = body
            self._send(200, {})

        def _body(self) -> bytes:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            hub.bodies.append(body)
            return body

        def _answer(self, body: bytes) -> None:
            path = urlsplit(self.path).path
            hub.requests.append(f"{self.command} {path}")
            if path == "/api/validate-yaml":
                return self._send(200, {"errors": [], "warnings": []})
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                return self._send(401, {"error": "Invalid username or password."})
            if path == "/api/repos/create":
                return self._create(json.loads(body))
            if path.endswith(".git/info/lfs/objects/batch"):
                return self._send(200, {"objects": [self._place(each) for each in json.loads(body)["objects"]]})
            _, _, _, owner, name, *rest = path.split("/")
            return self._repository(f"{owner}/{name}", rest, body)

        def _create(self, asked: dict[str, Any]) -> None:
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            hub.repositories[name] = {}
            hub.private[name] = asked.get("visibility", "private" if asked.get("private") else "public") == "private"
            self._send(200, {"url": f"{hub.address}/{name}", "name": name})

        def _place(self, asked: dict[str, Any]) -> dict[str, Any]:
            return asked | {"actions": {"upload": {"href": f"{hub.address}/store/{asked['oid']}"}}}

        def _repository(self, name: str, rest: list[str], body: bytes) -> None:
            if name not in hub.repositories:
                return self._send(404, {"error": "Repository not found"}, code="RepoNotFound")
            if rest[:1] == ["preupload"]:
                modes = [
                    {"path": file["path"], "shouldIgnore": False, "uploadMode": _mode(file["path"])}
                    for file in json.loads(body)["files"]
                ]
                return self._send(200, {"files": modes})
            if rest[:1] == ["commit"]:
                return self._commit(name, body)
            about = {"id": name, "private": hub.private[name], "sha": "0" * 40, "siblings": [], "tags": []}
            return self._send(200, about)

        def _commit(self, name: str, body: bytes) -> None:
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    hub.repositories[name][value["path"]] = base64.b64decode(value["content"])
                if line["key"] == "lfsFile":
                    hub.repositories[name][value["path"]] = hub.stored[value["oid"]]
            self._send(200, {"commitUrl": f"{hub.address}/{name}/commit/{'0' * 40}", "commitOid": "0" * 40})

        def _send(self, status: int, values: dict[str, Any], code: str = "") -> None:
            text = json.dumps(values).encode()
            self.send_response(status)
            if code:
                self.send_header("X-Error-Code", code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _mode(path: str) -> str:
    return "lfs" if path.endswith((".safetensors", ".onnx")) else "regular"
