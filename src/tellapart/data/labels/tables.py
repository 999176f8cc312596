"""Tables and lists of pictures, read as columns of text with row numbers, so that errors can name the row.

CSV (any of , ; tab | between fields), TSV, JSON lines, JSON, Parquet and spreadsheets; and lists without a header: a
path, then labels.

Columns have any name. Polars takes one such as ^a$ for a pattern, in `pl.col` and in most methods of a Series of that
name. So a column is asked for by `Table.column`, or by `selectors.by_name`.
"""

from __future__ import annotations

import csv
import itertools
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import polars.selectors as cs

from tellapart.data.labels import json_labels, spreadsheets
from tellapart.data.labels.delimited import (
    check_names,
    encoding_of,
    find_form,
    line_not_utf8,
    read_rows,
    take_header,
)
from tellapart.data.labels.names import plain
from tellapart.errors import DataError

#: Suffixes of files that may be tables or lists.
SUFFIXES = (".csv", ".tsv", ".txt", ".lst", ".parquet", ".jsonl", ".ndjson", ".json", *spreadsheets.SUFFIXES)
#: Row number (line number in text files) of each row.
ROW_NUMBER = "\0row"
_CHUNK = 100_000


@dataclass(frozen=True)
class Table:
    """A table as read.

    Attributes:
        name: the file's name, for messages.
        frame: `ROW_NUMBER` (UInt32) and the columns, String or List(String); empty cells of text files are "".
        has_header: False for a list: its columns are "path", "label", "label 2" …
        unit: what `ROW_NUMBER` counts: "line", "row" or "entry".
        unread: names of columns that hold neither text nor numbers, such as the pixels in a Parquet file.
    """

    name: str
    frame: pl.DataFrame
    has_header: bool
    unit: str = "line"
    unread: tuple[str, ...] = ()

    @property
    def columns(self) -> list[str]:
        """Names of the columns, without `ROW_NUMBER`."""
        return [name for name in self.frame.columns if name != ROW_NUMBER]

    def column(self, name: str) -> pl.Series:
        """The cells of a column, under no name: one such as ^a$ would be a pattern of names to polars."""
        return self.frame[name].alias("")

    def find(self, names: Iterable[str]) -> str | None:
        """The column that has the first of these names, whatever its case, blanks and signs."""
        return next(iter(self.find_all(names)), None)

    def find_all(self, names: Iterable[str]) -> list[str]:
        """The columns that have one of these names, in the order of the names."""
        by_name = {plain(column): column for column in reversed(self.columns)}
        return list(dict.fromkeys(by_name[key] for name in names if (key := plain(name)) in by_name))

    def at(self, number: int) -> str:
        """A row for messages: 'labels.csv, line 12'."""
        return f"{self.name}, {self.unit} {number}"


def read_table(path: Path, n_rows: int | None = None, has_header: bool | None = None) -> Table:
    """Read a table or list.

    Args:
        path: the file.
        n_rows: stop after so many rows.
        has_header: whether the first line of a text file names the columns; by default, if one holds paths.

    Raises:
        DataError: naming file and row: not there, not UTF-8, ragged, empty, not what its suffix says.
    """
    suffix = path.suffix.lower()
    try:
        if suffix == ".parquet":
            return _read_parquet(path, n_rows)
        if suffix in (".jsonl", ".ndjson"):
            return _read_json_lines(path, n_rows)
        if suffix == ".json":
            return _read_json(path)
        if suffix in spreadsheets.SUFFIXES:
            return _read_spreadsheet(path, has_header)
        return _read_text(path, n_rows, has_header)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def _read_text(path: Path, n_rows: int | None, has_header: bool | None) -> Table:
    try:
        with path.open(encoding=encoding_of(path), newline="") as file:
            form = find_form(iter(lambda: file.readline(), ""), path.suffix.lower(), has_header)
            file.seek(0)
            header, rows = take_header(path.name, read_rows(file, form), form.has_header)
            frame = _frame(header, itertools.islice(rows, n_rows))
            if not frame.height:
                raise DataError(f"{path.name} is empty: it has a header and no rows.")
            return Table(path.name, frame, form.has_header)
    except UnicodeError as error:
        line = f"{path.name}, line {line_not_utf8(path)}"
        raise DataError(
            f"{line}: this is not UTF-8 text.", "Save the file as UTF-8 (in Excel: 'CSV UTF-8')."
        ) from error
    except csv.Error as error:
        raise DataError(f"{path.name}: this is not a table: {error}.") from error


def _frame(header: list[str], rows: Iterator[tuple[int, list[str]]]) -> pl.DataFrame:
    names: list[str] = []
    for number, name in enumerate(header, start=1):
        name = name or f"column {number}"
        names.append(name if name not in names and (name == header[number - 1] or name not in header) else f"{name} *")
    schema = {ROW_NUMBER: pl.UInt32, **dict.fromkeys(names, pl.String)}
    chunks = [pl.DataFrame(schema=schema)]
    while chunk := list(itertools.islice(rows, _CHUNK)):
        chunks.append(pl.DataFrame([[number, *fields] for number, fields in chunk], schema=schema, orient="row"))
    return pl.concat(chunks)


