"""Corrections of labels: a table that only grows, and a catalog with them applied. No picture or table is touched.

`corrections.csv` has one line a decision: `when`, `row`, `file`, `from`, `to`, `by`, `decision`, `sha256`. Decisions
are "keep", "relabel", "exclude", "unsure" and "undo", which takes the last standing one of its file back. Labels stand
bare where a picture has one, and as a JSON list where it may have several.
"""

from __future__ import annotations

import csv
import datetime
import io
import json
import os
import re
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path

import polars as pl

from tellapart.core.csv_text import csv_text
from tellapart.core.file_locks import lock
from tellapart.core.files import replacing
from tellapart.core.suggest import suggest
from tellapart.core.text import counted
from tellapart.data.catalog import UNKNOWN, Catalog
from tellapart.errors import DataError

#: Name of the table in the folder of a review.
CORRECTIONS = "corrections.csv"
DECISIONS = ("keep", "relabel", "exclude", "unsure", "undo")
_DIGEST = 64  # hex digits of a SHA-256


@dataclass(frozen=True)
class Correction:
    """One line. `before` and `after` are cells: see `to_cell`."""

    when: str
    row: int
    file: str
    before: str
    after: str
    by: str
    decision: str
    sha256: str


_HEADER = [{"before": "from", "after": "to"}.get(f.name, f.name) for f in fields(Correction)]


def to_cell(labels: Sequence[str], multilabel: bool) -> str:
    """Labels as they stand in the table."""
    return json.dumps(list(labels), ensure_ascii=False) if multilabel else "".join(labels)


def of_cell(cell: str, multilabel: bool) -> list[str]:
    """The inverse of `to_cell`.

    Raises:
        ValueError: not a list of names.
    """
    if not multilabel:
        return [cell] if cell else []
    try:
        labels = json.loads(cell) if cell else []
    except RecursionError:
        raise ValueError("lists in lists without end") from None
    if not isinstance(labels, list) or not all(isinstance(name, str) for name in labels):
        raise ValueError("not a list of names")
    return labels


def read_corrections(path: Path) -> list[Correction]:
    """Read a table of corrections, in order. A last line that a kill cut off is left out.

    Raises:
        DataError: the file cannot be read, or is not such a table.
    """
    try:
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1  # a kill may have cut the last line off, in the middle of a letter
        text = content[:whole].decode("utf-8-sig") + content[whole:].decode("utf-8", "ignore")
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}", "Give the corrections.csv that a review wrote.") from error
    return _parse(text, path)


def _parse(text: str, path: Path) -> list[Correction]:
    if csv_text([_HEADER]).startswith(text):  # empty, or a kill cut off even the header
        return []
    lines = _rows(text, path)
    missing = [name for name in _HEADER if name not in lines[0]]
    if missing:
        raise DataError(
            f"{path} is not a table of corrections: it has no column {missing[0]!r}.",
            f"Its columns are: {', '.join(_HEADER)}. A review writes it: tellapart review",
        )
    positions = [lines[0].index(name) for name in _HEADER]
    corrections = []
    for number, line in enumerate(lines[1:], start=1):
        whole = len(line) == len(lines[0]) and len(line[positions[-1]]) == _DIGEST
        if not whole and number == len(lines) - 1 and not _ends_well(text):
            break
        values = [line[i] for i in positions] if whole else []
        if not whole or not _is_row(values[1]) or values[6] not in DECISIONS:
            raise DataError(
                f"{path}, decision {number}: {', '.join(line)[:200]!r} is not a correction.",
                f"decision is one of {', '.join(DECISIONS)}, row a number, sha256 that of the picture.",
            )
        corrections.append(Correction(values[0], int(values[1]), *values[2:]))
    return corrections


def _rows(text: str, path: Path) -> list[list[str]]:
    """Fields of each line. Version 0.1 wrote carriage returns without quotes, where a reader would end the line."""
    stand_in = next(sign for sign in map(chr, range(0xE000, 0xF900)) if sign not in text)
    text = re.sub(r"\r(?!\n)", stand_in, text)
    try:
        lines = list(csv.reader(io.StringIO(text, newline="")))
    except csv.Error as error:
        raise DataError(f"{path} is not a table of corrections: {error}.") from error
    return [[field.replace(stand_in, "\r") for field in line] for line in lines]


