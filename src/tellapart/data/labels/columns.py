"""The columns of a table: labels, part and group of each picture."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from tellapart.core.text import first_few
from tellapart.data.labels.tables import LABEL, LABELS, PATHS, ROW_NUMBER, Table
from tellapart.errors import DataError, UsageError

SPLIT = ("split", "subset", "part", "partition")
GROUP = ("group", "group_id")

_PARTS = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
}
_TRUE, _FALSE = ("1", "true", "True", "TRUE", "1.0"), ("0", "false", "False", "FALSE", "0.0", "-1", "")
_DELIMITERS = ";|,"


@dataclass(frozen=True)
class Labelled:
    """A table whose columns have been read.

    Attributes:
        frame: `ROW_NUMBER`, `path` as written, `labels` (List(String)), `split` ("train", "validation", "test" or
            null), `group` (or null).
        single: True where the table has one label a picture by its form: a column called label.
        notes: what was decided, in words.
        columns: names of the columns with pictures and labels, as written.
    """

    frame: pl.DataFrame
    single: bool
    notes: tuple[str, ...]
    columns: tuple[str, str]


def part_of(name: str) -> str | None:
    """The part of the data that a name of a folder or file, or a cell, stands for."""
    return _PARTS.get(name.strip().lower())


def can_label(table: Table) -> bool:
    """Whether the columns say which picture has which label."""
    if table.find(PATHS) is None:
        return False
    return not table.has_header or table.find((*LABELS, *LABEL)) is not None or bool(_flags(table))


def understand(table: Table, delimiter: str | None = None) -> Labelled:
    """Find the columns and read the labels out of them.

    Args:
        table: as read.
        delimiter: between the labels in one cell of a `labels` column; detected if None, none if "".

    Raises:
        DataError: columns missing, cells that make no sense, with file and row.
        UsageError: a delimiter for a table that has no labels column.
    """
    path = table.find(PATHS)
    if path is None or isinstance(table.frame.schema[path], pl.List):
        raise DataError(
            f"{table.name} has no column with the pictures' paths (it has: {', '.join(table.columns)}).",
            "Call it file_name; beside it goes label, or labels if a picture may have several.",
        )
    labels, single, notes = _labels(table, path, delimiter)
    frame = table.frame.select(ROW_NUMBER, path=path).with_columns(
        labels=labels, split=_split(table), group=_text(table, table.find(GROUP))
    )
    nameless = frame.filter(pl.col("path").is_null() | (pl.col("path").str.strip_chars() == ""))
    if nameless.height:
        raise DataError(f"{table.at(nameless[ROW_NUMBER][0])}: the column {path!r} is empty.")
    return Labelled(frame, single, tuple(notes), (path, table.find((*LABEL, *LABELS)) or "labels"))


Labels = tuple[pl.Series, bool, list[str]]  # the lists, whether there is one a picture by form, what was decided


def _labels(table: Table, path: str, delimiter: str | None) -> Labels:
    multilabel, one = table.find(LABELS), table.find(LABEL)
    if multilabel and one:
        raise DataError(
            f"{table.name} has a column {one!r} and a column {multilabel!r}: which one holds the labels is not clear.",
            "Rename or remove one of them.",
        )
    if one and isinstance(table.frame.schema[one], pl.List):
        multilabel, one = one, None
    if multilabel:
        return _several(table.frame[multilabel], delimiter)
    if delimiter is not None:
        raise UsageError(
            f"A delimiter divides the cells of a column 'labels'; {table.name} has no such column.",
            f"Its columns are: {', '.join(table.columns)}.",
        )
    return _one(table, one) if one else _one_column_each(table, path)


def _one(table: Table, column: str) -> Labels:
    cells = table.frame[column].fill_null("").str.strip_chars()
    n_labels = 1 + sum(name.startswith("label ") for name in table.columns)
    unused = not table.has_header and n_labels > 1
    return _split_at(cells, ""), True, [f"of {n_labels} labels in a line the first was taken"] if unused else []


def _several(cells: pl.Series, delimiter: str | None) -> Labels:
    if isinstance(cells.dtype, pl.List):
        filled = cells.fill_null([]).list.eval(pl.element().filter(pl.element() != ""))
        return filled.list.unique(maintain_order=True), False, []
    cells = cells.fill_null("").str.strip_chars()
    notes: list[str] = []
    if delimiter is None:
        delimiter, notes = _find_delimiter(cells)
    return _split_at(cells, delimiter), False, notes


def _split_at(cells: pl.Series, delimiter: str) -> pl.Series:
    parts = cells.str.split(delimiter) if delimiter else cells.to_frame().select(pl.concat_list(pl.all())).to_series()
    element = pl.element().str.strip_chars()
    return parts.list.eval(element.filter(element != "")).list.unique(maintain_order=True).alias("labels")


def _find_delimiter(cells: pl.Series) -> tuple[str, list[str]]:
    """The delimiter between labels, and a note on how sure it is."""
    present = [d for d in _DELIMITERS if cells.str.contains(d, literal=True).any()]
    if present:
        others = " ".join(present[1:])
        doubt = f", though cells also hold {others}" if others else ""
        return present[0], [f"labels divided at {present[0]}{doubt}"]
    if not cells.str.contains(" ", literal=True).any():
        return "", []
    # Blanks divide labels if the words are met again in other company: "cat dog" and "dog". A name of two words
    # is not: "basset hound" and "afghan hound" share one word, but the others stand in one place only.
    distinct = cells.unique().str.split(" ")
    words = distinct.explode(empty_as_null=False)
    counts = words.value_counts(name="n")
    in_company = distinct.filter(distinct.list.len() > 1).explode(empty_as_null=False).unique()
    again = counts.filter((pl.col("n") > 1) & pl.col(counts.columns[0]).is_in(in_company.implode()))
    if 2 * again.height > len(in_company):
        return " ", ["labels divided at blanks (with the delimiter '' a cell is one label)"]
    return "", ["cells with blanks were taken as one label (the delimiter ' ' divides them)"]


def _one_column_each(table: Table, path: str) -> Labels:
    flags = _flags(table)
    if not flags:
        raise DataError(
            f"{table.name} has no column with labels (it has: {', '.join(table.columns)}).",
            "Add a column label, or labels if a picture may have several, or one column a label with 0 and 1.",
        )
    used = {path, *flags, table.find(SPLIT), table.find(GROUP)}
    unused = [name for name in table.columns if name not in used]
    notes = ["one column a label"] + ([f"columns not used: {first_few(unused)}"] if unused else [])
    names = [pl.when(pl.col(flag).is_in(_TRUE)).then(pl.lit(flag.strip())) for flag in flags]
    lists = table.frame.select(pl.concat_list(names).list.drop_nulls()).to_series()
    return lists.alias("labels"), False, notes


def _flags(table: Table) -> list[str]:
    """Columns of nothing but 0 and 1, except those with a meaning of their own."""
    taken = {table.find(PATHS), table.find(SPLIT), table.find(GROUP)}
    columns = [c for c in table.columns if c not in taken and table.frame.schema[c] == pl.String]
    return [c for c in columns if _is_flag(table.frame[c].fill_null(""))]


def _is_flag(cells: pl.Series) -> bool:
    return bool(cells.is_in([*_TRUE, *_FALSE]).all() and (cells != "").any())


def _split(table: Table) -> pl.Series:
    column = table.find(SPLIT)
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
    """A column of text in which empty cells are null."""
    if column is None or isinstance(table.frame.schema[column], pl.List):
        return pl.Series([None] * table.frame.height, dtype=pl.String)
    cells = table.frame[column].str.strip_chars()
    return cells.set(cells == "", None)
