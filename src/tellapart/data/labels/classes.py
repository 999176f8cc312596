"""The class list: made once from the labels, or read from a class file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from pathlib import Path

import polars as pl

from tellapart.core.text import first_few
from tellapart.core.unicode_names import composed
from tellapart.data.labels import class_maps
from tellapart.data.labels.tables import Table, read_table
from tellapart.errors import DataError

#: Files in the root that are taken for a class file when labels are integers.
FILES = ("classes.csv", "classes.txt", "class_names.txt", "class_names.csv", "names.txt")


def order(names: pl.Series) -> list[str]:
    """Distinct labels, sorted; by value where all are integers."""
    distinct = names.drop_nulls().unique().to_list()
    return sorted(distinct, key=lambda name: (int(name), name)) if all_integers(names) else sorted(distinct)


def all_integers(names: pl.Series) -> bool:
    """True where there are labels and each is a whole number without a sign, such as 7 or 07."""
    return bool(len(names) and names.str.contains(r"^[0-9]{1,18}$").all())


def find_class_files(root: Path, files: Collection[str], names: pl.Series) -> list[str]:
    """Files of the root that may name labels which are numbers or synsets, the most likely first."""
    usual = [name for name in FILES if name in files] if all_integers(names) else []
    distinct = set(names.drop_nulls().unique())
    maps = class_maps.find_maps(root, files, distinct) if class_maps.are_keys(distinct) else []
    return list(dict.fromkeys([*usual, *maps]))


def read_class_file(path: Path) -> tuple[dict[str, str], bool]:
    """Number (as text) → name, in the file's order; and whether the numbers were counted because the file has none.

    A text file has one name a line, counted from 0, or a number and a name. A table has a header: the first column with
    "name" in its name is taken, and the first with "id" (or "index", "number"); without that one the rows are counted
    from 0. Files that map keys to names are read before: see `class_maps`.

    Raises:
        DataError: the file is missing, not a class file, or gives a number or name twice.
    """
    if path.suffix.lower() == ".json":
        raise DataError(f"{path.name} does not name all labels.", 'It maps each label to its name: {"1": "cat"}.')
    numbers, names = _from_lines(path) if path.suffix.lower() == ".txt" else _from_table(path)
    is_counted = numbers is None
    numbers = [str(i) for i in range(len(names))] if numbers is None else numbers
    for noun, values in (("number", numbers), ("name", list(map(composed, names)))):
        twice = [value for value, n in Counter(values).items() if n > 1]
        if twice:
            raise DataError(f"{path.name}: the {noun} {twice[0]!r} stands for {values.count(twice[0])} classes.")
    return dict(zip(numbers, names, strict=True)), is_counted


def _from_lines(path: Path) -> tuple[list[str] | None, list[str]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # not at other signs that end a line
    except (OSError, UnicodeError) as error:
        raise DataError(f"{path} cannot be read as a list of class names: {error}.") from error
    names = [line.strip() for line in lines if line.strip()]
    numbered = [match for name in names if (match := re.fullmatch(r"([0-9]+)[\s:,;]+(\S.*)", name))]
    numbers = [int(match[1]) for match in numbered]
    if names and len(numbered) == len(names) and numbers in (list(range(len(names))), list(range(1, len(names) + 1))):
        return [str(number) for number in numbers], [match[2] for match in numbered]
    return None, names


def _from_table(path: Path) -> tuple[list[str] | None, list[str]]:
    numbers_in: str | None
    names_in: str | None
    table = read_table(path, has_header=True)
    if any(name.strip().isdecimal() for name in table.columns):  # a row of numbers is no header
        table = read_table(path, has_header=False)
        first = table.column(table.columns[0])
        columns = table.columns[:2] if all_integers(first) else table.columns[1::-1]
        numbers_in, names_in = columns if len(columns) == 2 else (None, columns[0])
    else:
        numbers_in, names_in = _like(table, "id", "index", "number"), _like(table, "name", "class", "label")
    if names_in is None:
        raise DataError(
            f"{path.name} has no column with class names (it has: {', '.join(table.columns)}).",
            "It needs columns called name and id; or write a text file (.txt) with one name a line.",
        )
    names = [str(name or "").strip() for name in table.column(names_in)]
    return [str(n).strip() for n in table.column(numbers_in)] if numbers_in else None, names


def _like(table: Table, *words: str) -> str | None:
    """The first column whose name holds one of these words, the first word first."""
    return next((c for word in words for c in table.columns if word in c.lower().replace("_", " ").split()), None)


def name_labels(labels: pl.Series, class_file: Path) -> tuple[dict[str, str], list[str]]:
    """Names for labels that are numbers, or names that the file has.

    Numbers may be padded (01). Where the file has none of its own, its names are counted from 0; from 1 where the
    labels begin at 1 and reach the number of names.

    Args:
        labels: String.
        class_file: see `read_class_file`.

    Returns:
        Label → name of those that occur, in the file's order; and notes on how they were counted.

    Raises:
        DataError: a label that the file does not have.
    """
    distinct = set(labels.drop_nulls().unique())
    notes = [f"classes named by {class_file.name}"]
    by_key = class_maps.names_of(class_file, distinct) if class_maps.are_keys(distinct) else None
    if by_key is not None:
        return {label: by_key[label] for label in order(labels)}, notes
    names, is_counted = read_class_file(class_file)
    if all_integers(labels):
        values = {label: int(label) for label in distinct}
        first = 0
        if is_counted and min(values.values()) > 0:
            first = int(max(values.values()) == len(names))
            notes.append(f"its names are counted from {first}" + ("" if first else ", though no label is 0"))
        by_number = {int(number) + first: name for number, name in names.items() if number.isdecimal()}
        known = {label: by_number[value] for label, value in values.items() if value in by_number}
    else:
        by_spelling = {composed(name): name for name in names.values()}
        known = {label: by_spelling[composed(label)] for label in distinct if composed(label) in by_spelling}
    unknown = sorted(distinct - set(known))
    if unknown:
        raise DataError(
            f"{class_file.name} does not name these labels: {first_few(unknown, 5)}.",
            f"It names {len(names)}: {first_few(names.values(), 5)}.",
        )
    position = {name: i for i, name in enumerate(names.values())}
    return dict(sorted(known.items(), key=lambda pair: (position[pair[1]], pair[0]))), notes
