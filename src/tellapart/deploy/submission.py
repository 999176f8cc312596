"""The answer of a competition: a CSV with one row a picture, its number and its label."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tellapart.core.csv_text import csv_text
from tellapart.core.files import check_suffix, replacing
from tellapart.deploy.answer import Answer
from tellapart.deploy.output_formats import Summary
from tellapart.errors import UsageError

#: Names of the two columns where the training's table does not tell them.
COLUMNS = ("id", "label")
#: Formats of a submission, by suffix.
SUBMISSIONS = (".csv",)


def write_submission(answers: Iterable[Answer], out: Path, columns: tuple[str, str] = COLUMNS) -> Summary:
    """Write a submission: in the first column a picture's name without folder and suffix, in the second its label.

    Rows are in the order of the names, numbers as numbers. Several labels of a picture stand in one cell with blanks
    between them. A picture that cannot be read has a row too, with an empty cell, since a submission must name every
    picture. Texts are written as they are, without the guard against formulas that other CSV files have.

    Args:
        answers: from `predictor.answers`.
        out: the file, written whole or not at all.
        columns: their names.

    Raises:
        UsageError: two pictures of one name, or a file of another kind.
    """
    check_suffix(out, SUBMISSIONS, "--submission")
    summary = Summary()
    rows: dict[str, tuple[str, str]] = {}
    for answer in summary.counting(answers):
        name = Path(answer.path).stem
        if name in rows:
            raise UsageError(
                f"Two pictures have the name {name!r}: {rows[name][1]} and {answer.path}.",
                "A submission has one row a name. Give one folder of pictures.",
            )
        rows[name] = (" ".join(answer.chosen), answer.path)
    with replacing(out) as beside, beside.open("w", encoding="utf-8", newline="") as file:
        file.write(csv_text([columns, *((name, rows[name][0]) for name in sorted(rows, key=_by_number))]))
    return summary


def _by_number(name: str) -> tuple[int, int, str]:
    """Numbers first, by their value; then other names."""
    return (0, int(name), name) if name.isdecimal() else (1, 0, name)
