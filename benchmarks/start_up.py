"""Start-up: `--help`, and `predict` on one picture, each from a cold process; and `scan` on one thread and on two.

`predict` is timed beside importing the libraries that it cannot do without, in seconds of processor time too, which
other programs hardly change. `scan` is timed twice: as a command, start-up included, and as the call itself.

TELLAPART_TEST_DATA=… python -m benchmarks.start_up RUN_DIRECTORY [--fastai PYTHON]
TELLAPART_TEST_DATA=… python -m benchmarks.start_up RUN_DIRECTORY --before FOLDER/src

PYTHON is that of an environment with fastai, whose `load_learner` and first answer are timed too, in turn.
The second form is for a busy machine: processor time alone, beside the same command of an older source, in turn.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import tellapart as ta
from benchmarks import record

FASTAI = Path(__file__).parent / "start_up_fastai.py"
LIBRARIES = "import numpy, PIL.Image, simplejpeg, onnxruntime"


def seconds(*arguments: str, source: str = "", python: str = sys.executable) -> tuple[float, float]:
    """Seconds by the clock, and of the processors, of a Python process."""
    environment = {**os.environ, "PYTHONPATH": source} if source else None
    start = time.monotonic()
    child = subprocess.Popen([python, *arguments], stdout=subprocess.DEVNULL, env=environment)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed")
    return round(time.monotonic() - start, 3), round(used.ru_utime + used.ru_stime, 3)


def command_seconds(*arguments: str) -> float:
    return seconds("-m", "tellapart", *arguments)[0]


def scan_seconds(folder: Path, workers: int) -> float:
    start = time.monotonic()
    ta.scan(folder, workers=workers)
    return round(time.monotonic() - start, 3)


def processor_time(predict: tuple[str, ...], before: str) -> None:
    """Processor seconds of a first answer: now, before, with options, and of its libraries alone; in turn."""
    found: dict[str, list[float]] = {}
    for number in range(10):
        times = {"now": seconds(*predict)[1], "before": seconds(*predict, source=before)[1]}
        times |= {"with_options": seconds(*predict, "--top", "2")[1], "libraries": seconds("-c", LIBRARIES)[1]}
        for name, value in times.items() if number else ():  # the first round writes bytecode
            found.setdefault(name, []).append(value)
    found["now_to_before"] = [round(a / b, 3) for a, b in zip(found["now"], found["before"], strict=True)]
    load = [round(value, 1) for value in os.getloadavg()]
    figures = {name: record.spread(values) for name, values in found.items()}
    record.write("start_up_processor", {**figures, "load_average": load})


def main() -> None:
    run = sys.argv[1]
    fruit = Path(os.environ["TELLAPART_TEST_DATA"]) / "fruit"
    picture = str(next((fruit / "cherry").iterdir()))
    predict = ("-m", "tellapart", "predict", run, picture)
    if "--before" in sys.argv:
        processor_time(predict, sys.argv[sys.argv.index("--before") + 1])
        return
    fastai = sys.argv[sys.argv.index("--fastai") + 1] if "--fastai" in sys.argv else ""
    with tempfile.TemporaryDirectory() as folder:
        learner = str(Path(folder) / "learner.pkl")
        if fastai:
            seconds(str(FASTAI), "write", str(fruit), learner, python=fastai)
        measure(predict, fruit, ("answer", picture, learner) if fastai else (), fastai)


def measure(predict: tuple[str, ...], fruit: Path, theirs: tuple[str, ...], fastai: str) -> None:
    """All of it in turn, and written down."""
    found: dict[str, list[float]] = {}
    scan_seconds(fruit, 1)  # the files are in the disk's cache from here on
    seconds(*predict)
    for _ in range(5):  # in turn, so that a slow moment of the machine hits all alike
        times = {"help_s": command_seconds("--help")}
        times["predict_one_s"], times["predict_one_cpu_s"] = seconds(*predict)
        times["libraries_s"], times["libraries_cpu_s"] = seconds("-c", LIBRARIES)
        times["predict_with_options_s"], times["predict_with_options_cpu_s"] = seconds(*predict, "--top", "2")
        if theirs:
            times["fastai_s"], times["fastai_cpu_s"] = seconds(str(FASTAI), *theirs, python=fastai)
        for name, workers in (("1_thread", 1), ("2_threads", 2)):
            times[f"scan_{name}_s"] = command_seconds("scan", str(fruit), "--quiet", "--workers", str(workers))
            times[f"scan_call_{name}_s"] = scan_seconds(fruit, workers)
        for name, value in times.items():
            found.setdefault(name, []).append(value)
    pairs = {
        "scan_command_ratio": ("scan_1_thread_s", "scan_2_threads_s"),
        "scan_call_ratio": ("scan_call_1_thread_s", "scan_call_2_threads_s"),
        "predict_to_libraries_cpu_ratio": ("predict_one_cpu_s", "libraries_cpu_s"),
    }
    if theirs:
        pairs["fastai_to_predict_ratio"] = ("fastai_s", "predict_one_s")
    for name, (one, other) in pairs.items():
        found[name] = [round(a / b, 3) for a, b in zip(found[one], found[other], strict=True)]
    load = [round(value, 1) for value in os.getloadavg()]
    figures = {name: record.spread(values) for name, values in found.items()}
    record.write("start_up", {**figures, "load_average": load})


if __name__ == "__main__":
    main()
