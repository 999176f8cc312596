"""The shipped studies of the five reports, run one after the other on the pictures that they are for.

TELLAPART_TEST_DATA=… TELLAPART_WEIGHTS=… python -m benchmarks.study_reports WORK [NAME …] [--pages]

WORK keeps the pictures that are made, the cache and the studies. The same command goes on where it was stopped; a study
that is done is only read again. All take about four hours on two cores. Writes benchmarks/results/study_NAME.json, with
every cell's seeds, difference and verdict, the paragraph on methods, and seconds. From these files docs/studies/NAME.md
is written, our table beside the report's (`study_pages.THEIRS`); with --pages, nothing is run.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import record
from benchmarks.study_pages import write_pages

DATA = Path(os.environ.get("TELLAPART_TEST_DATA", "."))


def fruit(work: Path) -> Path:
    """The photographs of three fruits, as they are."""
    return DATA / "fruit"


def cifar(work: Path) -> Path:
    """The training pictures of CIFAR-10, unpacked."""
    folder = work / "cifar10"
    if not (folder / "train").is_dir():
        with tarfile.open(DATA / "cifar10.tar.gz") as archive:
            archive.extractall(work / "part", filter="data")
        (work / "part" / "cifar10").rename(folder)
    return folder / "train"


def groceries(work: Path) -> Path:
    """All groceries with their coarse kinds: a folder a kind, of the kinds with at least 20 pictures."""
    folder = work / "groceries"
    if folder.is_dir():
        return folder
    kinds = {row["Coarse Class ID (int)"]: row["Coarse Class Name (str)"] for row in rows(DATA / "grocery/classes.csv")}
    listed: dict[str, list[str]] = {}
    for part in ("train", "val"):
        for line in (DATA / "grocery" / f"{part}.txt").read_text().splitlines():
            path, _, coarse = (field.strip() for field in line.split(","))
            listed.setdefault(kinds[coarse], []).append(path)
    made = work / "groceries.part"
    shutil.rmtree(made, ignore_errors=True)
    for kind, paths in listed.items():
        for number, path in enumerate(paths) if len(paths) >= 20 else ():
            (made / kind).mkdir(parents=True, exist_ok=True)
            shutil.copy(DATA / "grocery" / path, made / kind / f"{number:04}.jpg")
    made.rename(folder)
    return folder


def animals(work: Path) -> Path:
    """Cats, 40 pictures with a dog, 10 with a bunny, and as many groceries without a label.

    Every picture with fewer rare labels is taken; of 551 pictures, cats without one of them are about 80.
    """
    folder = work / "animals"
    if folder.is_dir():
        return folder / "labels.csv"
    made = work / "animals.part"
    shutil.rmtree(made, ignore_errors=True)
    (made / "images").mkdir(parents=True)
    table, most = [], {"bunny": 10, "dog": 40, "cat": 300}
    for row in sorted(rows(DATA / "animals/labels.csv"), key=lambda row: (-len(row["labels"]), row["file_name"])):
        labels = row["labels"].split()
        if all(most[name] for name in labels):
            for name in labels:
                most[name] -= 1
            table.append(row)
            shutil.copy(DATA / "animals" / row["file_name"], made / row["file_name"])
    others = sorted((DATA / "grocery/train").rglob("*.jpg"))
    for number, picture in enumerate(others[:: len(others) // len(table)][: len(table)]):
        name = f"images/none {number}.jpg"
        table.append({"file_name": name, "labels": ""})
        shutil.copy(picture, made / name)
    with (made / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["file_name", "labels"])
        writer.writeheader()
        writer.writerows(table)
    made.rename(folder)
    return folder / "labels.csv"


#: Which pictures each study is for.
PICTURES: dict[str, Callable[[Path], Path]] = {
    "labels-hidden": animals,
    "labels-backbones": animals,
    "labels-ensemble": animals,
    "labels-balance": animals,
    "fruit-batch": fruit,
    "fruit-rate": fruit,
    "fruit-dropout": fruit,
    "fruit-augmentation": fruit,
    "fruit-networks": fruit,
    "cifar-augmentation": cifar,
    "cifar-networks": cifar,
    "breeds": groceries,
    "cars": groceries,
}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def run(name: str, work: Path) -> dict[str, Any]:
    """Run a study, or go on with it, and read what came out."""
    from tellapart.experiments.cell_statistics import summarise
    from tellapart.experiments.results import read_results
    from tellapart.experiments.study_page import study_details
    from tellapart.report.study_methods import methods
    from tellapart.report.study_table import records
    from tellapart.report.study_words import finding

    pictures, out = PICTURES[name](work), work / name
    environment = {**os.environ, "TELLAPART_CACHE": str(work / "cache")}
    start, cpu = time.monotonic(), os.times().children_user
    command = [sys.executable, "-m", "tellapart", "study", name, str(pictures), "--out", str(out)]
    subprocess.run(command, check=True, env=environment)
    results = read_results(out)
    summary = summarise(results)
    details = study_details(results, summary)
    return {
        "state": results.description.state,
        "about": details.about,
        "finding": finding(summary),
        "methods": methods(details),
        "metric": summary.metric,
        "n_validation": summary.n_pictures,
        "n_classes": len(results.description.classes),
        "seconds_of_this_run": round(time.monotonic() - start, 1),
        "processor_seconds_of_this_run": round(os.times().children_user - cpu, 1),
        "seconds_of_trainings": round(float(results.runs["seconds"].sum() or 0.0), 1),
        "cells": records(summary),
        "notes": list(summary.notes),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=Path, help="a folder for pictures, cache and studies")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(PICTURES)}; by default all")
    parser.add_argument("--pages", action="store_true", help="only write docs/studies from benchmarks/results")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    for name in () if given.pages else given.names or PICTURES:
        record.write(f"study_{name}", run(name, given.work.resolve()))
    write_pages()


if __name__ == "__main__":
    main()
