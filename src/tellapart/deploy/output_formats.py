"""Writes answers: a table for people, CSV, JSON lines and Parquet for programs. Rows are written as they come."""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO

from tellapart.core.files import check_suffix, replacing
from tellapart.core.output import escaping, is_utf8
from tellapart.core.suggest import suggest
from tellapart.core.text import json_text, visible
from tellapart.deploy.answer import Answer, percent
from tellapart.deploy.rows import OPTIONAL_COLUMNS, clean, columns, csv_cell, joined, row_of
from tellapart.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

#: Unreadable pictures that are listed with their reasons; all of them have a row, and are counted.
_MOST_LISTED = 1_000


@dataclass
class Summary:
    """Counts of the answers that were written.

    Attributes:
        n_answered: pictures with an answer.
        n_unreadable: pictures without one.
        unreadable: path and reason of the first thousand of these.
        counts: pictures answered with each label.
    """

    n_answered: int = 0
    n_unreadable: int = 0
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, path: str, label: str, problem: str | None) -> None:
        """Count a row: its label, or why the picture could not be read."""
        if problem is None:
            self.n_answered += 1
            self.counts[label] += 1
            return
        self.n_unreadable += 1
        if len(self.unreadable) < _MOST_LISTED:
            self.unreadable.append((clean(path), problem))

    def counting(self, answers: Iterable[Answer]) -> Iterator[Answer]:
        """Pass answers on and count them."""
        for answer in answers:
            self.add(answer.path, answer.label, answer.problem)
            yield answer

    def problems(self) -> Iterator[str]:
        """A line for each of the unreadable pictures, and one for those that are not listed."""
        yield from (f"{path}: {reason}" for path, reason in self.unreadable)
        if (rest := self.n_unreadable - len(self.unreadable)) > 0:
            yield f"and {rest:,} more, each with the reason in its row"


def format_of(out: Path | None, format: str | None) -> str:
    """The format of answers: by the file's suffix; `format`, or a table, where they go to a terminal, pipe or device.

    Raises:
        UsageError: the suffix is none of `SUFFIXES`, or `format` is another.
    """
    if out is None or (out.exists() and not out.is_file() and not out.is_dir()):
        return format or "table"
    by_suffix = SUFFIXES[check_suffix(out, SUFFIXES)]
    if format not in (None, by_suffix):
        raise UsageError(
            f"--format {format} does not go with --out {out}, which is written as {by_suffix}.",
            "The suffix decides: leave --format out, or name another file.",
        )
    return by_suffix


def write_answers(
    answers: Iterable[Answer],
    format: str = "table",
    top: int = 1,
    out: TextIO | Path | None = None,
    optional: tuple[str, ...] = (),
) -> Summary:
    """Write answers as they come.

    Columns: path, label, certainty (0 to 1), then `label_2`, `certainty_2` … up to `top`: the most probable labels that
    were not chosen; then problem, which is empty where the picture could be read; then those of `optional`. Bytes of a
    file name that are no UTF-8 are written as escapes.

    Args:
        answers: from `predictor.answers`, with the same `top`.
        format: "table" ends with totals and the unreadable; "csv" is safe to open in a spreadsheet, see `csv_cell`;
            "jsonl" has one object a line; "json" is one array of them;
            "parquet" is written in parts, which are joined at the end.
        top: how many labels a row holds.
        optional: further columns, some of `OPTIONAL_COLUMNS`: "candidates" (the prediction set; in CSV and Parquet
            joined with " or "), "ood_score" (the out-of-distribution score), "unknown" (why a picture is probably of
            no known class). The table shows them anyway.
        out: an open text file, the path of a file (written beside and renamed when all is done), or None: the
            standard output.

    Raises:
        UsageError: an unknown format, Parquet without a path, or a file that cannot be written.
    """
    if format not in FORMATS:
        raise UsageError(f"The format '{format}' is unknown.", suggest(format, FORMATS))
    if top < 1:
        raise UsageError(f"At least one label is needed, not {top}.")
    if unfit := set(optional) - set(OPTIONAL_COLUMNS):
        raise UsageError(f"There are no columns {', '.join(sorted(unfit))}.", suggest(min(unfit), OPTIONAL_COLUMNS))
    summary = Summary()
    counted = summary.counting(answers)
    if format == "parquet":
        if not isinstance(out, Path):
            raise UsageError("Parquet cannot be written to a terminal or pipe.", "Name a file to write to.")
        import tempfile

        from tellapart.deploy.parquet_parts import ParquetParts

        with _file_at(out) as path, tempfile.TemporaryDirectory(dir=out.resolve().parent, prefix=".parquet") as folder:
            parts = ParquetParts(Path(folder), top, optional)
            for answer in counted:
                parts.add(answer)
            parts.finish(path)
        return summary
    with _stream_to(out) as stream:
        _STREAMED[format](counted, top, stream, optional)
        if format == "table":
            _write_totals(summary, stream)
    return summary


