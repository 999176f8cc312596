"""Text files of rows: the separator is found, whether the first line names the columns, and each row is checked."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tellapart.data.decoding.decode import EXTENSIONS
from tellapart.data.labels.names import LABEL, LABELS, PATHS, has_name
from tellapart.errors import DataError

Row = tuple[int, list[str]]

_SEPARATORS = ",\t;|"
_HINT = re.compile(r'^"?sep=(.|\\t)"?[,;\t|]*\s*$', re.IGNORECASE)  # a first line that tells Excel the separator
_SAMPLE = 20  # lines looked at
_LONGEST = 1 << 20  # characters of one of them
_SUFFIX = re.compile(rf"({'|'.join(re.escape(suffix) for suffix in EXTENSIONS)})\s*\"?\s*$", re.IGNORECASE)


@dataclass(frozen=True)
class Form:
    """The form of a text file of rows.

    Attributes:
        separator: between the fields; "" for blanks.
        has_header: whether the first line names the columns.
        blank_after: whether a blank follows the separators, as in `1.png, cat`.
        n_skipped: lines before the first row.
        n_words: with blanks between the fields, their number; 0 where the path may hold blanks.
        n_numbers: with blanks between the fields, how many numbers end a line.
    """

    separator: str
    has_header: bool
    blank_after: bool = False
    n_skipped: int = 0
    n_words: int = 0
    n_numbers: int = 1


def encoding_of(path: Path) -> str:
    """UTF-8, or UTF-16 where the file begins with its mark."""
    with path.open("rb") as file:
        start = file.read(2)
    return "utf-16" if start in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def line_not_utf8(path: Path) -> int:
    """The number of the first line that is not UTF-8."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return 1


def find_form(lines: Iterable[str], suffix: str, has_header: bool | None = None) -> Form:
    """Look at the first lines of a file.

    Args:
        lines: of the file.
        suffix: of its name, in lower case; ".tsv" has tabs.
        has_header: what the caller knows of the first line.
    """
    sample = [line[:_LONGEST] for line in itertools.islice(lines, _SAMPLE)]
    hint = _HINT.match(sample[0]) if sample else None
    rows = [line for line in sample[1 if hint else 0 :] if line.strip()]
    if not rows:
        return Form("", bool(has_header), n_skipped=int(bool(hint)))
    separator, names_columns = _separator(rows, suffix)
    if hint:
        separator = hint[1].replace("\\t", "\t")
        names_columns = _is_header(rows, separator)
    has_header = names_columns if has_header is None else has_header
    if separator:
        return Form(separator, has_header, _blank_after(rows, separator, has_header), int(bool(hint)))
    words = rows[0].split()
    n_numbers = len(list(itertools.takewhile(str.isdecimal, reversed(words[1:]))))
    return Form("", has_header, n_words=len(words) if has_header else 0, n_numbers=n_numbers or 1)


def _separator(rows: list[str], suffix: str) -> tuple[str, bool]:
    """Separator, and whether the first line is a header; the first separator that makes it one is taken."""
    candidates = "\t" if suffix == ".tsv" else _SEPARATORS
    for separator in candidates:
        if _is_header(rows, separator) and (
            len(_fields(rows[0], separator)) > 1 or not any(s in rows[0] for s in candidates)
        ):
            return separator, True
    first = next((s for s in candidates if s in rows[0]), "")
    words = rows[0].split()
    if not first and len(words) > 1 and has_name(words, PATHS) and has_name(words, (*LABEL, *LABELS)):
        return "", True
    return first, False


def _is_header(rows: list[str], separator: str) -> bool:
    """Whether the first row has a name that we know; or no picture, where the second has one."""
    names = _fields(rows[0], separator)
    if any(_SUFFIX.search(name) for name in names):
        return False
    if has_name(names, (*PATHS, *LABEL, *LABELS)):
        return True
    return len(names) > 1 and len(rows) > 1 and any(_SUFFIX.search(cell) for cell in _fields(rows[1], separator))


def _fields(line: str, separator: str) -> list[str]:
    try:
        return [field.strip() for field in next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])]
    except csv.Error:
        return []


def _blank_after(rows: list[str], separator: str, has_header: bool) -> bool:
    """Whether a blank belongs to the separator: in the header, or in each row. Lists are often written like that."""
    if not has_header:
        return True
    spaced = [bool(re.search(re.escape(separator) + "[ \t]", row)) for row in rows]
    return separator != "\t" and (spaced[0] or (len(rows) > 1 and all(spaced[1:])))


def read_rows(file: Iterable[str], form: Form) -> Iterator[Row]:
    """Fields of each row with the number of the line it begins in; rows without anything in them are passed over."""
    lines = iter(file)
    for _ in range(form.n_skipped):
        next(lines, None)
    return _separated(lines, form) if form.separator else _blank_separated(lines, form)


def _separated(lines: Iterator[str], form: Form) -> Iterator[Row]:
    reader = csv.reader(lines, delimiter=form.separator, skipinitialspace=form.blank_after, strict=True)
    while True:
        line = reader.line_num + 1 + form.n_skipped
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise csv.Error(f"line {line}: {error}") from error
        if any(field.strip() for field in fields):
            yield line, fields


def _blank_separated(lines: Iterator[str], form: Form) -> Iterator[Row]:
    """Lines of a path, which may hold blanks unless a header counts the words, and a word or several integers."""
    for number, line in enumerate(lines, start=1 + form.n_skipped):
        if line.strip():
            yield number, line.split() if form.n_words else line.strip().rsplit(None, form.n_numbers)


def take_header(name: str, rows: Iterator[Row], has_header: bool) -> tuple[list[str], Iterator[Row]]:
    """Names of the columns, and the rows, each checked to have as many fields.

    Raises:
        DataError: the file is empty, or two columns have one name.
    """
    number, fields = next(rows, (1, []))
    if not fields:
        raise DataError(f"{name} is empty.", "It needs a header with file_name and label, and one row a picture.")
    if has_header:
        header = [field.strip() for field in fields]
        check_names(name, header)
    else:
        header = ["path", "label", *(f"label {i}" for i in range(2, len(fields)))][: len(fields)]
        rows = itertools.chain([(number, fields)], rows)
    return header, _checked(name, header, rows)


def check_names(name: str, header: list[str]) -> None:
    """Refuse two columns of one name, whatever its case."""
    lower = [column.lower() for column in header]
    twice = next((column for column in header if column and lower.count(column.lower()) > 1), None)
    if twice:
        raise DataError(f"{name}: two columns are called {twice!r}.")


def _checked(name: str, header: list[str], rows: Iterator[Row]) -> Iterator[Row]:
    """Rows with one field a column; empty fields that a spreadsheet left at the end are cut off."""
    n = len(header)
    for number, fields in rows:
        if len(fields) != n and (len(fields) < n or any(field.strip() for field in fields[n:])):
            raise DataError(
                f"{name}, line {number}: {len(fields)} fields where {n} are expected.",
                'A field that holds the separator has to stand between quotes: "a, b.jpg".',
            )
        yield number, fields[:n]
