"""A connection to Ray: nobody else reaches one that starts here, and what fails is said in words."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tellapart.cluster import connect
from tellapart.errors import ClusterError, MissingExtraError, UsageError
from tests.cluster.conftest import descendants, listening

# 127.0.0.1, and the same as an IPv6 address, in the byte order of /proc/net.
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that takes connections and says nothing."""
    server = socket.create_server(("127.0.0.1", 0))
    taken: list[socket.socket] = []

    def take() -> None:
        while True:
            try:
                taken.append(server.accept()[0])
            except OSError:
                return

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    yield server.getsockname()[1]
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()
    for connection in taken:
        connection.close()


@pytest.mark.parametrize(
    "address", ["", "host", "host:", "host:0", "host:99999", "ray://", "ray://h:x", "http://h:1/x"]
)
def test_what_is_no_address_is_refused(address):
    with pytest.raises(UsageError, match="no address"), connect.connected(address):
        pass


@pytest.mark.slow
def test_an_address_that_nobody_listens_at_is_an_error_in_words():
    pytest.importorskip("ray")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    refused = pytest.raises(ClusterError, match=rf"answers at 127.0.0.1:{port}: Connection refused")
    with refused, connect.connected(f"127.0.0.1:{port}"):
        pass


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    named = pytest.raises(MissingExtraError, match="--cluster needs the package 'ray'")
    with named as error, connect.connected("auto"):
        pass
    assert "tellapart[cluster]" in error.value.hint
    assert "RAY_AUTH_TOKEN" not in os.environ


@pytest.mark.slow
def test_what_listens_and_is_no_ray_is_an_error_in_words(silent, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setattr(connect, "_ANSWER", 3.0)
    with pytest.raises(ClusterError, match="does not answer as Ray does"), connect.connected(f"127.0.0.1:{silent}"):
        pass


@pytest.mark.slow
def test_nothing_listens_but_on_this_machine(small_ray):
    import ray

    assert small_ray.n_nodes == 1
    assert small_ray.n_cpus == 2
    pids = ray.get([ray.remote(lambda: os.getpid()).remote() for _ in range(2)])
    family = descendants(os.getpid())
    assert set(pids) < family
    assert len(listening(family)) > 0
    assert listening(family) <= LOOPBACK


@pytest.mark.slow
def test_what_fails_on_a_worker_is_one_sentence_with_its_node(small_ray, capfd):
    import ray

    from tellapart.cluster.failures import failures_in_words
    from tellapart.errors import DataError

    def fails() -> None:
        raise ValueError("no such thing\nsecond line")

    def is_told() -> None:
        raise DataError("The table is empty.", "Give another.")

    def dies() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    name = socket.gethostname()
    for function, words in (
        (fails, f"A worker on {name} failed: ValueError: no such thing."),
        (is_told, f"Worker on {name}: The table is empty."),
        (dies, "A worker died."),
    ):
        with pytest.raises(ClusterError) as error, failures_in_words():
            ray.get(ray.remote(max_retries=0)(function).remote())
        assert error.value.message == words
    assert capfd.readouterr() == ("", "")  # Ray would tell the standard output of the worker that died
    with pytest.raises(ZeroDivisionError), failures_in_words():  # what is not Ray's stays what it is
        raise ZeroDivisionError


@pytest.mark.slow
def test_a_ray_that_was_started_ends_with_its_process(tmp_path):
    """Even if that is killed; and no token is left in the home folder.

    Ray's agents, which run nothing of ours, look for its end for a minute.
    """
    pytest.importorskip("ray")
    code = """
import os, time
from tellapart.cluster.connect import connected
with connected("auto", n_cpus=1) as cluster:
    print(cluster.logs.parent.resolve(), flush=True)
    time.sleep(600)
"""
    environment = {**os.environ, "HOME": str(tmp_path), "TMPDIR": "/tmp"}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment) as program:
        assert program.stdout is not None
        assert "tellapart-ray-" in program.stdout.readline()
        names = {pid: Path(f"/proc/{pid}/cmdline").read_text() for pid in descendants(program.pid) - {program.pid}}
        program.kill()
    family = {pid for pid, name in names.items() if "Agent" not in name}
    assert len(family) > 2
    assert {pid for pid in family if _ends(pid)} == family
    assert list(tmp_path.iterdir()) == []


def _ends(pid: int) -> bool:
    """Wait for the end of a process that is no child of ours."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    import select

    try:
        return bool(select.select([handle], [], [], 60)[0])
    finally:
        os.close(handle)