@contextlib.contextmanager
def _stream_to(out: TextIO | Path | None) -> Iterator[TextIO]:
    """The text stream to write to. Letters that its encoding lacks (a Windows console) become escapes.

    The table is cleaned piece by piece. Other formats are data, which no terminal gets raw.
    """
    if isinstance(out, Path):
        with _file_at(out) as path, path.open("w", encoding="utf-8", newline="") as stream:
            yield stream
        return
    with escaping(out or sys.stdout) as stream:
        yield stream


@contextlib.contextmanager
def _file_at(out: Path) -> Iterator[Path]:
    """Where to write so that `out` appears whole; a device or pipe is written to directly, never replaced."""
    real = out.resolve()
    if real.is_dir():
        raise UsageError(f"{out} is a folder.", "Name a file to write to.")
    if real.exists() and not real.is_file():
        yield real
        return
    with contextlib.ExitStack() as stack:
        try:
            beside = stack.enter_context(replacing(real))
        except OSError as error:
            raise UsageError(f"{out} cannot be written: {error.strerror}.") from error
        yield beside


# --- CSV -----------------------------------------------------------------------------------------------------------


def write_csv(
    answers: Iterable[Answer], top: int, stream: TextIO, optional: tuple[str, ...], header: bool = True
) -> None:
    """Rows of CSV as they come, after the names of the columns."""
    if header:
        print(*columns(top, optional), sep=",", file=stream, flush=True)
    terminal = stream.isatty()
    for answer in answers:
        cells = joined(row_of(answer, top, optional))
        cells = [visible(cell) if terminal and isinstance(cell, str) else cell for cell in cells]
        print(*map(csv_cell, cells), sep=",", file=stream, flush=True)


# --- JSON lines ----------------------------------------------------------------------------------------------------


def write_jsonl(answers: Iterable[Answer], top: int, stream: TextIO, optional: tuple[str, ...]) -> None:
    """An object a line, as they come."""
    names = columns(top, optional)
    for answer in answers:
        line = dict(zip(names, row_of(answer, top, optional), strict=True))
        print(json_text(line, ascii=not is_utf8(stream)), file=stream, flush=True)


# --- JSON ----------------------------------------------------------------------------------------------------------


def _write_json(answers: Iterable[Answer], top: int, stream: TextIO, optional: tuple[str, ...]) -> None:
    """One array with an object a line."""
    names, before = columns(top, optional), "["
    for answer in answers:
        line = dict(zip(names, row_of(answer, top, optional), strict=True))
        print(before, json_text(line, ascii=not is_utf8(stream)), sep="\n", end="", file=stream, flush=True)
        before = ","
    print("[]" if before == "[" else "\n]", file=stream, flush=True)


# --- Table ---------------------------------------------------------------------------------------------------------

_BAR = 10
_FIRST = 16
_SHOWN_LABELS = 5