def _is_row(text: str) -> bool:
    return text.isdecimal() and len(text) < 20


def _ends_well(text: str) -> bool:
    """Whether no kill cut the last line off; a line feed may stand within quotes."""
    return text.endswith("\n") and text.count('"') % 2 == 0


def history(corrections: Sequence[Correction]) -> list[Correction]:
    """The decisions that were not taken back, in order; a file may have several, of which the last counts."""
    stack: list[Correction] = []
    for correction in corrections:
        if correction.decision != "undo":
            stack.append(correction)
            continue
        last = next((i for i in reversed(range(len(stack))) if stack[i].file == correction.file), None)
        if last is not None:
            del stack[last]
    return stack


def standing(corrections: Sequence[Correction]) -> dict[str, Correction]:
    """The decisions that count in the end: one a file."""
    return {correction.file: correction for correction in history(corrections)}


class CorrectionLog:
    """A table of corrections to append to: each decision is on disk before `add` returns.

    Other processes may add to the same file, one at a time; `read` sees what they wrote.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._cached: tuple[int, list[Correction]] = (-1, [])

    def read(self) -> list[Correction]:
        """All decisions so far."""
        with self._lock:
            return self._read()

    def add(self, row: int, file: str, before: str, after: str, by: str, decision: str, sha256: str) -> Correction:
        """Append one decision and flush it to disk."""
        when = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        correction = Correction(when, row, file, before, after, by, decision, sha256)
        with self._alone():
            self._append(correction)
        return correction

    def undo(self, by: str, files: Collection[str]) -> Correction | None:
        """Take back the last standing decision of somebody on some files: a new line says so. None if there is none."""
        with self._alone():
            decisions = self._read()
            last_on = standing(decisions)
            stack = [c for c in history(decisions) if last_on[c.file] is c and c.by == by and c.file in files]
            if not stack:
                return None
            last = stack[-1]
            now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
            self._append(replace(last, when=now, before="", after="", by=by, decision="undo"))
            return last

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Within it, neither another thread nor another process adds to the table."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock:
            # Not the table itself: another file takes its place where a line was cut off.
            handle = os.open(self.path.with_name(f".{self.path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o666)
            try:
                while not lock(handle, shared=False):
                    pass
                yield
            finally:
                os.close(handle)

    def _read(self) -> list[Correction]:
        size = self.path.stat().st_size if self.path.is_file() else 0
        if size != self._cached[0]:
            self._cached = (size, read_corrections(self.path) if size else [])
        return self._cached[1]

    def _append(self, correction: Correction) -> None:
        content = self.path.read_bytes() if self.path.is_file() else b""
        lines: list[Sequence[object]] = [astuple(correction)]
        if not content:
            lines.insert(0, _HEADER)
        elif not _ends_well(content.decode("utf-8", "replace")):  # the next line shall begin on its own
            with replacing(self.path) as beside:
                beside.write_bytes(_encoded([_HEADER, *map(astuple, read_corrections(self.path))]))
        with self.path.open("ab") as file:
            file.write(_encoded(lines))
            file.flush()
            os.fsync(file.fileno())


def _encoded(lines: Sequence[Sequence[object]]) -> bytes:
    return csv_text(lines).encode("utf-8", "backslashreplace")


@dataclass(frozen=True)
class Applied:
    """Counts of what corrections changed. `left` counts those that change nothing: keep, unsure, corrected already."""

    path: Path
    relabelled: int
    excluded: int
    left: int

    @property
    def sentence(self) -> str:
        """The same in words."""
        return (
            f"Corrections of {self.path.name}: {counted(self.relabelled, 'picture')} relabelled, "
            f"{self.excluded:,} excluded, {self.left:,} left as they are."
        )


def corrected(catalog: Catalog, path: Path) -> tuple[Catalog, Applied]:
    """Apply the corrections of a table to a catalog.

    Args:
        catalog: as scanned. Classes are those it has; where it has none at all, those of the corrections.
        path: the table.

    Raises:
        DataError: a correction does not belong to these pictures: no such file, another content, another label than
            the corrected one, or an unknown class.
    """
    wanted = standing(read_corrections(path))
    changes = {name: c for name, c in wanted.items() if c.decision in ("relabel", "exclude")}
    multilabel = catalog.multilabel
    if not catalog.classes:  # nothing has a label yet: the review knew whether a picture may have several
        multilabel = any(c.after.startswith("[") for c in changes.values() if c.decision == "relabel")
    changed = catalog.table.with_row_index("at").filter(pl.col("path").is_in(list(changes)))
    rows = dict(zip(changed["path"], changed["at"], strict=True))
    classes = catalog.classes or tuple(
        sorted({n for c in changes.values() for n in labels_of(c.after, c, path, multilabel)})
    )
    labels = catalog.table["labels"].to_list()
    unknown = catalog.table[UNKNOWN].to_list() if UNKNOWN in catalog.table.columns else [[]] * len(catalog)
    excluded, relabelled = [], 0
    for name, correction in changes.items():
        row = _row_of(correction, rows.get(name), catalog, path)
        if correction.decision == "exclude":
            excluded.append(row)
            continue
        now = sorted(catalog.classes[i] for i in labels[row])
        after = sorted(labels_of(correction.after, correction, path, multilabel))
        if now == after:
            continue
        if now != sorted(labels_of(correction.before, correction, path, multilabel)):
            raise DataError(
                f"{path}: {name} is to be corrected from {correction.before!r} to {correction.after!r}, "
                f"but is given {', '.join(now) or 'no label'}.",
                "The labels have changed since the review. Review again, or take that line out.",
            )
        _check_known(after, classes, name, path)
        labels[row] = sorted(classes.index(label) for label in after)
        unknown[row] = []  # the review has seen the picture
        relabelled += 1
    applied = Applied(path, relabelled, len(excluded), len(wanted) - relabelled - len(excluded))
    kind = pl.List(pl.UInt32)
    table = catalog.table.with_columns(pl.Series("labels", labels, dtype=kind))
    if UNKNOWN in table.columns:
        table = table.with_columns(pl.Series(UNKNOWN, unknown, dtype=kind))
    layout = f"{catalog.layout} {applied.sentence}".strip()
    corrected = replace(catalog, table=table, classes=classes, multilabel=multilabel, layout=layout)
    return corrected.without(excluded), applied


def labels_of(cell: str, correction: Correction, path: Path, multilabel: bool) -> list[str]:
    """The labels in one cell of a correction.

    Raises:
        DataError: with the file that it corrects.
    """
    try:
        return of_cell(cell, multilabel)
    except ValueError as error:
        raise DataError(
            f"{path}: the labels {cell!r} of {correction.file} cannot be read: {error}.",
            'Where pictures may have several labels, they stand as a list such as ["sea", "tree"].',
        ) from None


def _row_of(correction: Correction, row: int | None, catalog: Catalog, path: Path) -> int:
    """The row of the picture that a correction means."""
    if row is None:
        raise DataError(
            f"{path} corrects {correction.file}, and there is no such picture below {catalog.root}.",
            "Give the corrections of these pictures. If a file was moved or removed, take its line out.",
        )
    if (catalog.table["sha256"][row] or b"").hex() != correction.sha256:
        raise DataError(
            f"{path} corrects {correction.file}, whose content is another one now.",
            "The picture has changed since the review. Review it again, or take its line out.",
        )
    return row


def _check_known(labels: Sequence[str], classes: Sequence[str], name: str, path: Path) -> None:
    unknown = next((label for label in labels if label not in classes), None)
    if unknown is None:
        return
    raise DataError(
        f"{path} labels {name} {unknown!r}, which is not a class of these pictures.", suggest(unknown, classes)
    )
