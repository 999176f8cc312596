"""Planted near duplicates: how many the audit finds and how many of its pairs are true, beside ImageHash alone.

Every picture of a set is altered in one way (resized, re-compressed, cropped, brighter or darker, mirrored, or two of
these), and the altered ones stand among the originals. A pair that is no planted one counts as false, unless the two
originals are themselves near duplicates by the same search without anything planted: real sets have such pairs. Where
there are any (n_natural_pairs), the precision is an upper limit: nobody has checked these.

TELLAPART_TEST_DATA=… python -m benchmarks.near_duplicates --sets fruit breeds grocery animals --most 1000 --speed 60000
TELLAPART_TEST_DATA=… python -m benchmarks.near_duplicates --millions 250000 1000000 --sets fruit animals --most 250

The second looks at what takes the place of that search among millions: processor time and memory for so many made-up
pictures, of four hashes each, with planted near ones; and the share of planted near duplicates that it finds.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from benchmarks import record
from tellapart.auditing import duplicates
from tellapart.auditing.banded import MOST, near_hashes
from tellapart.auditing.duplicates import find_pairs
from tellapart.data.decoding.decode import decode
from tellapart.workflows.audit import measured_scan
from tellapart.workflows.progress import ProgressSink

Change = Callable[[Image.Image, np.random.Generator], Image.Image]


def resized(picture: Image.Image, random: np.random.Generator) -> Image.Image:
    factor = random.uniform(0.4, 0.9)
    size = tuple(max(24, round(side * factor)) for side in picture.size)
    return picture.resize(size, Image.Resampling.BICUBIC)


def compressed(picture: Image.Image, random: np.random.Generator) -> Image.Image:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=int(random.integers(25, 60)))
    return Image.open(file).convert("RGB")


def cropped(picture: Image.Image, random: np.random.Generator) -> Image.Image:
    """5 % of width and height are gone, anywhere."""
    width, height = (round(0.95 * side) for side in picture.size)
    left, top = random.integers(0, picture.width - width + 1), random.integers(0, picture.height - height + 1)
    return picture.crop((left, top, left + width, top + height))


def cropped_all_round(picture: Image.Image, random: np.random.Generator) -> Image.Image:
    """5 % are gone on each side."""
    width, height = picture.size
    return picture.crop((round(0.05 * width), round(0.05 * height), round(0.95 * width), round(0.95 * height)))


def brighter_or_darker(picture: Image.Image, random: np.random.Generator) -> Image.Image:
    return ImageEnhance.Brightness(picture).enhance(float(random.choice([0.7, 0.8, 1.2, 1.3])))


def mirrored(picture: Image.Image, random: np.random.Generator) -> Image.Image:
    return ImageOps.mirror(picture)


SINGLE: tuple[Change, ...] = (resized, compressed, cropped, cropped_all_round, brighter_or_darker, mirrored)


def two(picture: Image.Image, random: np.random.Generator) -> Image.Image:
    for i in random.choice(len(SINGLE), 2, replace=False):
        picture = SINGLE[i](picture, random)
    return picture


CHANGES: tuple[Change, ...] = (*SINGLE, two)


def planted(pictures: Path, most: int, folder: Path, random: np.random.Generator) -> dict[str, str]:
    """Write originals and one altered version of each; altered name → change."""
    files = sorted(p for p in pictures.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    files = [files[i] for i in np.sort(random.choice(len(files), min(most, len(files)), replace=False))]
    how = {}
    for number, file in enumerate(files):
        original = Image.fromarray(decode(file))
        change = CHANGES[number % len(CHANGES)]
        original.save(folder / f"{number:05}.png", compress_level=1)
        change(original, random).save(folder / f"{number:05}-altered.jpg", quality=92)
        how[f"{number:05}"] = change.__name__
    return how


def found_by_audit(folder: Path) -> set[tuple[str, str]]:
    progress = ProgressSink()
    catalog, measured = measured_scan(folder, progress, layout="folders")
    pairs = progress.watch(find_pairs(catalog, measured, None))
    paths = catalog.table["path"].to_list()
    return {pair(paths[a], paths[b]) for a, b in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)}


def pair(a: str, b: str) -> tuple[str, str]:
    return (a, b) if a < b else (b, a)


def hashes(folder: Path) -> tuple[list[str], np.ndarray]:
    """ImageHash's perceptual hash of every picture, as uint64."""
    import imagehash

    names = sorted(path.name for path in folder.iterdir())
    bits = [imagehash.phash(Image.open(folder / name)).hash.ravel() for name in names]
    return names, np.packbits(np.stack(bits), axis=1).view(">u8").ravel().astype(np.uint64)


def found_by_hash(names: list[str], values: np.ndarray, most: int) -> set[tuple[str, str]]:
    found = set()
    for i, value in enumerate(values[:-1]):
        for j in np.flatnonzero(np.bitwise_count(values[i + 1 :] ^ value) <= most):
            found.add(pair(names[i], names[i + 1 + int(j)]))
    return found


