"""Time and memory of an audit, beside decoding the same pictures once: CIFAR-10 and copies of it.

The first copy of each picture is the file itself; further ones are the same file under another name. With --side the
pictures are enlarged first, since 32 × 32 pixels are decoded in less time than a file takes to open. Decoding and
audit run in processes of their own, in turn, several times, on the same number of threads. The ratio is that of the
processors' time, which other programs disturb less than the clock.

TELLAPART_TEST_DATA=… python -m benchmarks.audit_speed --n 100000
TELLAPART_TEST_DATA=… python -m benchmarks.audit_speed --n 10000 --side 300
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from benchmarks import record

DECODE = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tellapart.data.decoding.decode import decode
from tellapart.core.hardware import n_processors
paths = list(Path(sys.argv[1]).rglob("*.jpg"))
with ThreadPoolExecutor(n_processors()) as pool:
    parts = [paths[i : i + 32] for i in range(0, len(paths), 32)]
    for _ in pool.map(lambda part: [decode(path).shape for path in part], parts):
        pass
"""


def make(archive: Path, folder: Path, n: int, side: int | None) -> None:
    """The pictures in class folders, train and test together, and copies until there are n."""
    with tarfile.open(archive) as tar:
        tar.extractall(folder / "raw", filter="data")
    files = sorted((folder / "raw").rglob("*.jpg"))

    def put(number: int) -> None:
        file = files[number % len(files)]
        out = folder / "pictures" / file.parent.name / f"{number:06}.jpg"
        if side is None:
            shutil.copyfile(file, out)
        else:
            Image.open(file).resize((side, side), Image.Resampling.BICUBIC).save(out, quality=90)

    for file in {file.parent.name for file in files}:
        (folder / "pictures" / file).mkdir(parents=True)
    with ThreadPoolExecutor() as pool:
        list(pool.map(put, range(n)))
    shutil.rmtree(folder / "raw")


def timed(command: list[str], environment: dict[str, str]) -> tuple[float, float, int]:
    """Seconds by the clock, of the processors, and the largest memory of any child so far in bytes."""
    start, before = time.monotonic(), processor_seconds()
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return time.monotonic() - start, processor_seconds() - before, memory


def processor_seconds() -> float:
    """Of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--side", type=int)
    parser.add_argument("--times", type=int, default=3)
    given = parser.parse_args()
    decoding: list[tuple[float, float]] = []
    auditing: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(Path(os.environ["TELLAPART_TEST_DATA"]) / "cifar10.tar.gz", folder, given.n, given.side)
        pictures = str(folder / "pictures")
        for turn in range(given.times):
            environment = {**os.environ, "TELLAPART_CACHE": str(folder / f"cache{turn}")}
            decoding.append(timed([sys.executable, "-c", DECODE, pictures], environment)[:2])
            command = [
                sys.executable,
                "-m",
                "tellapart",
                "audit",
                pictures,
                "--out",
                str(folder / "out"),
                "--quiet",
            ]
            *seconds, memory = timed(command, environment)
            auditing.append((seconds[0], seconds[1]))
    ratios, by_clock = (
        [audit[i] / decode[i] for audit, decode in zip(auditing, decoding, strict=True)] for i in (1, 0)
    )
    figures = {
        "n": given.n,
        "side": given.side or 32,
        "decoding_seconds": record.spread([round(clock, 1) for clock, _ in decoding]),
        "audit_seconds": record.spread([round(clock, 1) for clock, _ in auditing]),
        "decoding_processor_seconds": record.spread([round(used, 1) for _, used in decoding]),
        "audit_processor_seconds": record.spread([round(used, 1) for _, used in auditing]),
        "ratio": round(statistics.median(ratios), 2),
        "ratio_by_the_clock": round(statistics.median(by_clock), 2),
        "memory_mb": round(memory / 1e6),
    }
    record.write(f"audit_speed_{given.side or 32}", figures)


if __name__ == "__main__":
    main()
