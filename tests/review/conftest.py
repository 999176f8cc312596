"""A review of made-up pictures with hostile names, served as the command serves it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tellapart.data.corrections import CorrectionLog
from tellapart.data.scan import scan
from tellapart.review.session import Item, Session

# As folder names: what HTML, CSV and URLs might trip over.
CLASSES = ("<script>document.title='owned'</script>".replace("/", "\u2215"), 'a "b", c', "томат\n1")


@pytest.fixture
def make_session(picture_folder: Callable[..., Path], tmp_path: Path) -> Callable[..., Session]:
    def make(n: int = 3, several: bool = False, **changes: Any) -> Session:
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
            "<b>fruit</b>", "", items, catalog.classes, several, catalog.path, log, "me", "tellapart train x"
        )
        return replace(plain, **changes)

    return make


@dataclass(frozen=True)
class Served:
    """Where a review is served."""

    session: Session
    address: str
    token: str


@pytest.fixture
def serve_session() -> Iterator[Callable[[Session], Served]]:
    uvicorn = pytest.importorskip("uvicorn")
    pytest.importorskip("fastapi")
    from tellapart.review.app import make_app, new_token

    running = []

    def serve(session: Session) -> Served:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        token = new_token()
        server = uvicorn.Server(uvicorn.Config(make_app(session, token), log_level="warning", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        running.append((server, thread, listener))
        return Served(session, f"http://127.0.0.1:{listener.getsockname()[1]}/{token}/", token)

    yield serve
    for server, thread, listener in running:
        server.should_exit = True
        thread.join(10)
        listener.close()
