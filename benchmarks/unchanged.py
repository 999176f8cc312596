"""Whether two checkouts train the same networks, to the bit: run before and after a change that must not change any.

TELLAPART_TEST_DATA=… TELLAPART_WEIGHTS=… python -m benchmarks.unchanged record OLD before.json
TELLAPART_TEST_DATA=… TELLAPART_WEIGHTS=… python -m benchmarks.unchanged compare before.json NEW

OLD and NEW are checkouts with a `.venv` of their own (`make setup`). `compare` takes a checkout or a recorded file on
either side, and exits with 1 where anything differs. Both sides must be run on one machine with equal libraries: sums
in another order have other bits. Three trainings are compared:

demo      what `make demo` trains
transfer  recipe transfer on 120 pictures of fruit
resumed   a network from scratch on the same pictures, stopped by Ctrl-C and gone on with

Each begins with an empty cache, on two threads, and with a runtime that is named, since a measured one may be another.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

RUNTIME = ["--runtime", "cpu,float32,contiguous"]
N_OF_CLASS = 40
N_THREADS = "2"
#: `examples/digits.py` names no runtime; its training is told one here, and its answers are left out.
DEMO = f"""
import sys
sys.path.insert(0, sys.argv[1])
import digits
run = digits.tellapart
digits.tellapart = lambda *words: run(*words, *{RUNTIME}) if words[0] == "train" else 0
sys.exit(digits.main())
"""
Digests = dict[str, dict[str, str]]


def train_demo(checkout: Path, folder: Path) -> Path:
    """What `make demo` trains, on the digits that it writes."""
    call(checkout, folder, [python(checkout), "-c", DEMO, str(checkout / "examples")])
    return folder / "demo" / "run"


def train_transfer(checkout: Path, folder: Path) -> Path:
    """Recipe transfer on the pictures of fruit."""
    # By name, since the default is not the same in all versions.
    call(checkout, folder, training(checkout, folder, "transfer", "model.name=mobilenetv2_100"))
    return folder / "run"


def train_resumed(checkout: Path, folder: Path) -> Path:
    """A training from scratch that gets Ctrl-C after its second epoch, and the same command again."""
    changes = ["data.size=48", "stages.0.epochs=6", "stages.0.batch_size=16"]
    command = training(checkout, folder, "scratch", *changes)
    events = folder / "run" / "events.jsonl"
    process = subprocess.Popen(command, cwd=folder, env=environment(folder), stdout=subprocess.DEVNULL)
    while process.poll() is None:
        if events.exists() and events.read_text(encoding="utf-8").count('"event": "Validated"') >= 2:
            process.send_signal(signal.SIGINT)
            break
        time.sleep(0.01)
    if process.wait() == 0 or (folder / "run" / "bundle").exists():
        sys.exit(f"The training in {checkout} ended before it could be stopped.")
    call(checkout, folder, command)
    return folder / "run"


TRAININGS: dict[str, Callable[[Path, Path], Path]] = {
    "demo": train_demo,
    "transfer": train_transfer,
    "resumed": train_resumed,
}


def training(checkout: Path, folder: Path, recipe: str, *changes: str) -> list[str]:
    """The command of a training on the first 40 pictures of each kind of fruit, which it copies."""
    for kind in sorted((Path(os.environ["TELLAPART_TEST_DATA"]) / "fruit").iterdir()):
        if kind.is_dir():
            (folder / "fruit" / kind.name).mkdir(parents=True)
            for picture in sorted(kind.glob("*.jpg"))[:N_OF_CLASS]:
                shutil.copy(picture, folder / "fruit" / kind.name)
    program = str(checkout / ".venv" / "bin" / "tellapart")
    sets = [word for change in changes for word in ("--set", change)]
    return [program, "train", "fruit", "--recipe", recipe, *sets, "--out", "run", *RUNTIME, "--quiet"]


def call(checkout: Path, folder: Path, command: list[str]) -> None:
    """Run a command in the folder; its output is shown only where it fails."""
    done = subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, encoding="utf-8")
    if done.returncode:
        sys.exit(f"{checkout}: {' '.join(command)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")


def environment(folder: Path) -> dict[str, str]:
    """An empty cache, and equal numbers of threads."""
    return {**os.environ, "TELLAPART_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": N_THREADS}


def python(checkout: Path) -> str:
    """The checkout's own interpreter, once it is sure that it runs the checkout's own code."""
    program = str(checkout / ".venv" / "bin" / "python")
    source = subprocess.run(
        [program, "-c", "import tellapart; print(tellapart.__file__)"], capture_output=True, encoding="utf-8", cwd="/"
    ).stdout.strip()
    if not source or not Path(source).is_relative_to(checkout):
        sys.exit(f"{checkout}/.venv runs {source or 'no Tellapart'}: `make setup` there.")
    return program


def digests(run: Path) -> dict[str, str]:
    """SHA-256 of what must stay of a finished run."""
    split = json.loads((run / "split.json").read_text(encoding="utf-8"))
    parts = {part: split[part] for part in ("train", "validation", "test")}
    named = {"weights": weights(run / "bundle" / "model.safetensors"), "split": digest(json.dumps(parts).encode())}
    for on in ("validation", "test"):
        named[f"predictions on {on}"] = predictions(run / "predictions" / f"{on}.parquet")
    return named


def weights(path: Path) -> str:
    """Of all tensors: type, shape and bytes, in an order that does not depend on their names, which may change."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header, values = json.loads(content[8 : 8 + length]), content[8 + length :]
    header.pop("__metadata__", None)
    lines = []
    for tensor in header.values():
        begin, end = tensor["data_offsets"]
        lines.append(f"{tensor['dtype']} {tensor['shape']} {digest(values[begin:end])}")
    return digest("\n".join(sorted(lines)).encode())


