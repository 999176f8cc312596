"""CIFAR-10 in the form of a competition, and the score of a submission.

TELLAPART_TEST_DATA=… python -m benchmarks.cifar_competition make cifar/ --solution solution.csv
tellapart train cifar/ --out runs/cifar
tellapart predict runs/cifar cifar/test/ --submission submission.csv
python -m benchmarks.cifar_competition score submission.csv --solution solution.csv

`make` writes cifar/trainLabels.csv (id,label), cifar/train/1.png … 50000.png and cifar/test/1.png … 10000.png, numbered
in a shuffled order; the labels of the test pictures go to the solution, which must lie outside of the folder.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import random
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from PIL import Image

Row = tuple[int, str]


def pictures(archive: Path) -> Iterator[tuple[str, str, bytes]]:
    """Part, label and content of every picture: cifar10/PART/LABEL/NAME.jpg."""
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isfile():
                _, part, label, _ = PurePosixPath(member.name).parts
                file = tar.extractfile(member)
                assert file is not None
                yield part, label, file.read()


def make(folder: Path, solution: Path, only: int | None) -> None:
    """Write the competition's folder, and the solution beside it."""
    if folder.exists():
        sys.exit(f"{folder} exists already: name a new folder.")
    if solution.resolve().is_relative_to(folder.resolve()):
        sys.exit(f"The solution must not lie in {folder}.")
    found: dict[str, list[tuple[str, bytes]]] = {"train": [], "test": []}
    for part, label, content in pictures(Path(os.environ["TELLAPART_TEST_DATA"]) / "cifar10.tar.gz"):
        found[part].append((label, content))
    for part, table in (("train", folder / "trainLabels.csv"), ("test", solution)):
        random.Random(0).shuffle(found[part])
        (folder / part).mkdir(parents=True)
        rows: list[Row] = []
        for number, (label, content) in enumerate(found[part][:only], start=1):
            Image.open(io.BytesIO(content)).save(folder / part / f"{number}.png", compress_level=1)
            rows.append((number, label))
        with table.open("w", newline="") as file:
            csv.writer(file).writerows([("id", "label"), *rows])
        print(f"{len(rows):,} {part} pictures; labels: {table}")


def score(submission: Path, solution: Path) -> float:
    """Print and give the share of right labels. A row too many, too few or twice is an error, as in a competition."""
    given, wanted = rows(submission), rows(solution)
    if given.keys() != wanted.keys():
        missing, strange = len(wanted.keys() - given.keys()), len(given.keys() - wanted.keys())
        sys.exit(f"{submission}: {missing:,} rows are missing, {strange:,} are of no test picture.")
    right = sum(given[number] == label for number, label in wanted.items())
    print(f"accuracy {right / len(wanted):.4f} ({right:,} of {len(wanted):,})")
    return right / len(wanted)


def rows(table: Path) -> dict[str, str]:
    """Label by number."""
    with table.open(newline="") as file:
        header, *backbone = csv.reader(file)
    if header != ["id", "label"] or len({number for number, _ in backbone}) != len(backbone):
        sys.exit(f"{table}: expected the columns id,label and each number once.")
    return {row[0]: row[1] for row in backbone}


def main() -> None:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    making, scoring = commands.add_parser("make"), commands.add_parser("score")
    making.add_argument("folder", type=Path)
    making.add_argument("--only", type=int, help="at most so many pictures of each part")
    scoring.add_argument("submission", type=Path)
    for command in (making, scoring):
        command.add_argument("--solution", type=Path, required=True)
    given = parser.parse_args()
    if given.command == "make":
        make(given.folder, given.solution, given.only)
    else:
        score(given.submission, given.solution)


if __name__ == "__main__":
    main()
