"""onnxruntime is loaded in one way, which sends nothing."""

import re
import subprocess
import sys
from pathlib import Path

import tellapart
from tellapart.core.onnxruntime_quiet import load_onnxruntime

ROOT = Path(tellapart.__file__).parent


def test_whoever_needs_it_loads_it_in_this_way():
    importing = re.compile(r"^\s*(import|from) onnxruntime|import_module\(.onnxruntime", re.MULTILINE)
    texts = {path.name: path.read_text(encoding="utf-8") for path in ROOT.rglob("*.py")}
    names = {name for name, text in texts.items() if importing.search(text) and "load_onnxruntime()" not in text}
    assert names == set()


def test_it_is_quiet_here_and_in_what_is_started_from_here():
    load_onnxruntime()
    code = "import os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "1\n"
