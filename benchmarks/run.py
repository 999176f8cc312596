"""How fast Tellapart is here, beside what one would use instead: measured in turn on this machine.

python -m benchmarks.run photos/ --rows data,stages --minutes 2 --out bench.json
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks import row_accuracy
from benchmarks.rivals_programs import EPOCHS
from benchmarks.row_data import data
from benchmarks.row_layers import NETWORKS, finetune, plain_speed, stored
from benchmarks.turns import Figure
from tellapart.core.files import write_text
from tellapart.data.catalog import Catalog
from tellapart.data.scan import scan
from tellapart.data.splitting.split import split
from tellapart.errors import DataError, TellapartError, UsageError
from tellapart.training.runtime import environment
from tellapart.workflows.progress import ProgressSink, progress_sink
from tellapart.workflows.scan import scan as scan_shown

Rows = npt.NDArray[np.int64]
#: Rows of the table, and the share of the minutes that each gets.
ROWS = {"data": 0.1, "stages": 0.15, "finetune": 0.3, "accuracy": 0.45}
#: Pictures that a turn works on; fewer than there may be, so that turns are short.
_DATA, _STAGES, _FINETUNE = 600, 128, 32
_FEWEST = 200
_RIVALS = {"plain": "a plain loop of 3 epochs", "fastai": "fastai's fine_tune(3)"}


@dataclass(frozen=True)
class Measured:
    """What `bench` has found.

    Attributes:
        figures: the lines of the table.
        notes: what was left out, and why.
        about: versions and machine.
    """

    figures: Sequence[Figure]
    notes: Sequence[str]
    about: dict[str, Any]

    def table(self) -> str:
        """For people."""
        lines = [line for figure in self.figures for line in figure.lines()]
        machine = ", ".join(f"{key} {self.about[key]}" for key in ("processor", "threads", "gpu", "torch"))
        return "\n".join([*lines, *self.notes, f"Medians of rounds run in turn on this machine: {machine}"])

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        figures = [figure.as_dict() for figure in self.figures]
        return {"figures": figures, "notes": list(self.notes), "about": self.about}


def bench(pictures: Path | None, rows: Sequence[str], minutes: float, progress: ProgressSink) -> Measured:
    """Measure rows of the table. Nothing computed earlier is used, and nothing is left behind.

    Args:
        pictures: a folder or table of labelled pictures; None: made ones, with which there is no accuracy to reach.
        rows: of `ROWS`.
        minutes: about what it all takes; on a slow machine more, since a row needs its fewest rounds.
        progress: where it is shown.

    Raises:
        UsageError: an unknown row.
        TellapartError: what is wrong with the pictures.
    """
    for row in rows:
        if row not in ROWS:
            raise UsageError(f"--rows: '{row}' is unknown.", f"Known: {', '.join(ROWS)}.")
    each = 60 * minutes / sum(ROWS[row] for row in rows)
    figures: list[Figure] = []
    notes = []
    with _scratch() as scratch:
        catalog = scan_shown(pictures, progress) if pictures else scan(_made(scratch / "made"))
        known = np.intersect1d(catalog.readable, catalog.labelled)
        if not len(known):
            raise DataError(f"None of the pictures in {pictures} has a label.", "tellapart scan says what was found.")
        if "data" in rows:
            figures.append(progress.watch(data(catalog, _some(known, _DATA), each * ROWS["data"])))
        if "stages" in rows:
            part = _some(known, _STAGES)
            figures.append(progress.watch(stored(catalog, part, NETWORKS[0], each * ROWS["stages"])))
        for name in NETWORKS if "finetune" in rows else ():
            seconds = each * ROWS["finetune"] / len(NETWORKS)
            figures.append(progress.watch(finetune(catalog, _some(known, _FINETUNE), name, seconds)))
        if "accuracy" in rows and (pictures is None or catalog.multilabel):
            notes.append("accuracy was left out: it needs pictures of yours with one label each.")
        elif "accuracy" in rows:
            try:
                figures += to_accuracy(catalog, known, each * ROWS["accuracy"], scratch, progress)
            except TellapartError as reason:  # what has been measured until here is not lost by it
                notes.append(f"accuracy was left out: {reason.message} {reason.hint}".rstrip())
    return Measured(figures, notes, environment())


def to_accuracy(
    catalog: Catalog, known: Rows, seconds: float, scratch: Path, progress: ProgressSink
) -> Iterator[Figure]:
    """Whole trainings, one after the other, on as many of the pictures as a plain loop can be trained on in time.

    Raises:
        UsageError: that is too few pictures.
    """
    rivals = ["plain", *(["fastai"] if importlib.util.find_spec("fastai") else [])]
    speed = plain_speed(catalog, known, row_accuracy.MODEL)
    n = int(0.7 * seconds / len(rivals) * speed / EPOCHS)
    if n < _FEWEST:
        least = _FEWEST * EPOCHS * len(rivals) / speed / 0.7 / 60 / ROWS["accuracy"]
        raise UsageError(f"In that time a plain loop sees {n} pictures, too few.", f"Try --minutes {least + 0.5:.0f}.")
    table = scratch / "pictures.csv"
    n_train = row_accuracy.write_table(catalog, split(catalog), table, n)
    progress.say(f"whole trainings on {n_train:,} pictures: Tellapart's")
    ours = row_accuracy.tellapart(catalog.root, table, scratch)
    for name in rivals:
        progress.say(f"whole trainings on {n_train:,} pictures: {_RIVALS[name]}")
        yield reached(ours, row_accuracy.rival(name, catalog.root, table), n_train)


def reached(ours: row_accuracy.Course, other: row_accuracy.Course, n_train: int) -> Figure:
    """The seconds until the accuracy that another training ended with."""
    theirs, target = other.validated[-1]
    seconds = ours.until(target)
    best = max(value for _, value in ours.validated)
    values = {ours.name: [seconds], _RIVALS[other.name]: [theirs]} if seconds else {_RIVALS[other.name]: [theirs]}
    ends = f"ended after {ours.seconds:.0f} s, report and all, with {best:.1%} and {ours.test:.1%} on the test"
    note = f"{n_train:,} training pictures; {ours.name} {'' if seconds else 'did not reach it, and '}{ends}"
    note += f" (the other: {other.test:.1%})"
    return Figure(f"from the command to {target:.1%} on validation, {row_accuracy.MODEL}", "s", values, note)


def _some(rows: Rows, n: int) -> Rows:
    """At most n of the rows, evenly picked."""
    picked: Rows = rows[np.linspace(0, len(rows) - 1, min(n, len(rows))).astype(int)]
    return picked


def _made(folder: Path) -> Path:
    """A folder of made photographs, 500 × 375, of two classes: enough for speeds."""
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for number in range(100):
            coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8))
            pixels = np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC)) + rng.normal(0, 6, (375, 500, 1))
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / name / f"{number}.jpg", quality=88)
    return folder


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder for a while, which has the cache too."""
    before = os.environ.get("TELLAPART_CACHE")
    with tempfile.TemporaryDirectory(prefix="tellapart-bench-", ignore_cleanup_errors=True) as folder:
        os.environ["TELLAPART_CACHE"] = str(Path(folder) / "cache")
        try:
            yield Path(folder)
        finally:
            if before is None:
                del os.environ["TELLAPART_CACHE"]
            else:
                os.environ["TELLAPART_CACHE"] = before


def main() -> None:
    """Parse the command line, measure, print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument(
        "pictures", nargs="?", type=Path, help="folder or table of your pictures; without it, made ones"
    )
    parser.add_argument("--rows", default=",".join(ROWS), help="which rows, with commas")
    parser.add_argument("--minutes", type=float, default=10.0, help="about what it all may take")
    parser.add_argument("--out", type=Path, help="write the figures to this file, as JSON")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    asked = parser.parse_args()
    try:
        rows = [row.strip() for row in asked.rows.split(",")]
        measured = bench(asked.pictures, rows, asked.minutes, progress_sink(not asked.quiet))
    except TellapartError as error:
        parser.exit(2, f"{error.message} {error.hint}\n")
    print(measured.table())
    if asked.out:
        write_text(asked.out, json.dumps(measured.as_dict(), indent=1) + "\n")


if __name__ == "__main__":
    main()
