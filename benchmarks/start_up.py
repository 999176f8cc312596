"""Start-up: `--help`, and `predict` on one picture, each from a cold process; and `scan` on one thread and on all.

TELLAPART_TEST_DATA=… python benchmarks/start_up.py RUN_DIRECTORY
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import record


def seconds(*arguments: str) -> float:
    start = time.monotonic()
    subprocess.run([sys.executable, "-m", "tellapart.cli", *arguments], check=True, stdout=subprocess.DEVNULL)
    return round(time.monotonic() - start, 3)


def main() -> None:
    run = sys.argv[1]
    fruit = Path(os.environ["TELLAPART_TEST_DATA"]) / "fruit"
    picture = str(next((fruit / "cherry").iterdir()))
    helped, predicted, one, two = [], [], [], []
    for _ in range(5):  # in turn, so that a slow moment of the machine hits all alike
        helped.append(seconds("--help"))
        predicted.append(seconds("predict", run, picture))
        one.append(seconds("scan", str(fruit), "--quiet", "--workers", "1"))
        two.append(seconds("scan", str(fruit), "--quiet", "--workers", "2"))
    ratios = [round(a / b, 3) for a, b in zip(one, two, strict=True)]
    figures = {"help_s": helped, "predict_one_s": predicted, "scan_1_thread_s": one, "scan_2_threads_s": two}
    figures["scan_ratio_1_to_2_threads"] = ratios
    record.write("start_up", {name: record.spread(values) for name, values in figures.items()})


if __name__ == "__main__":
    main()
