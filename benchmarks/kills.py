"""`kill -9` of the real command at 200 random moments, and SIGTERM at 20: what each leaves is compared, bit for bit.

    python -m benchmarks.kills [N_KILLS] [N_STOPS]

A small training (made-up pictures, a network of our own, two stages, stored activations) is run once unbroken; then it
is killed again and again, each time after a random part of its whole duration, and repeated until it ends. What may
not differ from the unbroken run: weights, predictions, scores and the event log without its times.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import record

RECIPE = """
[data]
size = 32
[model]
name = "cnn8"
pretrained = false
[[augment]]
transform = "random_resized_crop"
[[stages]]
train = "head"
views = [[], [{ transform = "horizontal_flip" }]]
epochs = 5
[[stages]]
epochs = 6
batch_size = 16
average = 0.99
schedule = "one_cycle"
"""


def pictures(folder: Path) -> Path:
    """Three classes that differ in colour, 120 pictures each."""
    dice = np.random.default_rng(0)
    for number, name in enumerate(("red", "green", "blue")):
        (folder / name).mkdir(parents=True)
        for i in range(120):
            pixels = dice.integers(0, 200, (40, 40, 3), np.uint8)
            pixels[..., number] += 30
            Image.fromarray(pixels).save(folder / name / f"{i:03}.png")
    return folder


def start(photos: Path, recipe: Path, out: Path) -> subprocess.Popen[bytes]:
    words = ["train", str(photos), "--recipe", str(recipe), "--out", str(out), "--json", "--runtime", "cpu,float32"]
    alone = {"OMP_NUM_THREADS": "1", "TELLAPART_CACHE": str(out.with_suffix(".cache"))}
    with out.with_suffix(".said").open("wb") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "tellapart", *words], stdout=said, stderr=said, env={**os.environ, **alone}
        )


def where(out: Path) -> str:
    """The last event that a process told."""
    lines = out.with_suffix(".said").read_text(encoding="utf-8").splitlines()
    told = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
    if not told:
        return "before the first event"
    last = told[-1]
    part = f"stage {last['stage'] + 1}" if last.get("stage", -1) >= 0 else str(last.get("what", ""))
    return f"{last['event']}, {part}"


def result(out: Path) -> dict[str, Any]:
    """A digest of everything that may not differ."""
    from tellapart.runs.run import Run

    run = Run(out)
    assert run.finished
    names = ["checkpoints/last.safetensors", "checkpoints/best.safetensors", "bundle/model.safetensors"]
    names += ["evaluation.json", "split.json"]
    digests = {name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in names}
    for on in ("validation", "test"):
        digests[on] = hashlib.sha256(run.predictions(on).logits.tobytes()).hexdigest()
    events = [{k: v for k, v in event.items() if k != "seconds"} for event in run.events()]
    return {**digests, "events": events}


def main() -> None:
    n_kills, n_stops = (int(word) for word in (sys.argv[1:] + ["200", "20"][len(sys.argv) - 1 :])[:2])
    dice = random.Random(0)
    signals = [signal.SIGKILL] * n_kills + [signal.SIGTERM] * n_stops
    dice.shuffle(signals)
    hit: Counter[str] = Counter()
    stops: list[float] = []
    wholes: list[float] = []
    n_runs, wrong = 0, 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        photos, recipe = pictures(folder / "photos"), folder / "mine.toml"
        recipe.write_text(RECIPE, encoding="utf-8")
        for name in ("unbroken", "again"):
            begun = time.monotonic()
            assert start(photos, recipe, folder / name).wait() == 0, (folder / f"{name}.said").read_text()
            wholes.append(time.monotonic() - begun)
        expected = result(folder / "unbroken")
        wrong += result(folder / "again") != expected
        while signals:
            out = folder / str(n_runs)
            while True:
                process = start(photos, recipe, out)
                try:
                    process.wait(dice.uniform(0, min(wholes)) if signals else None)
                except subprocess.TimeoutExpired:
                    by = signals.pop()
                    sent = time.monotonic()
                    process.send_signal(by)
                    code = process.wait()
                    if by == signal.SIGTERM:
                        stops.append(round(time.monotonic() - sent, 3))
                        # 0: all was done but for leaving
                        assert code in (0, 130, -signal.SIGTERM), out.with_suffix(".said").read_text()
                    hit[f"{by.name}: {where(out)}"] += 1
                    continue
                assert process.returncode == 0, out.with_suffix(".said").read_text()
                break
            differs = result(out) != expected
            wrong += differs
            print(f"{len(signals)} to go; run {n_runs} {'DIFFERS' if differs else 'is the same'}", file=sys.stderr)
            n_runs += 1
    figures = {"kills": n_kills, "stops": n_stops, "runs": n_runs, "runs_that_differ": wrong}
    if stops:
        figures["stop_s"] = record.spread(stops)
    record.write("kills", {**figures, "whole_s": record.spread(wholes), "hit": dict(sorted(hit.items()))})


if __name__ == "__main__":
    main()
