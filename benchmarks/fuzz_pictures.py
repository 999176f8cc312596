"""Mutated pictures of every format: each is read, or refused with a reason; none takes too long or too much memory.

    python -m benchmarks.fuzz_pictures [N] [SEED]

Small pictures of all formats (and those of TELLAPART_TEST_DATA/nasty, where it is set) are changed at random: bits,
numbers, pieces left out, doubled many times, or taken from another picture. Each is examined as a scan does. Processor
time is measured, not the clock, so that a busy machine makes no difference. A crash ends the child that reads them, and
counts.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks import record

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "BMP", "TIFF", "PPM", "JPEG2000", "ICO", "MPO")
BATCH = 1_000  # pictures that one child reads
SECONDS, BYTES = 5.0, 512_000_000
NUMBERS = (b"\0\0", b"\xff\xff", b"\0\1", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\xff\xfe\0\0")


def seeds() -> list[bytes]:
    """Pictures to start from."""
    image = Image.radial_gradient("L").resize((96, 64))
    coloured = Image.merge("RGB", [image, image.rotate(90).resize((96, 64)), image.transpose(1)])
    contents = []
    for kind in FORMATS:
        for options in ({}, *_variants(kind)):
            file = io.BytesIO()
            coloured.save(file, kind, **options)  # type: ignore[arg-type]
            contents.append(file.getvalue())
    folder = os.environ.get("TELLAPART_TEST_DATA")
    real = sorted((Path(folder) / "nasty").iterdir()) if folder else []
    return contents + [path.read_bytes() for path in real if path.stat().st_size < 300_000]


def _variants(kind: str) -> list[dict[str, object]]:
    frames = {"save_all": True, "append_images": [Image.new("RGB", (96, 64), "red")] * 2}
    variants: dict[str, list[dict[str, object]]] = {
        "JPEG": [{"progressive": True}, {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0"}],
        "PNG": [frames],
        "GIF": [frames],
        "WEBP": [frames, {"lossless": True}],
        "AVIF": [frames],
        "TIFF": [{"compression": name} for name in ("tiff_lzw", "tiff_deflate", "jpeg")] + [frames],
        "JPEG2000": [{"no_jp2": True}, {"tile_size": (32, 32)}, {"irreversible": True}],
    }
    return variants.get(kind, [])


def mutant(contents: list[bytes], number: int, seed: int) -> bytes:
    """The picture of this number; the same for the same seed."""
    dice = random.Random(f"{seed} {number}")
    content = bytearray(dice.choice(contents))
    for _ in range(dice.choice((1, 1, 2, 4, 16))):
        position = dice.randrange(min(len(content), dice.choice((64, 1_000, 1 << 30)))) if content else 0
        length = dice.choice((1, 2, 4, 8, 16, 100, 1_000))
        match dice.randrange(6):
            case 0:
                content[position : position + 1] = bytes([dice.randrange(256)])
            case 1:
                value = dice.choice(NUMBERS)
                content[position : position + len(value)] = value
            case 2:
                del content[position : position + length]
            case 3:
                piece = bytes(content[position : position + length])
                content[position:position] = piece * dice.choice((1, 10, 1_000, 20_000 if length < 100 else 10))
            case 4:
                other = dice.choice(contents)
                start = dice.randrange(len(other))
                content[position:position] = other[start : start + length]
            case _:
                del content[dice.randrange(len(content) + 1) :]
    return bytes(content)


def read(first: int, last: int, seed: int) -> None:
    """Examine the pictures of a batch, and print a line for each."""
    from tellapart.data.decoding.decode import examine

    contents = seeds()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture"
        for number in range(first, last):
            path.write_bytes(mutant(contents, number, seed))
            print(json.dumps({"number": number}), flush=True)
            began = time.process_time()
            facts = examine(path, lambda *_: None, 128)
            seconds = time.process_time() - began
            print(json.dumps({"number": number, "seconds": seconds, "problem": facts.problem}), flush=True)
    status = Path("/proc/self/status").read_text()
    print(json.dumps({"peak": int(status[status.index("VmHWM:") :].split()[1]) * 1024}), flush=True)


def main(n: int, seed: int) -> None:
    """Read all pictures in children, one after another."""
    seconds: list[float] = []
    problems: Counter[str] = Counter()
    crashes: list[int] = []
    peak = 0
    first = 0
    while first < n:
        command = [sys.executable, "-m", "benchmarks.fuzz_pictures", "--read", str(first), str(min(first + BATCH, n))]
        done = subprocess.run([*command, str(seed)], stdout=subprocess.PIPE, text=True, check=False)
        lines: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
        for line in lines:
            peak = max(peak, line.get("peak", 0))
            if "seconds" in line:
                seconds.append(line["seconds"])
                problems[re.sub(r"[\d,]+", "N", line["problem"] or "read")] += 1
        if done.returncode:
            crashes.append(lines[-1]["number"])
        first = lines[-1]["number"] + 1 if done.returncode else first + BATCH
        print(f"{min(first, n):,} of {n:,}, slowest {max(seconds):.2f} s, {len(crashes)} crashes", flush=True)
    source = hashlib.sha256("".join(map(str, map(len, seeds()))).encode()).hexdigest()[:12]
    figures = {
        "n": n,
        "seed": seed,
        "pictures": source,
        "n_seeds": len(seeds()),
        "read": problems.pop("read"),
        "refused": sum(problems.values()),
        "reasons": len(problems),
        "crashes": crashes,
        "slowest_seconds": max(seconds),
        "over_limit": sum(value > SECONDS for value in seconds),
        "peak_bytes": peak,
        "commonest": problems.most_common(20),
    }
    record.write("fuzz_pictures", figures)
    sys.exit(1 if crashes or figures["over_limit"] or peak > BYTES else 0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--read"]:
        read(*map(int, sys.argv[2:]))
    else:
        words = [int(word) for word in sys.argv[1:]]
        main(words[0] if words else 20_000, words[1] if words[1:] else 0)
