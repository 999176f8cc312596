"""Pictures a second from disk to batches: random resized crop and flip at 224 pixels, and photographs of 12 megapixels.

From the second epoch: a folder of pictures through `data.loading.picture_cache` and `data.augmentation`, beside
torchvision's ImageFolder and DataLoader with the same two transforms (Pillow). In turn, so that a slow moment hits
both. Once as trainings run them, on all cores, with a thread or a process for each, by the clock; and once each on
one core, by the processor's time.
First epoch: photographs of 12 megapixels (made from the folder's pictures) to what is kept of them, beside decoding
them in full with Pillow, with and without bringing them to size; on one core, by the processor's time.

OMP_NUM_THREADS=1 TELLAPART_TEST_DATA=… python -m benchmarks.data_speed [--pictures 600] [--rounds 5]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from PIL import Image

import tellapart as ta
from benchmarks import record
from benchmarks.row_data import OURS, THEIRS, image_folder, kept_crops
from tellapart.core.preprocess import Preprocessing
from tellapart.data.loading.picture_cache import source, source_side
from tellapart.recipe.transforms import HorizontalFlip, RandomResizedCrop
from tellapart.training.runtime import default_workers

HOW = Preprocessing(224, 224, interpolation="bilinear")  # torchvision's default too
TRANSFORMS = [RandomResizedCrop(), HorizontalFlip(probability=0.5)]


def one_core() -> None:
    """Keep this process on one processor."""
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def rate(n: int, run: Callable[[], object]) -> float:
    """Pictures in a second of the core's time: other programs on it do not count."""
    start = time.process_time()
    run()
    return n / (time.process_time() - start)


def on_all_cores(folder: Path, n: int, rounds: int) -> dict[str, list[float]]:
    """From the second epoch, by the clock, a core."""
    catalog, cores = ta.scan(folder), default_workers()
    rows = catalog.readable[np.linspace(0, len(catalog.readable) - 1, n).astype(int)]
    ways = {OURS: kept_crops(catalog, rows, cores), THEIRS: image_folder(catalog, rows, cores)}
    found: dict[str, list[float]] = {}
    for number in range(rounds + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            next(way)
            if number:
                speed = n / (time.perf_counter() - start) / cores
                found.setdefault(f"all cores, {name}, pictures/s a core", []).append(speed)
    own, theirs = found.values()
    found["all cores, ratio"] = [a / b for a, b in zip(own, theirs, strict=True)]
    return found


def from_the_second_epoch(folder: Path, n: int, rounds: int) -> dict[str, list[float]]:
    catalog = ta.scan(folder)
    rows = catalog.readable[np.linspace(0, len(catalog.readable) - 1, n).astype(int)]
    ways = {f"{OURS}, pictures/s": kept_crops(catalog, rows), f"{THEIRS}, pictures/s": image_folder(catalog, rows)}
    found: dict[str, list[float]] = {}
    for number in range(rounds + 1):
        for name, way in ways.items():
            speed = rate(n, lambda way=way: next(way))
            if number:
                found.setdefault(name, []).append(speed)
            elif name.startswith(OURS):
                found["first epoch, pictures/s"] = [speed]
    found["ratio"] = [own / other for own, other in zip(*(found[name] for name in ways), strict=True)]
    return found


def first_epoch(folder: Path, scratch: Path, rounds: int) -> dict[str, list[float]]:
    torch.set_num_threads(1)
    side = source_side(TRANSFORMS, HOW)
    photos = []
    for number, path in enumerate(sorted(folder.rglob("*.jp*g"))[:: max(1, rounds)][:8]):
        photos.append(scratch / f"{number}.jpg")
        with Image.open(path) as picture:
            large = picture.convert("RGB").resize((4000, 3000), Image.Resampling.BICUBIC)
        grain = np.random.default_rng(number).normal(0, 4, (3000, 4000, 1))  # as a sensor has it
        Image.fromarray(np.clip(np.asarray(large) + grain, 0, 255).astype(np.uint8)).save(photos[-1], quality=90)

    def full(reduce: bool) -> None:
        for path in photos:
            with Image.open(path) as picture:
                pixels = picture.convert("RGB")
                if reduce:
                    pixels.resize((side * 4 // 3, side), Image.Resampling.BILINEAR)

    def ours() -> None:
        for path in photos:
            source(path, side, HOW)

    ways = {"Pillow, full": lambda: full(False), "Pillow, full, to size": lambda: full(True), "tellapart": ours}
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, way in ways.items():
            found.setdefault(f"12 megapixels, {name}, pictures/s", []).append(rate(len(photos), way))
    own = found["12 megapixels, tellapart, pictures/s"]
    for name in ("Pillow, full", "Pillow, full, to size"):
        pairs = zip(own, found[f"12 megapixels, {name}, pictures/s"], strict=True)
        found[f"12 megapixels, ratio to {name}"] = [a / b for a, b in pairs]
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    folder = Path(os.environ["TELLAPART_TEST_DATA"]) / "fruit"
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["TELLAPART_CACHE"] = f"{scratch}/cache"
        # Before the others, which have the process keep its memory, as trainings do: that would help Pillow here.
        found = first_epoch(folder, Path(scratch), asked.rounds)
        found |= on_all_cores(folder, asked.pictures, asked.rounds)
        one_core()
        found |= from_the_second_epoch(folder, asked.pictures, asked.rounds)
    record.write("data_speed", {name: record.spread(values) for name, values in found.items()})


if __name__ == "__main__":
    main()