def score(found: set[tuple[str, str]], how: dict[str, str], natural: set[tuple[str, str]]) -> dict[str, object]:
    """Recall in all and by change; precision over pairs that are not natural ones."""
    true = {pair(f"{name}.png", f"{name}-altered.jpg") for name in how}
    stems = {tuple(name[:5] for name in some) for some in natural}
    false = {some for some in found - true if tuple(sorted(name[:5] for name in some)) not in stems}
    hit = found & true
    by = {}
    for change in CHANGES:
        its = [pair(f"{name}.png", f"{name}-altered.jpg") in hit for name, c in how.items() if c == change.__name__]
        by[change.__name__] = round(float(np.mean(its)), 4)
    n = len(hit) + len(false)
    return {
        "recall": round(len(hit) / len(true), 4),
        "precision": round(len(hit) / n, 4) if n else None,
        "n_planted": len(true),
        "n_false": len(false),
        "recall_by_change": by,
    }


def speed(archive: Path, n: int) -> dict[str, object]:
    """Seconds to search near duplicates among so many pictures of CIFAR-10, after they were measured."""
    with tempfile.TemporaryDirectory() as name:
        with tarfile.open(archive) as tar:
            tar.extractall(name, filter="data")
        progress = ProgressSink()
        catalog, measured = measured_scan(name, progress, layout="folders")
        rows = np.arange(min(n, len(catalog)))
        some = catalog.without(np.arange(len(rows), len(catalog)))
        start = time.monotonic()
        pairs = progress.watch(find_pairs(some, measured.take(rows), None))
        return {
            "n": len(rows),
            "seconds": round(time.monotonic() - start, 1),
            "n_exact": int(pairs.exact.sum()),
            "n_near": int((~pairs.exact).sum()),
        }


def made_up_hashes(n: int) -> dict[str, object]:
    """Search near hashes of n pictures in this process; run in one of its own, for its memory."""
    random = np.random.default_rng(0)
    values = random.integers(0, 2**64, 4 * n, np.uint64)
    planted = np.arange(0, n, 1000)
    for row in planted:
        flips = sum(1 << int(bit) for bit in random.choice(64, int(random.integers(0, MOST + 1)), replace=False))
        values[n + row] = values[row] ^ np.uint64(flips)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    found = {tuple(each) for pairs in near_hashes(values) for each in pairs.tolist()}
    return {
        "pictures": n,
        "hashes": len(values),
        "bits": MOST,
        "processor_seconds": round(time.process_time() - start, 1),
        "mib_before": before >> 10,
        "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        "n_planted": len(planted),
        "found": sum((int(row), int(n + row)) in found for row in planted),
        "n_pairs": len(found),
    }


def among_millions(numbers: list[int], sets: list[Path], most: int) -> dict[str, object]:
    """What hashes cost, and which of the planted near duplicates they find, beside the search by descriptors."""
    costs = []
    for n in numbers:
        command = [sys.executable, "-m", "benchmarks.near_duplicates", "--one", str(n)]
        costs.append(json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout))
    recall = {}
    for pictures in sets:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            true = {
                pair(f"{n}.png", f"{n}-altered.jpg") for n in planted(pictures, most, folder, np.random.default_rng(0))
            }
            by_descriptors, before = found_by_audit(folder), duplicates.MANY
            duplicates.MANY = 1
            by_hashes, duplicates.MANY = found_by_audit(folder), before
        shares = {"descriptors": len(true & by_descriptors) / len(true), "hashes": len(true & by_hashes) / len(true)}
        recall[pictures.name] = {"n_planted": len(true), **{way: round(share, 3) for way, share in shares.items()}}
    return {"made_up": costs, "recall": recall}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sets", nargs="+", default=["fruit", "breeds", "grocery", "animals"])
    parser.add_argument("--most", type=int, default=1000, help="pictures a set")
    parser.add_argument("--speed", type=int, default=0, help="also time the search among so many of CIFAR-10")
    parser.add_argument(
        "--millions", type=int, nargs="*", help="numbers of made-up pictures: the search by hashes alone"
    )
    parser.add_argument("--one", type=int, help="search among so many made-up pictures in this process")
    given = parser.parse_args()
    if given.one is not None:
        print(json.dumps(made_up_hashes(given.one)))
        return
    data = Path(os.environ["TELLAPART_TEST_DATA"])
    if given.millions is not None:
        sets = [data / name for name in given.sets]
        record.write("near_hashes", among_millions(given.millions, sets, given.most))
        return
    figures: dict[str, object] = {}
    for name in given.sets:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            how = planted(data / name, given.most, folder, np.random.default_rng(0))
            found = found_by_audit(folder)
            names, values = hashes(folder)
            originals = folder / "originals"
            originals.mkdir()
            for file in folder.glob("*.png"):
                file.rename(originals / file.name)
            natural = found_by_audit(originals)
            result: dict[str, object] = {"audit": score(found, how, natural), "n_natural_pairs": len(natural)}
            for most in (0, 4, 8, 12):
                result[f"imagehash_{most}_bits"] = score(found_by_hash(names, values, most), how, natural)
        figures[name] = result
    if given.speed:
        figures["search"] = speed(data / "cifar10.tar.gz", given.speed)
    record.write("near_duplicates", figures)


if __name__ == "__main__":
    main()
