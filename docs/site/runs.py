"""What the documentation shows is real: trainings on scikit-learn's handwritten digits, in build/docs.

The same call again goes on where it stopped, or finds everything done.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "docs"
DIGITS = FOLDER / "digits"
#: Two runs to compare: a pretrained network with a new head, and a small one of its own.
FIRST, SECOND = Path("runs/first"), Path("runs/second")
CLASSIFIER = FOLDER / "classifier.html"
_A_CLASS, _SIDE = 60, 64
SMALL = ["--recipe", "scratch", "--set", "model.name=cnn8", "--set", "data.size=32", "--set", "data.split_seed=0"]


def tellapart(*words: str | Path, check: bool = True) -> bool:
    """Run a command in build/docs. Returns whether it succeeded.

    Raises:
        CalledProcessError: it failed, unless `check` is off.
    """
    command = [sys.executable, "-m", "tellapart", *map(str, words)]
    return subprocess.run(command, cwd=FOLDER, env=environment(), check=check).returncode == 0


def environment() -> dict[str, str]:
    """Of the commands: nothing is fetched from a hub, and no other weights are at hand than those of the packages."""
    return {name: value for name, value in os.environ.items() if name != "TELLAPART_WEIGHTS"} | {"HF_HUB_OFFLINE": "1"}


def train_first() -> None:
    """Train the run that the documentation shows, unless it is there."""
    write_digits()
    stages = ["--set", "data.size=96", "--set", "data.split_seed=0"]
    tellapart("train", "digits", "--recipe", ROOT / "examples" / "digits.toml", *stages, "--offline", "--out", FIRST)


def train_second() -> None:
    """Train the one that it is compared with."""
    tellapart("train", "digits", *SMALL, "--set", "stages.0.epochs=12", "--out", SECOND)


def export_classifier() -> bool:
    """Write the classifier in one file. Returns whether the engine for browsers could be had."""
    return CLASSIFIER.is_file() or tellapart("export", FIRST, "--to", "html", "--out", CLASSIFIER, check=False)


def write_digits() -> None:
    """Sixty pictures of each digit, at a size that people can look at; with what goes wrong in folders of people."""
    if DIGITS.is_dir():
        return
    digits, beside = load_digits(), DIGITS.with_name("digits.part")
    shutil.rmtree(beside, ignore_errors=True)
    for digit in range(10):
        (beside / str(digit)).mkdir(parents=True)
        for number in np.flatnonzero(digits.target == digit)[:_A_CLASS]:
            grey = Image.fromarray(np.round(digits.images[number] * (255 / 16)).astype(np.uint8))
            large = grey.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC).point(_inked)
            large.save(beside / str(digit) / f"{number:04}.png")
    _spoil(beside)
    beside.rename(DIGITS)


def main() -> None:
    """Train the run, unless it is there, and write the classifier that the tour shows."""
    train_first()
    export_classifier()


def _inked(grey: int) -> int:
    """Ink with an edge, where enlarging made it soft."""
    return min(255, max(0, 4 * (grey - 96)))


def _spoil(folder: Path) -> None:
    """Four labels are wrong, three pictures are there twice, one is blank, and one file is broken."""
    names = [sorted((folder / str(digit)).iterdir()) for digit in range(10)]
    for digit, wrong in ((1, 7), (4, 9), (3, 5), (8, 2)):
        picture = names[digit][20]
        picture.rename(folder / str(wrong) / picture.name)
    for digit in (0, 2, 6):
        shutil.copyfile(names[digit][10], folder / str(digit) / f"copy-{names[digit][10].name}")
    Image.new("L", (_SIDE, _SIDE)).save(folder / "5" / "blank.png")
    (folder / "7" / "broken.png").write_bytes(names[7][11].read_bytes()[:60])


if __name__ == "__main__":
    main()
