"""A cluster from outside, through its client server."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.cluster.test_nodes import words
from tests.cluster.test_predicting import bundle, pictures  # noqa: F401


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # Ray leaves the log of its server open
def test_rows_through_the_client_server_are_those_of_one_process(
    here,
    bundle: Path,  # noqa: F811
    pictures: Path,  # noqa: F811
    nodes,
    tmp_path: Path,
) -> None:
    from ray._common.network_utils import find_free_port

    port = find_free_port()
    nodes(1, ray_client_server_port=port)
    assert here(*words(bundle, pictures, tmp_path / "whole.csv")[3:]).returncode == 3
    command = [*words(bundle, pictures, tmp_path / "a.csv"), "--cluster", f"ray://127.0.0.1:{port}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
