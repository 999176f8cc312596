"""A connection to Ray: one that is started here and ends with the command, or a cluster that runs already."""

from __future__ import annotations

import functools
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from tellapart.cluster.failures import failures_in_words, one_line
from tellapart.core.extras import require
from tellapart.core.text import counted
from tellapart.errors import ClusterError, UsageError

AUTO = "auto"
CLIENT = "ray://"
_HINT = "Give --cluster auto, --cluster ray://HOST:10001, or the address HOST:PORT that `ray start --head` prints."
#: Seconds for the network to reach an address, and for Ray behind it to answer.
_REACH, _ANSWER = 10.0, 40.0
#: Bytes of Ray's object store: through Ray go paths and answers, never pictures.
_OBJECT_STORE = 256 << 20
#: Longest path of a folder whose sockets the system can still open: Ray's names take the rest of its 107 bytes.
_SHORT = 40
#: Of a Ray that starts here. Nobody else reaches it, and it reports to nobody. Read by its processes, and theirs.
_PRIVATE = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # on every system: the node's address is 127.0.0.1, so all listen there
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # else it tells the terminal what its makers alone understand
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # as Ray is going to do; it warns where nothing is said
    "GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo",  # of a training's workers
    "RAY_worker_niceness": "0",  # else workers yield to whatever else runs here, down to a fifteenth of a processor
}


@dataclass(frozen=True)
class Cluster:
    """What a connection reaches.

    Attributes:
        address: as it was asked for.
        n_nodes, n_cpus, n_gpus: when the connection was made.
        logs: folder of the logs of a Ray that was started here; None for a cluster that runs elsewhere.
    """

    address: str
    n_nodes: int
    n_cpus: int
    n_gpus: int
    logs: Path | None = None

    def in_words(self) -> str:
        """Its size, for people."""
        gpus = f", {counted(self.n_gpus, 'GPU')}" if self.n_gpus else ""
        return f"{counted(self.n_nodes, 'node')}, {counted(self.n_cpus, 'processor')}{gpus}"


@contextmanager
def connected(address: str, n_cpus: int | None = None, n_gpus: int | None = None) -> Iterator[Cluster]:
    """Within it, Ray is connected; what was started here has ended after it.

    A failure of a worker that comes out of it is a `ClusterError` in words. Where this process is connected to a Ray
    already, "auto" takes that, and leaves it running.

    Args:
        address: "auto" starts a Ray here, which listens on 127.0.0.1 alone and takes orders from this process alone;
            "ray://HOST:10001" goes over a cluster's client server; "HOST:PORT" joins a cluster that this machine is a
            node of.
        n_cpus, n_gpus: of a Ray that starts here; by default those of the machine.

    Raises:
        MissingExtraError: Ray is not installed.
        UsageError: the address is none.
        ClusterError: nothing answers there in time, or what answers is another Ray.
    """
    imported: Any = sys.modules.get("ray")
    if address == AUTO and imported is not None and imported.is_initialized():
        with failures_in_words():
            yield _described(imported, address)
        return
    if address == AUTO:
        with _started_here(n_cpus, n_gpus) as cluster, failures_in_words():
            yield cluster
        return
    host, port = _host_and_port(address)
    with _environment({name: _PRIVATE[name] for name in ("RAY_USAGE_STATS_ENABLED", "RAY_BACKEND_LOG_LEVEL")}):
        ray = require("ray", "--cluster", "cluster")
        _reach(address, host, port)
        with _quiet():
            _join(ray, address)
            try:
                with failures_in_words():
                    yield _described(ray, address)
            finally:
                ray.shutdown()


