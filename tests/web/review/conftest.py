"""A review of made-up pictures with hostile names, served as the command serves it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tellapart.data.corrections import CorrectionLog
from tellapart.data.scan import scan
from tellapart.web.review.session import Item, Session

# As folder names: what HTML, CSV and URLs might trip over.
CLASSES = ("<script>document.title='owned'</script>".replace("/", "\u2215"), 'a "b", c', "томат\n1")


@pytest.fixture
def make_session(picture_folder: Callable[..., Path], tmp_path: Path) -> Callable[..., Session]:
    def make(n: int = 3, multilabel: bool = False, **changes: Any) -> Session:
        catalog = scan(picture_folder(n=n, classes=CLASSES))
        names, items = catalog.table["path"], []
        for row in range(len(catalog)):
            given = catalog.classes[int(catalog.target([row])[0])]
            other = catalog.classes[(catalog.classes.index(given) + 1) % 3]
            content = catalog.table["sha256"][row].hex()
            near = [((row + 1) % len(catalog), (other,)), ((row + 2) % len(catalog), ())]
            items.append(Item(row, names[row], content, (given,), (other,), 0.97, f"Looks like {other}.", near))
        log = CorrectionLog(tmp_path / "run" / "corrections.csv")
        plain = Session(
            "<b>fruit</b>", "", items, catalog.classes, multilabel, catalog.path, log, "me", "tellapart train x"
        )
        return replace(plain, **changes)

    return make


class Served:
    """A review's server, which can be stopped and started again at its address."""

    def __init__(self, session: Session) -> None:
        from tellapart.web.review.app import make_app, new_token
        from tellapart.web.server import MAX_CONNECTIONS

        self.connections = MAX_CONNECTIONS
        self.session, self.token = session, new_token()
        self._app = make_app(session, self.token)
        # Never listens: it holds the port, so that nobody else gets it while the server is stopped.
        self._port = self._bind(0)
        self.address = f"http://127.0.0.1:{self._port.getsockname()[1]}/{self.token}/"

    def start(self) -> None:
        import uvicorn

        from tellapart.web.server import server_config

        listener = self._bind(self._port.getsockname()[1])
        listener.listen()  # from here on a browser is let in, though the thread may begin later
        self._server = uvicorn.Server(server_config(self._app, connections=self.connections))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listener]}, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the server: whoever asks afterwards is refused."""
        self._server.should_exit = True
        self._thread.join(60)
        assert not self._thread.is_alive()

    def close(self) -> None:
        self.stop()
        self._port.close()

    @staticmethod
    def _bind(port: int) -> socket.socket:
        bound = socket.socket()
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(("127.0.0.1", port))
        return bound


@pytest.fixture
def serve_session() -> Iterator[Callable[[Session], Served]]:
    pytest.importorskip("uvicorn")
    pytest.importorskip("fastapi")
    running = []

    def serve(session: Session) -> Served:
        running.append(Served(session))
        running[-1].start()
        return running[-1]

    yield serve
    for served in running:
        served.close()
