"""Three ways to cut random crops of kept pictures with one worker and with two, in turn.

* threads, one by one: a picture is drawn, cut and mirrored, then the next;
* threads, together: all is drawn first, then one call that holds no lock cuts sixteen crops;
* processes, together: the same in processes that share the kept pictures and the memory for the crops.

A turn takes a fraction of a second. `times with two` counts where the workers waited for a processor for less than a
twentieth of the time, as Linux counts it: on a busy machine two workers seldom run at once, and then no lock is in
anybody's way. Where there was no such turn, it is left out.

OMP_NUM_THREADS=1 TELLAPART_TEST_DATA=… python -m benchmarks.crop_ways [--pictures 320] [--rounds 9] [--minutes 10]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt
import torch

import tellapart as ta
from benchmarks import record
from tellapart.core.hardware import keep_freed
from tellapart.core.preprocess import Pixels, Preprocessing
from tellapart.recipe.transforms import HorizontalFlip, RandomResizedCrop
from tellapart.training.dataset import Dataset
from tellapart.training.pixels import Crops, augmented, from_cache

SIDE, TOGETHER, EPOCHS = 224, 16, 2
MOST_WAITING = 0.05
_MOST = 25  # figures of a kind that are written down


@dataclass(frozen=True)
class Spent:
    """A worker's seconds: by the clock, on a processor, and waiting for one."""

    clock: float
    busy: float
    queued: float


def queued() -> float:
    """Seconds that this thread has waited for a processor."""
    path = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")
    return int(path.read_text().split()[1]) / 1e9


def spent(work: Callable[[], None]) -> Spent:
    """What a worker's thread spends on its work."""
    torch.set_num_threads(1)
    clock, busy, before = time.perf_counter(), time.thread_time(), queued()
    work()
    return Spent(time.perf_counter() - clock, time.thread_time() - busy, queued() - before)


def in_threads(works: list[Callable[[], None]]) -> list[Spent]:
    found: list[Spent] = []
    threads = [threading.Thread(target=lambda work=work: found.append(spent(work))) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def in_processes(works: list[Callable[[], None]]) -> list[Spent]:
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    processes = [context.Process(target=lambda work=work: queue.put(spent(work))) for work in works]
    for process in processes:
        process.start()
    found = [queue.get() for _ in works]
    for process in processes:
        process.join()
    return found


def one_by_one(load: Crops, rows: npt.NDArray[np.int64], out: Pixels) -> None:
    for _ in range(EPOCHS):
        for index, row in enumerate(rows.tolist()):
            out[index] = load(row)


def together(load: Crops, rows: npt.NDArray[np.int64], out: Pixels) -> None:
    for _ in range(EPOCHS):
        for start in range(0, len(rows), TOGETHER):
            if not load.fill(rows[start : start + TOGETHER], out[start : start + TOGETHER]):
                raise SystemExit("The pictures are not kept.")


WAYS = {
    "threads, one by one": (in_threads, one_by_one),
    "threads, together": (in_threads, together),
    "processes, together": (in_processes, together),
}


def kept(folder: Path, n: int) -> tuple[Crops, npt.NDArray[np.int64]]:
    """What makes crops of n pictures, which are kept."""
    catalog = ta.scan(folder)
    rows = catalog.readable[np.linspace(0, len(catalog.readable) - 1, n).astype(int)]
    transforms = [RandomResizedCrop(), HorizontalFlip(probability=0.5)]
    dataset = Dataset(catalog, rows, rows[:1], Preprocessing(SIDE, SIDE, interpolation="bilinear"), transforms, 0)
    reader = from_cache(dataset)
    for _ in range(2):  # made and written, then read and checked
        for row in rows.tolist():
            reader.source(row)
        reader.flush()
    load = augmented(dataset, 1, reader)
    assert isinstance(load, Crops)
    return load, rows


def turn(name: str, load: Crops, rows: npt.NDArray[np.int64], out: Pixels) -> dict[str, float]:
    """One worker, then two; the processor's time alone where the machine was busy."""
    run, way = WAYS[name]
    found: dict[str, float] = {}
    rates, quiet = [], True
    for workers in (1, 2):
        parts = zip(np.array_split(rows, workers), np.array_split(out, workers), strict=True)
        each = run([partial(way, load, part, crops) for part, crops in parts])
        quiet &= sum(one.queued for one in each) <= MOST_WAITING * sum(one.clock for one in each)
        rates.append(EPOCHS * len(rows) / max(one.clock for one in each))
        busy = sum(one.busy for one in each)
        found[f"{name}, {workers}: us of the processor a picture"] = 1e6 * busy / EPOCHS / len(rows)
    return {**found, f"{name}: times with two": rates[1] / rates[0]} if quiet else found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=int, default=320)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--minutes", type=float, default=10)
    asked = parser.parse_args()
    keep_freed()
    found: dict[str, list[float]] = {}
    tries, quiet = 0, dict.fromkeys(WAYS, 0)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["TELLAPART_CACHE"] = scratch
        load, rows = kept(Path(os.environ["TELLAPART_TEST_DATA"]) / "fruit", asked.pictures)
        out = torch.empty((len(rows), SIDE, SIDE, 3), dtype=torch.uint8).share_memory_().numpy()
        end = time.monotonic() + 60 * asked.minutes
        while tries < asked.rounds or (min(quiet.values()) < asked.rounds and time.monotonic() < end):
            tries += 1
            for name in WAYS:
                time.sleep(0.05)
                for key, value in turn(name, load, rows, out).items():
                    found.setdefault(key, []).append(value)
                    quiet[name] += key.endswith("two")
    figures: dict[str, object] = {name: record.spread(values[:_MOST]) for name, values in found.items()}
    record.write("crop_ways", {"rounds": tries, "quiet rounds": quiet, **figures})


if __name__ == "__main__":
    main()
