"""What version 0.1 wrote, made small: runs, a bundle, a cache, and what it made of its recipes. Run once, with 0.1.

    git worktree add ../v0.1 cb37382 && make -C ../v0.1 setup
    ../v0.1/.venv/bin/python tests/compatibility/make_v0_1.py

Everything is written to tests/compatibility/v0_1, but for its recipes, which are read from there. The trainings run in
a temporary folder; what would name it, or the machine, is taken out afterwards.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image, ImageDraw

import tellapart as ta

FOLDER = Path(__file__).parent / "v0_1"
PROGRAM = Path(sys.executable).with_name("tellapart")
CLASSES = ("circle", "square", "triangle")
RUNTIME = ("--runtime", "cpu,float32,contiguous")
#: What is left out of a run: large, or made again from the rest.
LEFT_OUT = ("figures", "report.html", ".lock", "network.json")


def main() -> None:
    """Make everything in a temporary folder, then put it in place."""
    assert ta.__version__ == "0.1.0"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(FOLDER / "recipes", folder / "recipes")
        draw(folder / "pictures", n=8, seed=0)
        draw(folder / "labelled", n=6, seed=1)
        write_labels(folder / "labelled")
        train(folder, "plain", "pictures")
        train(folder, "labels", "labelled/labels.csv")
        train(folder, "stopped", "pictures", out="unbroken")
        stop(folder, "stopped", "pictures")
        expected = {
            "answers": {
                "plain": predict(folder, "runs/plain", "pictures"),
                "labels": predict(folder, "runs/labels", "labelled"),
            },
            "unbroken": logits(folder / "runs/unbroken/predictions/test.parquet"),
        }
        shutil.rmtree(folder / "runs" / "unbroken")
        for run in (folder / "runs").iterdir():
            tidy(run)
        for part in ("pictures", "labelled", "runs", "cache"):
            put(folder / part, FOLDER / part)
    write(FOLDER / "expected.json", expected)
    recipes = {path.relative_to(FOLDER / "recipes"): path for path in sorted(FOLDER.glob("recipes/**/*.toml"))}
    fields = {name.as_posix(): ta.load_recipe(path).model_dump(mode="json") for name, path in recipes.items()}
    write(FOLDER / "recipes.json", fields)


def draw(folder: Path, n: int, seed: int) -> None:
    """n pictures a class, 20 × 16 pixels: a shape in the class's colour, on noise."""
    random = np.random.default_rng(seed)
    for number, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for i in range(n):
            picture = Image.fromarray(random.integers(0, 80, (16, 20, 3), np.uint8))
            size = int(random.integers(6, 12))
            left, top = int(random.integers(0, 20 - size)), int(random.integers(0, 16 - size))
            box, pen = (left, top, left + size, top + size), ImageDraw.Draw(picture)
            colour = f"hsv({120 * number}, 90%, {random.integers(75, 100)}%)"
            if number == 0:
                pen.ellipse(box, fill=colour)
            elif number == 1:
                pen.rectangle(box, fill=colour)
            else:
                pen.polygon([(left, top + size), (left + size, top + size), (left + size // 2, top)], fill=colour)
            picture.save(folder / name / f"{i:03}.png")


def write_labels(folder: Path) -> None:
    """One, two or no labels a picture; the first of each class has none."""
    labels = {"circle": "round", "square": "angular;even", "triangle": "angular"}
    lines = ["file,labels"]
    for picture in sorted(folder.glob("*/*.png")):
        name = "" if picture.stem == "000" else labels[picture.parent.name]
        lines.append(f"{picture.relative_to(folder).as_posix()},{name}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def words(recipe: str, pictures: str, out: str) -> list[str]:
    """The command of a training, with relative paths only."""
    command = ["train", pictures, "--recipe", f"recipes/{recipe}.toml", "--out", f"runs/{out}", *RUNTIME, "--quiet"]
    return [str(PROGRAM), *command, *(["--delimiter", ";"] if pictures.endswith(".csv") else [])]


def train(folder: Path, recipe: str, pictures: str, out: str = "") -> None:
    subprocess.run(words(recipe, pictures, out or recipe), cwd=folder, env=environment(folder), check=True)


def stop(folder: Path, recipe: str, pictures: str) -> None:
    """Begin a training, and press Ctrl-C in its last stage, after the third epoch."""
    events = folder / "runs" / recipe / "events.jsonl"
    process = subprocess.Popen(words(recipe, pictures, recipe), cwd=folder, env=environment(folder))
    while process.poll() is None:
        lines = events.read_text(encoding="utf-8").splitlines() if events.exists() else []
        if any('"event": "Validated", "stage": 2, "epoch": 3,' in line for line in lines):
            break
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    assert not (folder / "runs" / recipe / "bundle").exists()


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "TELLAPART_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "2"}


def predict(folder: Path, run: str, pictures: str) -> list[dict[str, object]]:
    """What the command answers to the pictures of a folder, each a line of JSON."""
    command = [PROGRAM, "predict", run, pictures, "--top", "3", "--format", "jsonl"]
    answer = subprocess.run(
        command, cwd=folder, env=environment(folder), check=True, capture_output=True, encoding="utf-8"
    )
    return [json.loads(line) for line in answer.stdout.splitlines()]


def logits(path: Path) -> dict[str, list[object]]:
    return pl.read_parquet(path).select("row", "logits").to_dict(as_series=False)


def tidy(run: Path) -> None:
    """Leave out what is large or made again, and what tells of this machine."""
    for name in LEFT_OUT:
        path = run / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    catalog = ta.Catalog.load(run / "catalog.parquet")
    replace(catalog, root=Path("/moved/away")).save(run / "catalog.parquet")
    about = json.loads((run / "environment.json").read_text(encoding="utf-8"))
    about |= {
        "platform": "Linux-x86_64",
        "processor": "",
        "command": about["command"].replace(str(PROGRAM), "tellapart"),
    }
    write(run / "environment.json", about)


def put(source: Path, target: Path) -> None:
    """Replace what lies there."""
    if target.is_dir():
        shutil.rmtree(target)
    shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)


def write(path: Path, values: object) -> None:
    path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
