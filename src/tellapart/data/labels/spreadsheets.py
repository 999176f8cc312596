"""Tables in spreadsheets (.xlsx, .xls, .ods): the one sheet that has rows, as text."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from tellapart.core.extras import require
from tellapart.core.text import first_few
from tellapart.errors import DataError

SUFFIXES = (".xlsx", ".xlsm", ".xls", ".ods")
MOST, MOST_UNPACKED = 256 << 20, 1 << 30  # bytes of a file, and of what its parts unpack to


def read_rows(path: Path) -> tuple[list[str], list[list[str]]]:
    """Names of the columns, and the cells of each row below them. Rows without anything in them stay, as "".

    Raises:
        DataError: it is no spreadsheet, too large, or several of its sheets have rows.
        MissingExtraError: the reader is not installed.
        OSError: it cannot be read.
    """
    try:
        _check_size(path)
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise DataError(f"{path.name} cannot be read as a spreadsheet: {error}.", "Save it as CSV.") from error
    fastexcel = require("fastexcel", "A table in a spreadsheet", "spreadsheet")
    try:
        reader = fastexcel.read_excel(path)
        sheets = {name: _rows(reader, name) for name in reader.sheet_names}
    except fastexcel.FastExcelError as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{path.name} cannot be read as a spreadsheet: {reason}.", "Save it as CSV.") from error
    filled = {name: rows for name, rows in sheets.items() if len(rows) > 1}
    if not filled:
        raise DataError(f"{path.name} is empty.", "It needs a header with file_name and label, and one row a picture.")
    if len(filled) > 1:
        raise DataError(
            f"{path.name} has several sheets with rows: {first_few(filled)}.", "Save the one with the labels as CSV."
        )
    header, *rows = next(iter(filled.values()))
    return header, rows


def _rows(reader: Any, name: str) -> list[list[str]]:
    """Cells of a sheet as text; those of a row that only a format fills are blank."""
    sheet = reader.load_sheet(name, header_row=None, skip_rows=0, dtypes="string")
    return [["" if cell is None else cell for cell in row] for row in sheet.to_polars().iter_rows()]


def _check_size(path: Path) -> None:
    """A spreadsheet is a zip, which may unpack to far more than it holds."""
    n_bytes = path.stat().st_size
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as parts:
            n_bytes = max(n_bytes, sum(part.file_size for part in parts.infolist()) * MOST // MOST_UNPACKED)
    if n_bytes > MOST:
        raise DataError(f"{path.name} holds too much for a spreadsheet of labels.", "Save the one sheet as CSV.")
