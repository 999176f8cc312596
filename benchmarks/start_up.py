"""Start-up: `--help`, and `predict` on one picture, each from a cold process; and `scan` on one thread and on two.

`scan` is timed twice: as a command, start-up included, and as the call itself.

TELLAPART_TEST_DATA=… python -m benchmarks.start_up RUN_DIRECTORY
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import tellapart as ta
from benchmarks import record


def seconds(*arguments: str) -> float:
    start = time.monotonic()
    subprocess.run([sys.executable, "-m", "tellapart", *arguments], check=True, stdout=subprocess.DEVNULL)
    return round(time.monotonic() - start, 3)


def scan_seconds(folder: Path, workers: int) -> float:
    start = time.monotonic()
    ta.scan(folder, workers=workers)
    return round(time.monotonic() - start, 3)


def main() -> None:
    run = sys.argv[1]
    fruit = Path(os.environ["TELLAPART_TEST_DATA"]) / "fruit"
    picture = str(next((fruit / "cherry").iterdir()))
    helped, predicted, one, two = [], [], [], []
    call_one, call_two = [], []
    scan_seconds(fruit, 1)  # the files are in the disk's cache from here on
    for _ in range(5):  # in turn, so that a slow moment of the machine hits all alike
        helped.append(seconds("--help"))
        predicted.append(seconds("predict", run, picture))
        one.append(seconds("scan", str(fruit), "--quiet", "--workers", "1"))
        two.append(seconds("scan", str(fruit), "--quiet", "--workers", "2"))
        call_one.append(scan_seconds(fruit, 1))
        call_two.append(scan_seconds(fruit, 2))
    figures = {"help_s": helped, "predict_one_s": predicted, "scan_1_thread_s": one, "scan_2_threads_s": two}
    figures |= {"scan_call_1_thread_s": call_one, "scan_call_2_threads_s": call_two}
    figures["scan_command_ratio"] = [round(a / b, 3) for a, b in zip(one, two, strict=True)]
    figures["scan_call_ratio"] = [round(a / b, 3) for a, b in zip(call_one, call_two, strict=True)]
    record.write("start_up", {name: record.spread(values) for name, values in figures.items()})


if __name__ == "__main__":
    main()
