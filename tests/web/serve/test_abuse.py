"""Whoever wastes the server's time, memory or places: it refuses or cuts him, and others keep being answered."""

import contextlib
import socket
import struct
import threading
from pathlib import Path

import httpx
import pytest

from tellapart.web import server
from tellapart.web.serve.bodies import BodyMemory
from tellapart.web.serve.picture_store import PictureStore
from tests.web.serve.conftest import Running, picture

PATIENCE = 60.0
HEAD = "POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\n{more}\r\n\r\n"


@pytest.fixture
def connect(running):
    """Opens connections to the server by hand."""
    with contextlib.ExitStack() as opened:
        yield lambda: opened.enter_context(socket.create_connection(("127.0.0.1", running.port), PATIENCE))


def head(more, kind="image/png"):
    return HEAD.format(kind=kind, more=more).encode()


def status_of(connection):
    """The status of the response; 0 where the connection was cut without one."""
    try:
        first = connection.recv(4096).split(b"\r\n")[0]
    except ConnectionError:
        return 0
    return int(first.split()[1]) if first else 0


def answers(running):
    """Whether others are answered."""
    headers = {"content-type": "image/png"}
    response = httpx.post(f"{running.address}/v1/predict", content=picture(), headers=headers, timeout=PATIENCE)
    return response.status_code == 200 and response.json()["label"] == "red"


def test_whoever_sends_slowly_holds_up_nobody(running, connect):
    slow = [connect() for _ in range(20)]
    for i, connection in enumerate(slow):  # some within the headers, some within the body
        connection.sendall(b"POST /v1/pre" if i % 2 else head("Content-Length: 1000") + b"x")
    connections = running.server.server_state.connections
    wait_until(lambda: sum(connection.deadline is not None for connection in list(connections)) >= len(slow))
    assert answers(running)


@pytest.mark.parametrize("begun", [b"", b"POST /v1/pre", head("Content-Length: 1000") + b"x"])
def test_whoever_sends_slowly_is_cut(running, connect, monkeypatch, begun):
    monkeypatch.setattr(server, "REQUEST_SECONDS", 0.1)
    connection = connect()
    with contextlib.suppress(ConnectionError):  # it may be cut already
        connection.sendall(begun)
    with contextlib.suppress(ConnectionResetError):
        assert connection.recv(1000) == b""
    monkeypatch.undo()
    assert answers(running)


def test_no_more_connections_than_there_may_be(run):
    started = Running(run, connections=3)
    try:
        connections = started.server.server_state.connections
        idle = [socket.create_connection(("127.0.0.1", started.port), PATIENCE) for _ in range(3)]
        wait_until(lambda: len(connections) == 3)
        one_too_many = socket.create_connection(("127.0.0.1", started.port), PATIENCE)
        with one_too_many, contextlib.suppress(ConnectionResetError):
            assert one_too_many.recv(1000) == b""
        for connection in idle:
            connection.close()
        wait_until(lambda: not connections)
        assert answers(started)
    finally:
        started.stop()


