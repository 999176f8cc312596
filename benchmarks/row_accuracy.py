"""Wall-clock from the command to an accuracy: whole trainings in processes of their own, one after the other."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tellapart.data.catalog import Catalog
from tellapart.data.splitting.split import Split
from tellapart.errors import TrainingError

MODEL = "mobilenetv2_100"


@dataclass(frozen=True)
class Course:
    """One whole training.

    Attributes:
        name: whose.
        validated: (seconds since the command, accuracy on validation) after each epoch that was judged.
        seconds: until it had ended; for Tellapart, with certainty, bundle and report.
        test: accuracy on pictures kept aside.
    """

    name: str
    validated: Sequence[tuple[float, float]]
    seconds: float
    test: float

    def until(self, accuracy: float) -> float | None:
        """Seconds to an accuracy on validation; None if it was not reached."""
        return next((seconds for seconds, value in self.validated if value >= accuracy), None)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"name": self.name, "validated": self.validated, "seconds": self.seconds, "test": self.test}


def write_table(catalog: Catalog, split: Split, out: Path, n: int | None = None) -> int:
    """The table from which every contestant reads its pictures; at most about `n` of them, evenly picked.

    Returns:
        The number of training pictures in it.
    """
    total = sum(len(rows) for rows in (split.train, split.validation, split.test))
    share = min(1.0, n / total) if n else 1.0
    n_train = 0
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "label", "split"])
        for part in ("train", "validation", "test"):
            rows = getattr(split, part)
            order = rows[catalog.target(rows).argsort(kind="stable")]  # so that each class keeps its share
            picked = [int(order[int(place / share)]) for place in range(int(len(order) * share))]
            n_train += len(picked) if part == "train" else 0
            for row in picked:
                label = catalog.classes[catalog.table["labels"][row][0]]
                writer.writerow([catalog.table["path"][row], label, part])
    return n_train


def tellapart(root: Path, table: Path, scratch: Path, recipe: str = "transfer", model: str = MODEL) -> Course:
    """`tellapart train` with a recipe as it is and an empty cache, on the pictures of a table below a folder."""
    out = scratch / f"run-{recipe}"
    command = [sys.executable, "-m", "tellapart", "train", str(root), "--labels", str(table), "--json"]
    environment = {**os.environ, "TELLAPART_CACHE": str(scratch / f"cache-{recipe}")}
    validated, seconds = [], 0.0
    for seconds, said in _said([*command, "--out", str(out), "--recipe", recipe, "--model", model], environment):
        if said.get("event") == "Validated":
            validated.append((seconds, said["validation_accuracy"]))
    scores = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))["evaluations"]["test"]["metrics"]
    return Course(f"Tellapart, {recipe}", validated, seconds, scores["accuracy"]["value"])


def rival(
    name: str, root: Path, table: Path, size: int = 0, model: str = MODEL, python: str = sys.executable
) -> Course:
    """One of `rivals`.

    Args:
        name: "plain" or "fastai".
        root: the folder of pictures.
        table: see `write_table`.
        size: side of the pictures in pixels; 0: as the weights were made.
        model: the backbone.
        python: the interpreter; one that has fastai.
    """
    command = [
        python,
        "-m",
        "benchmarks.rivals_programs",
        name,
        str(root),
        str(table),
        "--size",
        str(size),
        "--model",
        model,
    ]
    # Where Tellapart lies, for an interpreter of another environment.
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    said = [(seconds, what) for seconds, what in _said(command, {**os.environ, "PYTHONPATH": path}) if what]
    reached = {what["part"]: (seconds, what["accuracy"]) for seconds, what in said}
    return Course(name, [reached["validation"]], reached["test"][0], reached["test"][1])


def _said(command: list[str], environment: dict[str, str]) -> Iterator[tuple[float, dict[str, Any]]]:
    """What a program prints as lines of JSON, each with the seconds since it was started."""
    start = time.perf_counter()
    # A file, since nobody reads it until the end: a pipe would fill up.
    with tempfile.TemporaryFile("w+", encoding="utf-8") as complaints:
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=complaints, encoding="utf-8"
        ) as process:
            assert process.stdout
            for line in process.stdout:
                if line.startswith("{"):
                    yield time.perf_counter() - start, json.loads(line)
        complaints.seek(0)
        last = complaints.read().strip().splitlines()[-1:] or ["it said nothing"]
    if process.returncode:
        raise TrainingError(f"A training ended with an error: {last[0]}", f"The command was: {' '.join(command)}")
    yield time.perf_counter() - start, {}