def predictions(path: Path) -> str:
    """Of row numbers, targets and logits; how the file is written does not count."""
    table = pl.read_parquet(path)
    columns = [np.ascontiguousarray(table[name].to_numpy()) for name in ("row", "target", "logits")]
    return digest(b"".join(column.tobytes() for column in columns))


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def record(checkout: Path, names: list[str]) -> Digests:
    """Run the trainings in a checkout."""
    python(checkout)
    recorded = {}
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            started = time.monotonic()
            recorded[name] = digests(TRAININGS[name](checkout, Path(folder)))
            print(f"{checkout}: {name} took {time.monotonic() - started:.0f} s", file=sys.stderr)
    return recorded


def digests_of(path: Path, names: list[str]) -> Digests:
    """What was recorded in a file, or what a checkout gives now."""
    if path.is_dir():
        return record(path.resolve(), names)
    recorded: Digests = json.loads(path.read_text(encoding="utf-8"))
    return {name: recorded[name] for name in names}


def compare(before: Digests, after: Digests) -> bool:
    """Print both, and whether they are the same."""
    same = True
    for training_name in sorted(before.keys() | after.keys()):
        old, new = before.get(training_name, {}), after.get(training_name, {})
        for name in sorted(old.keys() | new.keys()):
            equal = old.get(name) == new.get(name)
            same &= equal
            print(f"{training_name:9} {name:26} {'same' if equal else 'DIFFERENT'}")
            print("".join(f"    {side.get(name, 'missing')}\n" for side in ([old] if equal else [old, new])), end="")
    return same


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=TRAININGS, action="append", help="some of the trainings; by default all")
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record", help="run a checkout and write the digests")
    recording.add_argument("checkout", type=Path)
    recording.add_argument("file", type=Path)
    comparing = commands.add_parser("compare", help="compare two checkouts, or files that were recorded")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    arguments: Any = parser.parse_args()
    names = arguments.only or list(TRAININGS)
    if arguments.command == "record":
        recorded = record(arguments.checkout.resolve(), names)
        arguments.file.write_text(json.dumps(recorded, indent=1) + "\n", encoding="utf-8")
        return 0
    same = compare(digests_of(arguments.before, names), digests_of(arguments.after, names))
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
