"""A small real Ray for the tests of a process, several nodes of one, and who listens where. For slow tests."""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster as Nodes

    from tellapart.cluster.connect import Cluster

#: What keeps nodes that a test starts on 127.0.0.1, as `connect` does.
PRIVATE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token"}
LISTENS = "0A"  # the state of a socket in /proc/net/tcp


@pytest.fixture(scope="session")
def small_ray() -> Iterator[Cluster]:
    """A Ray of two processors, connected as `--cluster auto` does, for all tests of this process."""
    pytest.importorskip("ray")
    from tellapart.cluster.connect import connected

    with connected("auto", n_cpus=2) as cluster:
        yield cluster


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Nodes]]:
    """A maker of clusters of several nodes, which are processes here. Programs that a test starts may join them.

    This process does not: it may have `small_ray`. So a test runs `tellapart … --cluster ADDRESS`.
    """
    pytest.importorskip("ray")
    from tellapart.cluster.connect import own_token

    for name, value in {**PRIVATE, "RAY_AUTH_TOKEN": own_token()}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("ray._private.ray_constants.ENABLE_RAY_CLUSTER", False)  # read when Ray was imported
    from ray._raylet import Config
    from ray.cluster_utils import Cluster

    Config.initialize("")  # it reads the environment once, and that was when Ray was imported
    started: list[Nodes] = []

    def make(n: int, **of_the_head: Any) -> Nodes:
        small: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}
        started.append(Cluster(initialize_head=True, head_node_args={**small, **of_the_head}))
        for number in range(1, n):
            started[-1].add_node(**small, node_name=f"node-{number}")
        started[-1].wait_for_nodes()
        return started[-1]

    yield make
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # Ray leaves the logs of its client server open
        while started:
            started.pop().shutdown()
        gc.collect()


def listening(pids: set[int]) -> set[str]:
    """The addresses, as in /proc/net/tcp and tcp6, that these processes listen on."""
    sockets = {inode for pid in pids for inode in _sockets(pid)}
    rows = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{name}").read_text(encoding="ascii").splitlines()[1:]
    ]
    return {row[1].partition(":")[0] for row in rows if row[3] == LISTENS and row[9] in sockets}


def _sockets(pid: int) -> set[str]:
    links = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            links.add(os.readlink(entry))
        except OSError:
            continue  # closed meanwhile
    return {link.removeprefix("socket:[").removesuffix("]") for link in links if link.startswith("socket:")}


def descendants(pid: int) -> set[int]:
    """A process, its children and theirs."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = (folder / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue  # ended meanwhile
        parents[int(folder.name)] = int(status.rpartition(")")[2].split()[1])
    family = {pid}
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    return family
