"""The columns of a table read: labels, part and group of each picture."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from tellapart.data.labels.cells import BLANK, Cells, one_column_each, one_label, several_labels, yes_or_no
from tellapart.data.labels.names import FOLD, SPLIT, plain
from tellapart.data.labels.parts import part_of
from tellapart.data.labels.roles import NOT_NAMED, FitsPictures, Named, Roles, part_of_column, roles_of
from tellapart.data.labels.tables import ROW_NUMBER, Table
from tellapart.errors import DataError, UsageError


@dataclass(frozen=True)
class Labelled:
    """A table whose columns have been read.

    Attributes:
        frame: `ROW_NUMBER`, `path` as written, `labels` and `unknown` (List(String)), `split` ("train", "validation",
            "test" or null), `group` (or null).
        single: True where the table has one label a picture by its form: a column called label.
        notes: what was decided, in words.
        columns: names of the columns with pictures and labels, as written.
        names: with one column a label, the names of all.
        unused: names of the columns that were not used.
    """

    frame: pl.DataFrame
    single: bool
    notes: tuple[str, ...]
    columns: tuple[str, str]
    names: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()


def understand(
    table: Table, delimiter: str | None = None, fits: FitsPictures | None = None, named: Named = NOT_NAMED
) -> Labelled:
    """Find the columns and read the labels out of them.

    Args:
        table: as read.
        delimiter: between the labels in one cell of a `labels` column; detected if None, none if "".
        fits, named: see `roles_of`.

    Raises:
        DataError: columns missing, cells that make no sense, with file and row.
        UsageError: a delimiter for a table that has no labels column.
    """
    roles = roles_of(table, fits, named)
    if roles.path is None:
        raise DataError(
            f"{table.name} has no column with the pictures' paths (it has: {', '.join(table.columns)}).",
            "Name it with --image-column; or call it file_name, and the other label, or labels for several.",
        )
    cells = _cells(table, roles, delimiter)
    split, group = _split(table, roles), _group(table, roles.group)
    frame = table.frame.select(ROW_NUMBER, path=table.column(roles.path))
    nobody = pl.Series("unknown", [[]] * frame.height, dtype=pl.List(pl.String))
    unknown = nobody if cells.unknown is None else cells.unknown
    frame = frame.with_columns(labels=cells.labels, unknown=unknown, split=split, group=group)
    nameless = frame.filter(pl.col("path").is_null() | (pl.col("path").str.strip_chars() == ""))
    if nameless.height:
        raise DataError(f"{table.at(nameless[ROW_NUMBER][0])}: the column {roles.path!r} is empty.")
    columns = (roles.path, roles.label or roles.labels or "labels")
    return Labelled(frame, cells.single, _notes(roles, cells), columns, cells.names, roles.unused)


def _cells(table: Table, roles: Roles, delimiter: str | None) -> Cells:
    if roles.labels:
        return several_labels(table, roles.labels, delimiter)
    if delimiter is not None:
        raise UsageError(
            f"A delimiter divides the cells of a column 'labels'; {table.name} has no such column.",
            f"Its columns are: {', '.join(table.columns)}. Name one with --label-column.",
        )
    if roles.label:
        return one_label(table, roles.label)
    if roles.flags:
        return one_column_each(table, roles.flags)
    raise DataError(
        f"{table.name} has no column with labels (it has: {', '.join((*table.columns, *table.unread))}).",
        "Name it with --label-column; or call it label, or labels for several; or have one column of 0 and 1 a label.",
    )


def _notes(roles: Roles, cells: Cells) -> tuple[str, ...]:
    notes = [f"labels from the column {roles.label or roles.labels!r}"] if roles.guessed else []
    unused = [f"columns not used: {', '.join(roles.unused)}"] if roles.unused else []
    notes += [*cells.notes[:1], *unused, *cells.notes[1:]]
    if roles.split and plain(roles.split) != plain(SPLIT[0]):
        notes.append(f"parts from the column {roles.split!r}")
    if roles.is_part:
        notes.append(f"parts from {' and '.join(map(repr, roles.is_part))}")
    folds = [name for name in roles.unused if plain(name) in map(plain, FOLD)]
    if folds:
        notes.append(
            f"folds in {' and '.join(map(repr, folds))} are not used, cross-validate deals its own; in a column "
            "'group', with --folds their number, they are its folds"
        )
    if roles.group and roles.group != ("group",):
        notes.append(f"groups from {' and '.join(map(repr, roles.group))}")
    return tuple(notes)


def _split(table: Table, roles: Roles) -> pl.Series:
    """The part of each picture: by its name in a column, and by columns of yes and no.

    Raises:
        DataError: a cell that is no part, or columns that contradict each other, with the row.
    """
    parts = _named_parts(table, roles.split)
    if not roles.is_part:
        return parts
    own = {column: part for column in roles.is_part if (part := part_of_column(column))}
    answers = [yes_or_no(table.column(column)).to_list() for column in own]
    covered = set(own.values())
    rest = next((part for part in ("train", "test", "validation") if part not in covered), None)
    by_row: list[str | None] = []
    for number, part, row in zip(table.frame[ROW_NUMBER], parts, zip(*answers, strict=True), strict=True):
        yes = {own[column] for column, answer in zip(own, row, strict=True) if answer}
        no = {own[column] for column, answer in zip(own, row, strict=True) if answer is False}
        if len(yes) > 1 or (part and (yes - {part} or part in no)):
            columns = " and ".join(repr(name) for name in (roles.split, *own) if name)
            raise DataError(
                f"{table.at(number)}: {columns} contradict each other.",
                "Correct the row, or remove one of these columns.",
            )
        by_row.append(part or next(iter(yes), rest if no else None))
    return pl.Series("split", by_row, dtype=pl.String)


def _group(table: Table, columns: tuple[str, ...]) -> pl.Series:
    """What each picture belongs to. With several columns, pictures that share a value of any are one group."""
    cells = [_text(table, column) for column in columns]
    if len(cells) < 2:
        return cells[0] if cells else _text(table, None)
    root: dict[tuple[str, str], tuple[str, str]] = {}

    def find(value: tuple[str, str]) -> tuple[str, str]:
        while (above := root.setdefault(value, value)) != value:
            root[value] = value = root[above]
        return value

    rows = [
        [(column, cell) for column, cell in zip(columns, row, strict=True) if cell is not None]
        for row in zip(*cells, strict=True)
    ]
    for values in rows:
        for value in values[1:]:
            root[find(value)] = find(values[0])
    groups = [" ".join(find(values[0])) if values else None for values in rows]
    return pl.Series("group", groups, dtype=pl.String)


def _named_parts(table: Table, column: str | None) -> pl.Series:
    cells = _text(table, column)
    if column is None:
        return cells
    values = {value: part_of(value) for value in cells.drop_nulls().unique()}
    unknown = next((value for value in sorted(values) if values[value] is None), None)
    if unknown is not None:
        number = table.frame.filter(cells == unknown)[ROW_NUMBER][0]
        raise DataError(
            f"{table.at(number)}: {unknown!r} in the column {column!r} is not a part of the data.",
            "Parts are called train, validation (or val, valid) and test; an empty cell leaves it open.",
        )
    return cells.replace_strict(list(values), list(values.values()), return_dtype=pl.String) if values else cells


def _text(table: Table, column: str | None) -> pl.Series:
    """A column of text in which empty cells are null, and those that pandas writes for them."""
    if column is None or isinstance(table.frame.schema[column], pl.List):
        return pl.Series([None] * table.frame.height, dtype=pl.String)
    cells = table.column(column).str.strip_chars()
    return cells.set(cells.str.to_lowercase().is_in(BLANK), None)
