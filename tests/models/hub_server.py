"""A hub on this machine: real files at the addresses of Hugging Face's."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@contextmanager
def serving(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve `root`/OWNER/NAME/FILE as /OWNER/NAME/resolve/main/FILE.

    Yields:
        The address, and the requests so far ("GET /…", with the range if there is one).
    """
    requests: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, with_body: bool) -> None:
            part = self.headers.get("Range", "")
            requests.append(f"{self.command} {self.path} {part}".strip())
            owner, _, rest = self.path.lstrip("/").partition("/resolve/main/")
            file = root / owner / rest
            if not rest or not file.is_file():
                self.send_response(404)
                self.send_header("X-Error-Code", "EntryNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            content = file.read_bytes()
            first, _, last = part.removeprefix("bytes=").partition("-")
            shown = content[int(first or 0) : int(last) + 1 if last else None]
            self.send_response(206 if part else 200)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(len(shown)))
            if part:
                end = int(first or 0) + len(shown) - 1
                self.send_header("Content-Range", f"bytes {first or 0}-{end}/{len(content)}")
            self.end_headers()
            if with_body:
                self.wfile.write(shown)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", requests
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