@contextmanager
def _started_here(n_cpus: int | None, n_gpus: int | None) -> Iterator[Cluster]:
    folder = _short_folder()
    try:
        # The token keeps other users of this machine out. Given in the environment, it is written to no file.
        with _environment({**_PRIVATE, "RAY_AUTH_TOKEN": own_token()}):
            ray = require("ray", "--cluster", "cluster")
            # As the environment says, for a program that imported Ray before.
            with _instead("ray._private.ray_constants", "ENABLE_RAY_CLUSTER", False), _quiet():
                try:
                    _start(ray, folder, n_cpus, n_gpus)
                    yield _described(ray, AUTO, folder / "session_latest" / "logs")
                finally:
                    ray.shutdown()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _quiet() -> AbstractContextManager[None]:
    """Ray tells the standard output of every worker that died, among our answers. What matters comes as an error."""
    return _instead("ray._private.worker", "print_to_stdstream", lambda *_args, **_options: None)


@contextmanager
def _no_word() -> Iterator[None]:
    """Send what Ray's C++ tells standard error nowhere: that it has a level of logging, which nobody asked."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@contextmanager
def _instead(module: str, name: str, value: object) -> Iterator[None]:
    """Replace what Ray has no option for."""
    owner = import_module(module)
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def _start(ray: Any, folder: Path, n_cpus: int | None, n_gpus: int | None) -> None:
    try:
        with _no_word():
            ray.init(
                address="local",
                num_cpus=n_cpus,
                num_gpus=n_gpus,
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE,
                log_to_driver=False,
                logging_level="ERROR",
                _temp_dir=str(folder),
            )
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise ClusterError(f"Ray does not start on this machine: {one_line(error)}.") from error
    if not ray.util.get_node_ip_address().startswith("127."):
        raise ClusterError(
            "Ray does not keep to 127.0.0.1 on this machine.",
            "Start a cluster by `ray start --head`, and give its address.",
        )


def _short_folder() -> Path:
    """A folder for Ray's sockets and logs that only this user can open."""
    base = tempfile.gettempdir()
    if len(base) > _SHORT and os.path.isdir("/tmp"):
        base = "/tmp"
    return Path(tempfile.mkdtemp(prefix="tellapart-ray-", dir=base))


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Give variables to Ray and the processes that it starts. What the user has set stays; what Ray sets goes."""
    before = set(os.environ)
    os.environ.update({name: value for name, value in values.items() if name not in before})
    try:
        yield
    finally:
        for name in set(os.environ) - before:
            if name in values or name.startswith("RAY_"):
                del os.environ[name]


@functools.cache
def own_token() -> str:
    """What a Ray that this process starts asks of whoever gives it orders; Ray reads it once a process."""
    return secrets.token_hex(32)


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.removeprefix(CLIENT).rpartition(":")
    if not host or "/" in host or not port.isascii() or not port.isdigit() or not 0 < int(port[:6]) < 65536:
        raise UsageError(f"{address!r} is no address of a Ray cluster.", _HINT)
    return host.strip("[]"), int(port)


def _reach(address: str, host: str, port: int) -> None:
    """Fail within bounded time where no Ray answers: its own client waits for minutes, and then ends the process."""
    try:
        socket.create_connection((host, port), timeout=_REACH).close()
    except OSError as error:
        reason = error.strerror or str(error) or "no answer"
        raise ClusterError(f"No Ray cluster answers at {address}: {reason}.", _HINT) from error
    if address.startswith(CLIENT):
        return  # whose client gives up by itself
    ask = "import sys; from ray._raylet import GcsClient; GcsClient(address=sys.argv[1])"
    command = [sys.executable, "-P", "-c", ask, f"{host}:{port}"]
    try:
        done = subprocess.run(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=_ANSWER, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ClusterError(
            f"What listens at {address} does not answer as Ray does: {_ANSWER:.0f} seconds passed.", _HINT
        ) from error
    if done.returncode:
        raise ClusterError(f"What listens at {address} does not answer as Ray does.", _HINT)


def _join(ray: Any, address: str) -> None:
    try:
        with _no_word(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the error says the same
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise ClusterError(f"The Ray cluster at {address} cannot be used: {one_line(error)}.", _HINT) from error


def _described(ray: Any, address: str, logs: Path | None = None) -> Cluster:
    resources = ray.cluster_resources()
    n_nodes = sum(node["Alive"] for node in ray.nodes())
    return Cluster(address, n_nodes, int(resources.get("CPU", 0)), int(resources.get("GPU", 0)), logs)
