"""Names of pictures from a list or a column of a table, row by row: a table of any length takes no more memory."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from tellapart.core.remote import remote_url
from tellapart.data.decoding.decode import EXTENSIONS
from tellapart.deploy.inputs.remote import remote_picture
from tellapart.deploy.inputs.suffixes import JSON, PLAIN
from tellapart.deploy.read_pictures import NamedPicture
from tellapart.errors import DataError, UnreadableError, UsageError

if TYPE_CHECKING:
    import polars as pl

_CHUNK = 20_000
#: Characters of a line: a longer one is no row of names.
_LONGEST = 1 << 20
# A line "images/a.jpg 3 2" names a picture and goes on. One that ends in a picture's suffix is a name with blanks.
_FIRST_NAME = re.compile(
    rf"(.*?(?:{'|'.join(re.escape(suffix) for suffix in EXTENSIONS)}))[\"']?[\s,;|].*", re.IGNORECASE | re.DOTALL
)
Named = Iterator[tuple[int, str]]


def listed_pictures(path: Path, column: str | None = None) -> Iterator[Path | NamedPicture]:
    """The pictures that a list or table names, in its order.

    Names are relative to the table's folder; where the first one does not lie there, to the current folder. A cell that
    is empty comes with that as the reason.

    Args:
        path: one name a line (.txt, .lst), a table (.csv, .tsv, .jsonl) or Parquet.
        column: of a table that holds the names; by default the one that is called as such columns are.

    Raises:
        DataError: at once: it cannot be read, or has no such column. Later, with the line: it is garbled there.
        UsageError: a column of a plain list.
    """
    names = _names(path, column)
    first = next(names, None)
    if first is None:
        raise DataError(f"{path} names no pictures.")
    folder = path.parent
    beside = os.path.lexists(folder / first[1]) or not os.path.lexists(first[1])
    root = folder if beside else Path()
    return (_picture(path, root, number, name) for number, name in chain([first], names))


def name_of_line(line: str) -> str:
    """The picture that a line of a plain list names: the line, or its beginning where more follows the name."""
    text = line.strip().strip('"')
    if os.path.splitext(text)[1].lower() in EXTENSIONS:
        return text
    match = _FIRST_NAME.fullmatch(text)
    return match[1].lstrip("\"'") if match else text


def _picture(path: Path, root: Path, number: int, name: str) -> Path | NamedPicture:
    if name and "\0" not in name:
        return remote_picture(name) if remote_url(name) else root / name
    row = f"{path}, row {number}"

    def refuse() -> bytes:
        raise UnreadableError(row, "this row names no picture")

    return NamedPicture(row, refuse)


def _names(path: Path, column: str | None) -> Named:
    suffix = path.suffix.lower()
    if suffix in PLAIN and column is None:
        return _lines(path)
    try:
        if suffix == ".parquet":
            return _parquet(path, column)
        return _json_lines(path, column) if suffix in JSON else _table(path, column)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def _lines(path: Path) -> Named:
    """Names that are no UTF-8 stay what they are, as the system's own names do."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        for number, line in enumerate(iter(lambda: file.readline(_LONGEST), ""), start=1):
            if line.strip():
                yield number, name_of_line(line)


def _table(path: Path, column: str | None) -> Named:
    from tellapart.data.labels.delimited import encoding_of, find_form, read_rows, take_header

    file = path.open(encoding=encoding_of(path), newline="")
    try:
        form = find_form(iter(lambda: file.readline(_LONGEST), ""), path.suffix.lower())
        file.seek(0)
        bounded = iter(lambda: file.readline(_LONGEST), "")
        header, rows = take_header(path.name, read_rows(bounded, form), form.has_header)
        first = next(rows, None)
        cells = dict(zip(header, first[1], strict=False)) if first else {}
        index = header.index(_column(path, header, column, cells)) if form.has_header or column else 0
    except (UnicodeError, csv.Error, DataError, UsageError) as error:
        file.close()
        raise _as_data_error(path, error) from error

    def names() -> Named:
        with file:
            try:
                for number, fields in chain([first] if first else [], rows):
                    yield number, fields[index].strip()
            except (UnicodeError, csv.Error) as error:
                raise _as_data_error(path, error) from error

    return names()


def _as_data_error(path: Path, error: Exception) -> Exception:
    if isinstance(error, (DataError, UsageError)):
        return error
    reason = "this is not UTF-8 text" if isinstance(error, UnicodeError) else f"this is not a table: {error}"
    return DataError(f"{path.name}: {reason}.")


def _json_lines(path: Path, column: str | None) -> Named:
    rows = _json_rows(path)
    first = next(rows, None)
    if first is None:
        raise DataError(f"{path} names no pictures.")
    name = _column(path, first[1], column, first[1])

    def names() -> Named:
        for number, row in chain([first], rows):
            value = row.get(name)
            yield number, value.strip() if isinstance(value, str) else ""

    return names()


def _json_rows(path: Path) -> Iterator[tuple[int, dict[str, object]]]:
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(_LONGEST), b""), start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8-sig"))
            except (ValueError, RecursionError) as error:
                raise DataError(f"{path.name}, line {number}: this is not JSON: {error}.") from error
            if not isinstance(row, dict):
                raise DataError(f'{path.name}, line {number}: an object is expected, such as {{"path": …}}.')
            yield number, row


def _parquet(path: Path, column: str | None) -> Named:
    import polars as pl

    try:
        table = pl.scan_parquet(path, glob=False)
        texts = [name for name, kind in table.collect_schema().items() if kind == pl.String]
        first = table.select(texts).head(1).collect().to_dicts()
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path.name} cannot be read as Parquet: {error}") from error
    name = _column(path, texts, column, first[0] if first else {})
    return _parquet_names(path, table.select(name))


def _parquet_names(path: Path, table: pl.LazyFrame) -> Named:
    import polars as pl

    number = 0
    try:
        for chunk in table.collect_batches(chunk_size=_CHUNK):
            for name in chunk.to_series().to_list():
                number += 1
                yield number, (name or "").strip()
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path.name} cannot be read as Parquet: {error}") from error


def _column(path: Path, columns: Iterable[str], column: str | None, first: Mapping[str, object]) -> str:
    """The column that is asked for; else one whose first cell ends as a picture's name does, or that is called so."""
    from tellapart.data.labels.names import PATHS, plain

    names = list(columns)
    if column is not None:
        if column in names:
            return column
        raise UsageError(f"{path} has no column {column!r} of texts.", f"It has: {', '.join(names) or 'none'}.")
    by_name = {plain(name): name for name in reversed(names)}
    named = [by_name[key] for key in map(plain, PATHS) if key in by_name]
    pictures = [name for name in names if os.path.splitext(str(first.get(name, "")))[1].lower() in EXTENSIONS]
    both = [name for name in named if name in pictures]
    if both or len(pictures) == 1:
        return (both or pictures)[0]
    if not pictures and (named or len(names) == 1):
        return (named or names)[0]
    raise UsageError(
        f"{path} does not say which column names the pictures (it has: {', '.join(names)}).", "Name it: --column NAME"
    )
