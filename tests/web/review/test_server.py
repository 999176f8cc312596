"""The review's real server: bodies, headers and connections are bounded; what is no request is refused, never a 500."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tellapart.web import server
from tellapart.web.review.session import Session

PATIENCE = 60.0  # seconds, on a machine that may be busy


@pytest.fixture
def served(make_session: Callable[..., Session], serve_session: Callable[[Session], Any]) -> Any:
    return serve_session(make_session())


@pytest.fixture
def connect(served: Any) -> Iterator[Callable[[], socket.socket]]:
    """Opens connections to the server by hand."""
    opened: list[socket.socket] = []
    port = int(served.address.split(":")[2].split("/")[0])

    def make() -> socket.socket:
        opened.append(socket.create_connection(("127.0.0.1", port), PATIENCE))
        return opened[-1]

    yield make
    for connection in opened:
        connection.close()


def head(served: Any, method: str = "POST", path: str = "decide", **headers: str) -> bytes:
    lines = [f"{method} /{served.token}/{path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def status(connection: socket.socket) -> int:
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    return answer.status


def posted(served: Any, connection: socket.socket, body: bytes) -> int:
    connection.sendall(head(served, Content_Length=str(len(body))) + body)
    return status(connection)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"item": 0, "decision": "keep"}', 200),
        (b'{"item": true, "decision": "keep"}', 400),
        (b'{"item": 0.0, "decision": "keep"}', 400),
        (b'{"item": null, "decision": "keep"}', 400),
        (b'{"item": ' + b"9" * 5_000 + b', "decision": "keep"}', 400),
        (b'{"item": 0, "decision": ["keep"]}', 400),
        (b'{"item": 0, "decision": "relabel", "to": [1]}', 400),
        (b'{"item": 0, "decision": "relabel", "to": ' + b"[" * 900 + b"]" * 900 + b"}", 400),
        (b"[" * 200_000, 400),
        (b'{"a":' * 150_000, 400),
        (b'{"item": 0, "decision": "keep", "item": [[', 400),
        (b"\xff\xfe\0", 400),
        (b"", 400),
        (b'{"item": NaN, "decision": "keep"}', 400),
    ],
)
def test_any_body_has_an_answer_that_is_no_failure(
    served: Any, connect: Callable[[], socket.socket], body: bytes, expected: int
) -> None:
    assert posted(served, connect(), body) == expected
    assert served.session.log.path.exists() == (expected == 200)


@pytest.mark.parametrize("row", ["9" * 5_000, "%D9%A3", "1e3", "0x0", "-0", "%ff"])
def test_any_row_has_an_answer_that_is_no_failure(served: Any, connect: Callable[[], socket.socket], row: str) -> None:
    connection = connect()
    connection.sendall(head(served, "GET", f"picture/small/{row}"))
    assert status(connection) in (200, 404)


@pytest.mark.parametrize("target", ["*", "/", "//", "http://127.0.0.1/", "%2F", "?" * 5_000])
def test_any_address_has_an_answer_that_is_no_failure(connect: Callable[[], socket.socket], target: str) -> None:
    connection = connect()
    connection.sendall(f"OPTIONS {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    assert status(connection) in (400, 404)


def test_a_body_that_is_too_long_is_not_read(served: Any, connect: Callable[[], socket.socket]) -> None:
    connection = connect()
    connection.sendall(head(served, Content_Length="300000000"))
    assert status(connection) == 413  # though nothing of it was sent


def test_a_body_in_chunks_is_bounded_while_it_is_read(served: Any, connect: Callable[[], socket.socket]) -> None:
    connection = connect()
    connection.sendall(head(served, Transfer_Encoding="chunked"))
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    n_sent = 0
    try:
        while n_sent < 300_000_000:
            connection.sendall(chunk)
            n_sent += len(chunk)
    except OSError:  # the server has closed the connection
        pass
    assert n_sent < 50_000_000


def test_slow_and_half_open_connections_are_closed(
    served: Any,
    connect: Callable[[], socket.socket],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(server, "REQUEST_SECONDS", 0.2)
    silent, half, slow = connect(), connect(), connect()
    half.sendall(head(served)[:20])
    slow.sendall(head(served, Content_Length="31") + b"{")
    for connection in (silent, half, slow):
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1) == b""
    monkeypatch.setattr(server, "REQUEST_SECONDS", PATIENCE)
    assert posted(served, connect(), b'{"item": 0, "decision": "keep"}') == 200
    assert "Traceback" not in capfd.readouterr().err


def test_one_piece_after_another_does_not_keep_a_connection(
    served: Any, connect: Callable[[], socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "REQUEST_SECONDS", 0.3)
    connection = connect()
    until = time.monotonic() + PATIENCE
    try:
        while time.monotonic() < until:
            connection.sendall(b"G")
            time.sleep(0.05)
        pytest.fail("the connection is still open")
    except OSError:
        pass


def test_a_connection_serves_one_request_after_another(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = http.client.HTTPConnection(*served.address.split("/")[2].split(":"), timeout=PATIENCE)  # type: ignore[arg-type]
    for _ in range(3):
        connection.request("GET", f"/{served.token}/state")
        answer = connection.getresponse()
        assert json.loads(answer.read())["version"] == 0
    connection.close()


def test_no_more_connections_than_a_page_needs(served: Any, connect: Callable[[], socket.socket]) -> None:
    served.stop()
    served.connections = 3
    served.start()
    held = [connect() for _ in range(3)]
    deadline = time.monotonic() + PATIENCE
    while len(served._server.server_state.connections) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    with contextlib.suppress(ConnectionResetError):
        assert connect().recv(1) == b""
    assert posted(served, held[0], b'{"item": 0, "decision": "keep"}') == 200
