"""A server that is full refuses before it reads a request, and whoever was refused may go on at the same connection."""

import re
import socket

import pytest

from tests.web.serve.conftest import Running, picture
from tests.web.serve.test_abuse import PATIENCE, answers, head, wait_until


@pytest.fixture
def full(run):
    """A server that takes no picture until it is told to."""
    started = Running(run)
    most, started.served.batches.most_waiting = started.served.batches.most_waiting, 0
    yield started, most
    started.stop()


def response(connection):
    """Status and headers of a response, which is read whole."""
    content = b""
    while b"\r\n\r\n" not in content:
        content += connection.recv(1) or pytest.fail("the connection was cut")
    length = int(re.search(rb"(?i)content-length: (\d+)", content)[1])
    while length:
        length -= len(connection.recv(length))
    return int(content.split()[1]), content.lower()


def test_a_full_server_refuses_on_headers_alone_and_passes_over_the_body(full):
    started, most = full
    body = picture()
    with socket.create_connection(("127.0.0.1", started.port), PATIENCE) as connection:
        connection.sendall(head("Content-Length: 1000000"))
        status, headers = response(connection)
        assert status == 429
        assert b"retry-after: 1" in headers
        assert b"connection: close" not in headers
        connection.sendall(b"x" * 1_000_000)
        (kept,) = started.server.server_state.connections
        wait_until(lambda: kept.deadline is None)  # the refused request's own would cut the next one
        assert kept.timeout_keep_alive_task is not None
        started.served.batches.most_waiting = most
        connection.sendall(head(f"Content-Length: {len(body)}") + body)
        assert response(connection)[0] == 200
    assert answers(started)


def test_an_answer_goes_out_at_once(running):
    with socket.create_connection(("127.0.0.1", running.port), PATIENCE) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert response(connection)[0] == 200
        own = [c for c in list(running.server.server_state.connections) if c.client == connection.getsockname()]
        assert own[0].transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_whoever_waits_for_a_word_before_the_body_is_refused_and_cut(full):
    started, _ = full
    with socket.create_connection(("127.0.0.1", started.port), PATIENCE) as connection:
        connection.sendall(head("Content-Length: 1000000\r\nExpect: 100-continue"))
        status, headers = response(connection)
        assert status == 429
        assert b"connection: close" in headers
        assert connection.recv(1) == b""