def _write_table(answers: Iterable[Answer], top: int, stream: TextIO, _optional: tuple[str, ...]) -> None:
    """Aligned lines; colours, a bar and shortened paths on a terminal only."""
    from rich.cells import cell_len

    answers = iter(answers)
    first = list(islice(answers, _FIRST))  # the widths follow from these: the rest is not yet known
    console = _console(stream)
    label_width = max((cell_len(visible(a.label)) for a in first), default=0)
    path_width = max((cell_len(visible(a.path)) for a in first), default=0)
    if console is not None:
        label_width = min(label_width, max(8, console.width // 3))
        path_width = min(path_width, max(12, console.width - label_width - _BAR - 14))
    for answer in chain(first, answers):
        path = _fitted(visible(answer.path), path_width, "end" if console else "all")
        if answer.problem is not None:
            _print(stream, console, path, "  ", ("unreadable", "red"))
            continue
        label = _fitted(visible(answer.label), label_width, "start" if console else "all")
        if answer.unknown is not None:
            _print(stream, console, path, "  ", (label, "yellow"), (f"  {answer.unknown}", "dim"))
            continue
        others = [pair for pair in answer.labels if pair[0] not in answer.chosen][: top - 1]
        _print(
            stream,
            console,
            path,
            (f"  {label}", "bold"),
            f"  {percent(answer.certainty):>7}",
            (f"  {_bar(answer.certainty)}" if console else "", "cyan"),
            ("".join(f"  {name} {percent(p)}" for name, p in others), "dim"),
            f"  among: {' or '.join(answer.candidates)}" if answer.candidates else "",
        )


def _write_totals(summary: Summary, stream: TextIO) -> None:
    """How many pictures got which label, and which could not be read."""
    console = _console(stream)
    if summary.n_answered > 1:
        shown = [f"{n:,} × {label}" for label, n in summary.counts.most_common(_SHOWN_LABELS)]
        rest = len(summary.counts) - len(shown)
        more = f" and {rest:,} more labels" if rest > 0 else ""
        _print(stream, console)
        _print(stream, console, f"{summary.n_answered:,} pictures answered: {', '.join(shown)}{more}")
    if summary.unreadable:
        _print(stream, console)
        _print(stream, console, (f"{summary.n_unreadable:,} could not be read:", "red"))
        for line in summary.problems():
            _print(stream, console, f"  {line}")


def _console(stream: TextIO) -> Console | None:
    """The console of a terminal; None for whatever else a stream is, which gets plain text, always the same."""
    if not (stream.isatty() and is_utf8(stream)):
        return None
    from rich.console import Console

    return Console(file=stream, highlight=False, force_jupyter=False)


def _print(stream: TextIO, console: Console | None, *pieces: str | tuple[str, str]) -> None:
    """Write one line of texts, or texts with a style, cleaned. None is markup, and no line is broken or cut."""
    if console is None:
        plain = "".join(visible(piece if isinstance(piece, str) else piece[0]) for piece in pieces)
        print(plain.rstrip(), file=stream, flush=True)
        return
    from rich.text import Text

    texts = [(piece, "") if isinstance(piece, str) else piece for piece in pieces]
    line = Text.assemble(*((visible(text), look) for text, look in texts))
    line.rstrip()
    console.print(line, soft_wrap=True)


def _fitted(text: str, width: int, keep: Literal["start", "end", "all"]) -> str:
    """Filled with blanks to `width` cells; a longer text is shortened to the part to keep."""
    from rich.cells import cell_len

    missing = width - cell_len(text)
    if missing >= 0 or keep == "all":
        return text + " " * missing
    while text and cell_len(text) > width - 1:
        text = text[:-1] if keep == "start" else text[1:]
    return _fitted(f"{text}…" if keep == "start" else f"…{text}", width, "all")


def _bar(share: float) -> str:
    """A bar of `_BAR` cells, to an eighth of a cell."""
    eighths = round(share * _BAR * 8)
    full, part = divmod(eighths, 8)
    return ("█" * full + " ▏▎▍▌▋▊▉"[part]).ljust(_BAR)[:_BAR]


_STREAMED: dict[str, Callable[[Iterable[Answer], int, TextIO, tuple[str, ...]], None]] = {
    "table": _write_table,
    "csv": write_csv,
    "jsonl": write_jsonl,
    "json": _write_json,
}
FORMATS = (*_STREAMED, "parquet")
#: The format of a file by its suffix.
SUFFIXES = {
    ".txt": "table",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
}