def test_a_body_in_very_many_tiny_chunks_holds_up_nobody(running, connect):
    n, connection = 50_000, connect()

    def send():
        with contextlib.suppress(OSError):  # it may be cut
            connection.sendall(head("Transfer-Encoding: chunked"))
            for _ in range(n // 1000):
                connection.sendall(b"1\r\nx\r\n" * 1000)
            connection.sendall(b"0\r\n\r\n")

    sending = threading.Thread(target=send)
    sending.start()
    assert answers(running)
    sending.join()
    assert status_of(connection) in (0, 400, 422)
    assert answers(running)


@pytest.mark.parametrize(
    ("more", "body", "statuses"),
    [
        ("Content-Length: 5", picture(), (400, 422)),  # what follows is no request
        ("Content-Length: -1", b"", (400,)),
        ("Content-Length: 99999999999999999999999", b"", (400, 413)),
        ("Content-Length: 1\r\nContent-Length: 2", b"xx", (400,)),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", b"0\r\n\r\n", (400,)),
        ("Transfer-Encoding: gzip", b"", (400, 501)),
        ("Transfer-Encoding: chunked", b"zz\r\n", (400,)),
        ("Content-Length: 3\r\nContent-Encoding: gzip", b"abc", (415,)),
        ("Content-Length: 0\r\nX: " + "y" * 200_000, b"", (0, 400, 431)),
    ],
)
def test_what_lies_about_its_length_is_refused(running, connect, more, body, statuses):
    connection = connect()
    with contextlib.suppress(ConnectionError):
        connection.sendall(head(more) + body)
    assert status_of(connection) in statuses
    assert answers(running)


def test_a_body_shorter_than_it_says_is_given_up(running, connect):
    connection = connect()
    connection.sendall(head("Content-Length: 1000") + b"x")
    connection.shutdown(socket.SHUT_WR)
    assert status_of(connection) in (0, 400)
    assert answers(running)


def test_a_form_of_very_many_parts_is_refused(running):
    part = '--x\r\nContent-Disposition: form-data; name="p"; filename="a.png"\r\n\r\n\r\n'
    body = (part * 100_000 + "--x--\r\n").encode()
    headers = {"content-type": "multipart/form-data; boundary=x"}
    response = httpx.post(f"{running.address}/v1/predict", content=body, headers=headers, timeout=PATIENCE)
    assert response.status_code == 413
    assert answers(running)


@pytest.mark.slow
def test_every_nasty_picture_is_answered_or_refused_and_stops_nobody(running, test_data):
    statuses = {}
    with httpx.Client(base_url=running.address, timeout=PATIENCE) as client:
        for path in sorted((test_data / "nasty").iterdir()):
            headers = {"content-type": "application/octet-stream"}
            response = client.post("/v1/predict", content=path.read_bytes(), headers=headers)
            statuses[path.name] = response.status_code
            assert response.json()
    assert len(statuses) > 50
    assert set(statuses.values()) == {200, 422}
    assert answers(running)


def test_whoever_leaves_in_mid_request_frees_his_place(run):
    started = Running(run)
    try:
        blocked, go_on = threading.Event(), threading.Event()
        network = started.served.batches.model.network
        run_network = network.predict_distance

        def wait(*args, **options):
            blocked.set()
            go_on.wait(PATIENCE)
            return run_network(*args, **options)

        network.predict_distance = wait
        content = picture()
        asked = head(f"Content-Length: {len(content)}") + content
        leaving = [socket.create_connection(("127.0.0.1", started.port), PATIENCE) for _ in range(30)]
        for connection in leaving:
            connection.sendall(asked)
        assert blocked.wait(PATIENCE)
        for connection in leaving:
            connection.close()
        # The network still works on the first of them: only that all left can free the places.
        wait_until(lambda: started.served.batches.n_inside == 0 and started.served.memory.n_bytes == 0)
        go_on.set()
        assert answers(started)
    finally:
        go_on.set()
        started.stop()


def wait_until(reached):
    """Wait for a state, however long a busy machine takes."""
    waiting = threading.Event()
    for _ in range(6000):
        if reached():
            return
        waiting.wait(0.01)
    raise AssertionError("the state is not reached")


def test_the_bytes_of_all_bodies_are_bounded_together(run):
    content = picture()
    started = Running(run)
    started.served.memory = BodyMemory(most=len(content) + 10)
    try:
        with socket.create_connection(("127.0.0.1", started.port), PATIENCE) as connection:
            connection.sendall(head("Content-Length: 1000") + b"x" * 50)
            wait_until(lambda: started.served.memory.n_bytes == 50)
            headers = {"content-type": "image/png"}
            refused = httpx.post(f"{started.address}/v1/predict", content=content, headers=headers, timeout=PATIENCE)
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        wait_until(lambda: started.served.memory.n_bytes == 0)
        assert answers(started)
    finally:
        started.stop()


def test_no_error_shows_a_path_or_a_trace(run, capsys):
    started = Running(run)
    try:
        started.served.batches.model.network.predict_distance = lambda *args, **options: Path(
            "/secret/model.onnx"
        ).read_bytes()
        response = httpx.post(f"{started.address}/v1/predict", content=picture(), timeout=PATIENCE)
        assert response.status_code == 500
        assert "secret" not in response.text
        assert "/secret/model.onnx" in capsys.readouterr().err
    finally:
        started.stop()


@pytest.mark.slow
def test_a_thousand_requests_made_from_its_own_description_fail_nothing(run, tmp_path):
    pytest.importorskip("schemathesis")
    from benchmarks.fuzz_server import fuzz

    started = Running(run, store=PictureStore(tmp_path / "kept", 1_000_000))
    try:
        outcome = fuzz(started.address, n=1000, seed=0)
        assert outcome["failures"] == []
        assert outcome["n"] >= 900  # of some paths, not so many different requests can be made
        assert {"200", "400", "404", "422"} <= set(outcome["statuses"])
        assert answers(started)
    finally:
        started.stop()


def test_a_reset_connection_is_no_error_of_the_server(running, connect, capsys):
    for _ in range(5):
        connection = connect()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close with a reset
        connection.sendall(head("Content-Length: 1000") + b"x")
        connection.close()
    assert answers(running)
    assert "Traceback" not in capsys.readouterr().err
