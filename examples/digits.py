"""The whole job on real pictures: scikit-learn's 1,797 handwritten digits, a pretrained network, a report, answers.

`make demo` runs this. The weights come from an installed package, so nothing is fetched. Everything lands in demo/. Run
it again and it goes on where it stopped, or says that it is done.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

import tellapart as ta

FOLDER = Path("demo")
PICTURES = FOLDER / "digits"
RUN = FOLDER / "run"
PAGE = FOLDER / "classifier.html"
RECIPE = Path(__file__).with_name("digits.toml")
SHOWN = 5


def main() -> int:
    """Write the pictures, train, answer for a few that the training did not see; gives the exit status."""
    write_pictures(PICTURES)
    if status := tellapart("train", PICTURES, "--recipe", RECIPE, "--offline", "--out", RUN):
        return status
    if status := tellapart("predict", RUN, *unseen_pictures(RUN, SHOWN)):
        return status
    print(f"\nThe report: {(RUN / 'report.html').resolve().as_uri()}")
    # The engine for browsers comes with a wheel, or with npm; without both, the rest of the demo stands.
    if tellapart("export", RUN, "--to", "html", "--out", PAGE) == 0:
        print(f"\nA classifier to try in your browser: {PAGE.resolve().as_uri()}")
    return 0


def write_pictures(folder: Path) -> None:
    """One folder a digit, one PNG a picture: 8×8, grey, white on black. Pictures that are there stay as they are."""
    digits = load_digits()
    for number, (ink, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
        path = folder / str(digit) / f"{number:04}.png"
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".part")
        Image.fromarray(np.round(ink * (255 / 16)).astype(np.uint8)).save(beside, format="PNG")
        beside.replace(path)


def unseen_pictures(run: Path, n: int) -> list[Path]:
    """Some pictures of the test part."""
    catalog = ta.Catalog.load(run / "catalog.parquet")
    rows = ta.Split.load(run / "split.json").test
    return [catalog.path(row) for row in rows[:: len(rows) // n][:n]]


def tellapart(*arguments: str | Path) -> int:
    """Run a command as one would type it, and show it; gives its exit status."""
    words = [str(argument) for argument in arguments]
    print(f"\n$ {shlex.join(['tellapart', *words])}", flush=True)
    return subprocess.run([Path(sys.executable).with_name("tellapart"), *words], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
