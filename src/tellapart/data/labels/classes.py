"""The class list: made once from the labels, or read from a class file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import polars as pl

from tellapart.core.text import first_few
from tellapart.data.labels.tables import Table, read_table
from tellapart.errors import DataError

#: Files in the root that are taken for a class file when labels are integers.
FILES = ("classes.csv", "classes.txt", "class_names.txt", "class_names.csv", "names.txt")


def order(names: pl.Series) -> list[str]:
    """Distinct labels, sorted; by value where all are integers."""
    distinct = names.drop_nulls().unique().to_list()
    return sorted(distinct, key=int) if all_integers(names) else sorted(distinct)


def all_integers(names: pl.Series) -> bool:
    """True where there are labels and each is a whole number without a sign."""
    return bool(len(names) and names.str.contains(r"^(0|[1-9][0-9]*)$").all())


def read_class_file(path: Path) -> dict[str, str]:
    """Number (as text) → name, in the file's order.

    A text file has one name a line, counted from 0. A table has a header: the first column with "name" in its name is
    taken, and the first with "id" (or "index", "number"); without that one the rows are counted from 0.

    Raises:
        DataError: the file is missing, not a class file, or gives a number or name twice.
    """
    numbers, names = _from_lines(path) if path.suffix.lower() == ".txt" else _from_table(path)
    for noun, values in (("number", numbers), ("name", names)):
        twice = [value for value, n in Counter(values).items() if n > 1]
        if twice:
            raise DataError(f"{path.name}: the {noun} {twice[0]!r} stands for {values.count(twice[0])} classes.")
    return dict(zip(numbers, names, strict=True))


def _from_lines(path: Path) -> tuple[list[str], list[str]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # not at other signs that end a line
    except (OSError, UnicodeError) as error:
        raise DataError(f"{path} cannot be read as a list of class names: {error}.") from error
    names = [line.strip() for line in lines if line.strip()]
    return [str(i) for i in range(len(names))], names


def _from_table(path: Path) -> tuple[list[str], list[str]]:
    numbers_in: str | None
    names_in: str | None
    table = read_table(path, has_header=True)
    if any(name.strip().isdecimal() for name in table.columns):  # a row of numbers is no header
        table = read_table(path, has_header=False)
        first = table.frame[table.columns[0]]
        columns = table.columns[:2] if all_integers(first) else table.columns[1::-1]
        numbers_in, names_in = columns if len(columns) == 2 else (None, columns[0])
    else:
        numbers_in, names_in = _like(table, "id", "index", "number"), _like(table, "name", "class", "label")
    if names_in is None:
        raise DataError(
            f"{path.name} has no column with class names (it has: {', '.join(table.columns)}).",
            "It needs columns called name and id; or write a text file (.txt) with one name a line.",
        )
    names = [str(name or "").strip() for name in table.frame[names_in]]
    numbers = [str(n).strip() for n in table.frame[numbers_in]] if numbers_in else [str(i) for i in range(len(names))]
    return numbers, names


def _like(table: Table, *words: str) -> str | None:
    """The first column whose name holds one of these words, the first word first."""
    return next((c for word in words for c in table.columns if word in c.lower().replace("_", " ").split()), None)


def name_labels(labels: pl.Series, class_file: Path) -> tuple[pl.Series, list[str]]:
    """Replace numbers by the names of a class file.

    Args:
        labels: List(String): numbers, or names that the file has.
        class_file: see `read_class_file`.

    Returns:
        The lists, and the names that occur, in the file's order.

    Raises:
        DataError: a label that the file does not have.
    """
    names = read_class_file(class_file)
    distinct = labels.explode(empty_as_null=False).drop_nulls().unique()
    known = dict(names) if all_integers(distinct) else {name: name for name in names.values()}
    unknown = sorted(set(distinct) - set(known))
    if unknown:
        raise DataError(
            f"{class_file.name} does not name these labels: {first_few(unknown, 5)}.",
            f"It names {len(names)}: {first_few(names.values(), 5)}.",
        )
    used = [name for number, name in known.items() if number in set(distinct)]
    renamed = labels.list.eval(pl.element().replace_strict(list(known), list(known.values()), return_dtype=pl.String))
    return renamed, used
