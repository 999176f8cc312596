"""Answers in a file that a killed run may go on with: rows so far lie in a folder beside it until all are written.

`answers.csv.partial/` holds `about.json` (which model, options and format the rows are of) and the rows themselves,
`rows.csv`, `rows.jsonl` or numbered Parquet files. A row counts once it is whole; what a kill left of the last one is
cut off. When all is written, the rows become the file, and the folder goes.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from tellapart.core.cache import read_note, write_note
from tellapart.core.file_locks import lock
from tellapart.core.files import guarded, plainly, replacing
from tellapart.deploy.answer import Answer
from tellapart.deploy.inputs.sources import Source
from tellapart.deploy.output_formats import Summary, write_csv, write_jsonl
from tellapart.deploy.parquet_parts import ParquetParts
from tellapart.deploy.read_pictures import name_of
from tellapart.deploy.rows import clean, columns
from tellapart.errors import UsageError

#: Formats whose rows can be gone on with.
RESUMABLE = ("csv", "jsonl", "json", "parquet")
_ABOUT, _LOCK = "about.json", "lock"
#: Bytes of a row: what is longer was not written by us.
_LONGEST = 1 << 20
Row = dict[str, Any]


def write_resumable(
    pictures: Iterable[Source],
    answer: Callable[[Iterable[Source]], Iterable[Answer]],
    out: Path,
    format: str,
    top: int,
    optional: tuple[str, ...],
    about: dict[str, Any],
    resume: bool,
) -> Summary:
    """Answer pictures into a file; a run that ends before leaves its rows for the next one.

    Args:
        pictures: in an order that is the same each time.
        answer: gives one answer for each picture, in their order.
        out: the file, which appears when all is written.
        format: one of `RESUMABLE`.
        top, optional: see `rows.columns`.
        about: what the answers depend on, plain values: rows that depend on others are not gone on with.
        resume: go on with the rows of an earlier run; otherwise they are thrown away.

    Returns:
        Counts of all rows, those of earlier runs too.

    Raises:
        UsageError: the rows are of other pictures or another model, another process writes them, or the file cannot
            be written.
    """
    real = out.resolve()
    if real.is_dir():
        raise UsageError(f"{out} is a folder.", "Name a file to write to.")
    about = {**about, "format": format, "columns": columns(top, optional)}
    with _folder(real, about, resume) as folder:
        rows = _Parts(folder, top, optional) if format == "parquet" else _Lines(folder, format, top, optional)
        summary, iterator = Summary(), iter(pictures)
        for number, row in enumerate(rows.read(), start=1):
            _same_picture(out, number, row["path"], next(iterator, None), format)
            summary.add(row["path"], row["label"] or "", row["problem"] or None)
        rows.write(summary.counting(answer(iterator)))
        with replacing(real) as beside:
            rows.finish(beside)
        _clear(folder)
    return summary


def partial_folder(out: Path) -> Path:
    """Where the rows of a file lie until it is whole."""
    real = out.resolve()
    return real.with_name(f"{real.name}.partial")


@contextmanager
def _folder(out: Path, about: dict[str, Any], resume: bool) -> Iterator[Path]:
    """The folder of the rows, held for this process alone; it goes again where there is nothing to go on with."""
    folder = partial_folder(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror}.") from error
    try:
        if not lock(handle, shared=False, wait=False):
            raise UsageError(f"Another process writes {out}.", "Wait for it, or name another file.")
        earlier = read_note(folder / _ABOUT)
        if not resume or earlier is None:
            _clear(folder)
            write_note(folder / _ABOUT, about)
        elif earlier != json.loads(json.dumps(about)):
            changed = ", ".join(key for key in {**about, **earlier} if about.get(key) != earlier.get(key))
            raise UsageError(
                f"The rows so far, in {folder.name}, are of another model or other options ({changed}).",
                "Give the options of that run, or leave --resume out to begin anew.",
            )
        with plainly():
            yield folder
    finally:
        useless = {path.name for path in folder.iterdir() if path.stat().st_size} <= {_ABOUT}
        os.close(handle)
        if useless:
            shutil.rmtree(folder, ignore_errors=True)


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name != _LOCK:
            path.unlink()


def _same_picture(out: Path, number: int, path: str, picture: Source | None, format: str) -> None:
    expected = None if picture is None else clean(name_of(picture))
    if expected is not None and format == "csv":
        expected = guarded(expected)
    if path != expected:
        raise UsageError(
            f"Row {number:,} of the answers so far is of {path}, but here comes {expected or 'no picture any more'}.",
            f"Give the pictures of that run, in their order, or leave --resume out to begin {out.name} anew.",
        )


class _Lines:
    """Rows in a text file: CSV, or JSON lines, which become an array at the end where that is wanted."""

    def __init__(self, folder: Path, format: str, top: int, optional: tuple[str, ...]) -> None:
        self.format, self.top, self.optional = format, top, optional
        self.path = folder / ("rows.csv" if format == "csv" else "rows.jsonl")

    def read(self) -> Iterator[Row]:
        """The rows so far; what follows the last whole one is cut off."""
        self.path.touch()
        names, end = columns(self.top, self.optional), 0
        with self.path.open("rb+") as file:
            rows = _csv_rows(file, names) if self.format == "csv" else _json_rows(file, names)
            for end, row in rows:  # noqa: B007 (the end of the last one is needed)
                if row is not None:
                    yield row
            file.truncate(end)

    def write(self, answers: Iterable[Answer]) -> None:
        header = self.path.stat().st_size == 0
        with self.path.open("a", encoding="utf-8", newline="") as stream:
            if self.format == "csv":
                write_csv(answers, self.top, stream, self.optional, header)
            else:
                write_jsonl(answers, self.top, stream, self.optional)

    def finish(self, path: Path) -> None:
        with self.path.open("rb") as rows, path.open("wb") as file:
            if self.format != "json":
                shutil.copyfileobj(rows, file, 1 << 20)
                return
            before = b"[\n"
            for line in rows:
                file.write(before + line.rstrip(b"\n"))
                before = b"\n,\n"
            file.write(b"[]\n" if before == b"[\n" else b"\n]\n")


class _Parts(ParquetParts):
    def write(self, answers: Iterable[Answer]) -> None:
        try:
            for answer in answers:
                self.add(answer)
        finally:
            self.flush()


def _csv_rows(file: BinaryIO, names: list[str]) -> Iterator[tuple[int, Row | None]]:
    """Whole rows with the position after each; first the header, as None. A cell may hold line breaks."""
    record, header = b"", True
    for line in iter(lambda: file.readline(_LONGEST), b""):
        record += line
        if len(record) > _LONGEST:
            return
        if not line.endswith(b"\n") or record.count(b'"') % 2:
            continue
        try:
            cells = next(csv.reader([record.decode()], strict=True))
        except (UnicodeError, csv.Error, StopIteration):
            return
        if len(cells) != len(names) or (header and cells != names):
            return
        yield file.tell(), None if header else dict(zip(names, cells, strict=True))
        record, header = b"", False


def _json_rows(file: BinaryIO, names: list[str]) -> Iterator[tuple[int, Row | None]]:
    for line in iter(lambda: file.readline(_LONGEST), b""):
        try:
            row = json.loads(line.decode())
        except (ValueError, RecursionError):
            return
        if not line.endswith(b"\n") or not isinstance(row, dict) or list(row) != names:
            return
        yield file.tell(), row
