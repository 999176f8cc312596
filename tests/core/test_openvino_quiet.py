"""OpenVINO is loaded without its converter, which reports to its makers and writes into the home folder."""

import os
import subprocess
import sys

import pytest

from tellapart.core.openvino_quiet import has_openvino

LOAD = """
import sys, socket
def refuse(event, details):
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise SystemExit(f"{event} {details}")
sys.addaudithook(refuse)
from tellapart.core.openvino_quiet import load_openvino
openvino = load_openvino()
openvino.Core()
assert load_openvino() is openvino
print([name for name in sys.modules if "telemetry" in name or "ovc" in name])
"""


@pytest.mark.slow
@pytest.mark.skipif(not has_openvino(), reason="OpenVINO is not installed")
def test_openvino_reports_nothing_and_writes_nothing(tmp_path):
    environment = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", LOAD], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "[]", "")
    assert list(tmp_path.iterdir()) == []