def _read_json_lines(path: Path, n_rows: int | None) -> Table:
    with path.open("rb") as file:
        lines = ((number, line) for number, line in enumerate(file, start=1) if line.strip())
        rows = (_json_row(path.name, number, line) for number, line in itertools.islice(lines, n_rows))
        return Table(path.name, _json_frame(path.name, rows), has_header=True)


def _read_json(path: Path) -> Table:
    rows = ({**row, ROW_NUMBER: i} for i, row in enumerate(json_labels.read_records(path), start=1))
    return Table(path.name, _json_frame(path.name, rows), has_header=True, unit="entry")


def _json_frame(name: str, rows: Iterator[dict[str, Any]]) -> pl.DataFrame:
    chunks = []
    while chunk := list(itertools.islice(rows, _CHUNK)):
        names = dict.fromkeys(column for row in chunk for column in row)
        chunks.append(pl.DataFrame([_json_column(column, [row.get(column) for row in chunk]) for column in names]))
    if not chunks:
        raise DataError(f"{name} is empty.", 'It needs one line a picture: {"file_name": …, "label": …}.')
    check_names(name, list(dict.fromkeys(column for chunk in chunks for column in chunk.columns)))
    return pl.concat([_same_kind(c, chunks) for c in chunks], how="diagonal")


def _read_spreadsheet(path: Path, has_header: bool | None) -> Table:
    header, cells = spreadsheets.read_rows(path)
    first = [(1, header)] if has_header is False else []
    rows = itertools.chain(first, ((n, row) for n, row in enumerate(cells, start=2) if any(map(str.strip, row))))
    names, checked = take_header(path.name, itertools.chain([] if first else [(1, header)], rows), not first)
    return Table(path.name, _frame(names, checked), not first, unit="row")


def _json_row(name: str, number: int, line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line.decode("utf-8-sig"))
        if b"\\u" in line:  # half of a pair of escapes is no character
            json.dumps(row, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name}, line {number}: this is not JSON: {error}.") from error
    if not isinstance(row, dict):
        raise DataError(f'{name}, line {number}: an object is expected, such as {{"file_name": …}}.')
    return {**row, ROW_NUMBER: number}


def _json_column(name: str, values: list[Any]) -> pl.Series:
    if name == ROW_NUMBER:
        return pl.Series(name, values, dtype=pl.UInt32)
    if any(isinstance(value, list) for value in values):
        lists = [
            None if v is None else [_as_text(x) for x in v] if isinstance(v, list) else [_as_text(v)] for v in values
        ]
        return pl.Series(name, lists, dtype=pl.List(pl.String))
    return pl.Series(name, [_as_text(value) for value in values], dtype=pl.String)


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return json.dumps(value, ensure_ascii=False)


def _same_kind(chunk: pl.DataFrame, chunks: list[pl.DataFrame]) -> pl.DataFrame:
    """Text becomes a list of one where the column is a list elsewhere."""
    lists = {name for c in chunks for name, kind in c.schema.items() if kind == pl.List(pl.String)}
    single = [name for name in lists if chunk.schema.get(name) == pl.String]
    cells = {name: cs.by_name(name) for name in single}
    return chunk.with_columns(pl.when(c.is_not_null()).then(pl.concat_list(c)).alias(n) for n, c in cells.items())


def _read_parquet(path: Path, n_rows: int | None) -> Table:
    try:
        scan = pl.scan_parquet(path, n_rows=n_rows, glob=False)
        schema = scan.collect_schema()
        wanted = [name for name, kind in schema.items() if _is_plain(kind)]
        frame = scan.select(cs.by_name(*wanted)).collect()
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path.name} cannot be read as Parquet: {error}") from error
    if not frame.height:
        raise DataError(f"{path.name} is empty.", "It needs the columns file_name and label, and one row a picture.")
    check_names(path.name, frame.columns)
    columns = [_parquet_column(frame[name].alias("")).alias(name) for name in frame.columns]
    numbers = pl.Series(ROW_NUMBER, range(1, frame.height + 1), dtype=pl.UInt32)
    unread = tuple(name for name in schema if name not in wanted)
    return Table(path.name, pl.DataFrame([numbers, *columns]), has_header=True, unit="row", unread=unread)


def _is_plain(kind: Any) -> bool:
    inner = kind.inner if isinstance(kind, pl.List) else kind
    return (
        inner.is_numeric() or inner in (pl.String, pl.Boolean, pl.Null) or isinstance(inner, pl.Categorical | pl.Enum)
    )


def _parquet_column(column: pl.Series) -> pl.Series:
    """Text, whatever it was: numbers without a needless .0."""
    if isinstance(column.dtype, pl.List):
        return column.cast(pl.List(pl.String))
    if column.dtype.is_float():
        column = column.fill_nan(None)
        if (column.drop_nulls() == column.drop_nulls().round()).all():
            return column.cast(pl.Int64).cast(pl.String)
    return column.cast(pl.String)
