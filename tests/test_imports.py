"""Nothing happens at import: no module changes environment or signal handlers, or starts a thread."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tellapart

SOURCE = Path(tellapart.__file__).parent
IMPORT = """
import importlib, json, os, signal, sys, threading

def state():
    return {
        "environment": dict(os.environ),
        "handlers": {s.name: str(signal.getsignal(s)) for s in signal.Signals if s.value < 32},
        "threads": sorted(thread.name for thread in threading.enumerate()),
    }

names, others = json.loads(sys.argv[1]), json.loads(sys.argv[2])
for name in others:  # what other packages do when they are imported is not ours
    importlib.import_module(name)
before = state()
for name in names:
    importlib.import_module(name)
after = state()
print(json.dumps([key for key in before if before[key] != after[key]]))
"""
OTHERS = ["torch", "torchvision", "timm", "matplotlib.figure", "sklearn.linear_model", "onnxruntime", "polars", "rich"]


def changed_by(names: list[str], path: Path | None = None) -> Any:
    environment = {key: value for key, value in os.environ.items() if key != "GOMP_SPINCOUNT"}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    command = [sys.executable, "-c", IMPORT, json.dumps(names), json.dumps(OTHERS if path is None else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_importing_any_module_changes_nothing() -> None:
    pytest.importorskip("torch")
    paths = sorted(SOURCE.rglob("*.py"))
    names = [".".join(path.relative_to(SOURCE.parent).with_suffix("").parts) for path in paths]
    names = [name.removesuffix(".__init__") for name in names if not name.endswith("__main__")]
    assert len(names) > 100
    assert changed_by(names) == []


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("import os\nos.environ['ANY'] = '1'", "environment"),
        ("import signal\nsignal.signal(signal.SIGTERM, print)", "handlers"),
        ("import threading, time\nthreading.Thread(target=time.sleep, args=(1,), daemon=True).start()", "threads"),
    ],
)
def test_a_module_that_changes_something_is_noticed(tmp_path: Path, text: str, kind: str) -> None:
    (tmp_path / "noisy.py").write_text(text, encoding="utf-8")
    assert changed_by(["noisy"], tmp_path) == [kind]


TRAIN = """
import atexit, json, os, sys
import tellapart as ta
seen = {}

def watch(event, details):
    if event == "import" and details[0] == "torch":
        seen.setdefault("spin", os.environ.get("GOMP_SPINCOUNT"))

sys.addaudithook(watch)
atexit.register(lambda: print(json.dumps(seen)))
changes = ["model.name=mlp", "data.size=16", "stages.0.epochs=1"]
if sys.argv[1] == "library":
    ta.train(sys.argv[2], recipe="scratch", out=sys.argv[3], changes=changes, runtime="cpu,float32")
else:
    from tellapart.cli.main import main
    options = [word for change in changes for word in ("--set", change)]
    sys.argv[1:] = ["train", sys.argv[2], "--recipe", "scratch", "--out", sys.argv[3], "--runtime", "cpu", *options]
    sys.argv.append("--quiet")
    main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("way", ["library", "command"])
def test_a_training_limits_spinning_before_torch_is_loaded_and_shows_nothing_unasked(
    way: str, picture_folder: Any, tmp_path: Path
) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "GOMP_SPINCOUNT"}
    command = [sys.executable, "-W", "ignore", "-c", TRAIN, way, str(picture_folder(n=12)), str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"spin": "20000"}
    assert done.stderr == ""
    assert (tmp_path / "run" / "report.html").is_file()
