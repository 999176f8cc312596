"""Clusters of several nodes, which are processes here: joined by address, cut off, with a full disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.conftest import descendants, listening
from tests.cluster.test_connect import LOOPBACK
from tests.cluster.test_predicting import bundle, pictures  # noqa: F401

# A node that says nothing is lost after two seconds, not after half a minute.
IMPATIENT = {"health_check_period_ms": 500, "health_check_timeout_ms": 1000, "health_check_failure_threshold": 2}


def words(bundle: Path, pictures: Path, out: Path) -> list[str]:  # noqa: F811
    first = [sys.executable, "-m", "tellapart", "predict", str(bundle), str(pictures)]
    return [*first, "--engine", "onnxruntime", "--out", str(out)]


@pytest.mark.slow
def test_a_node_that_is_cut_off_loses_nothing(here, bundle, pictures, nodes, tmp_path):  # noqa: F811
    """Its processes are stopped while it answers: they hold their connections, and say nothing any more."""
    cluster = nodes(2, _system_config=IMPATIENT)
    raylets = [node.all_processes["raylet"][0].process.pid for node in (cluster.head_node, *cluster.worker_nodes)]
    everything = {pid for raylet in raylets for pid in descendants(raylet)}
    assert listening(everything) <= LOOPBACK
    assert here(*words(bundle, pictures, tmp_path / "whole.csv")[3:]).returncode == 3
    out = tmp_path / "a.csv"
    command = [*words(bundle, pictures, out), "--cluster", cluster.address]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as program:
        assert program.stderr is not None
        assert any(line.startswith("Cluster: 2 nodes, 2 processors") for line in program.stderr)
        stopped = descendants(raylets[1])
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            rest = program.stderr.read()
            assert program.wait(120) == 3, rest
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGKILL)
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()


@pytest.mark.slow
def test_a_node_whose_disk_is_full_answers_too(here, bundle, pictures, nodes, tmp_path):  # noqa: F811
    """Workers write nothing: its cache and temporary folder take no byte, and Ray itself takes the disk for full."""
    cluster = nodes(1)
    full = {"TELLAPART_CACHE": "/dev/full", "TMPDIR": "/dev/full", "RAY_local_fs_capacity_threshold": "0.0"}
    cluster.add_node(num_cpus=1, object_store_memory=80 << 20, node_name="full", env_vars=full)
    cluster.wait_for_nodes()
    assert here(*words(bundle, pictures, tmp_path / "whole.csv")[3:]).returncode == 3
    done = subprocess.run(
        [*words(bundle, pictures, tmp_path / "a.csv"), "--cluster", cluster.address],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
