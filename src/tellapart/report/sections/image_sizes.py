"""Table of picture sizes. Pictures of a rare size are often odd in other ways too."""

from __future__ import annotations

import polars as pl

from tellapart.core.text import counted
from tellapart.report import formatting
from tellapart.report.blocks import Cell, Fold, Section, Table
from tellapart.runs.run import Run

#: The most sizes listed; the others are counted together.
SHOWN = 20


def sizes(run: Run) -> Section:
    """A folded table of widths and heights, the commonest first."""
    summary, table = size_table(run.catalog.table.filter(pl.col("problem").is_null()))
    return Section("pictures", "", [Fold(summary, [table])])


def size_table(table: pl.DataFrame) -> tuple[str, Table]:
    """The number of sizes in words, and a table of them.

    Args:
        table: columns `width` and `height`, at least one row.
    """
    counts = table.group_by("width", "height").len("n")
    ordered = list(counts.sort(["n", "width", "height"], descending=[True, False, False]).iter_rows())
    total = sum(n for *_, n in ordered)
    rows = [[Cell(f"{width} × {height}"), *_counted(n, total)] for width, height, n in ordered[:SHOWN]]
    rest = ordered[SHOWN:]
    if rest:
        rows.append([Cell(counted(len(rest), "other size")), *_counted(sum(n for *_, n in rest), total)])
    caption = f"Width × height in pixels. {_range('width', table)}; {_range('height', table).lower()}."
    one = f"All pictures are {ordered[0][0]} × {ordered[0][1]} pixels" if len(ordered) == 1 else ""
    return one or f"The pictures have {len(ordered):,} different sizes", Table(
        ["size", "pictures", "share"], rows, caption
    )


def _range(side: str, table: pl.DataFrame) -> str:
    values = table[side].to_numpy()
    return f"{side.capitalize()}s from {values.min()} to {values.max()}, {values.mean():.0f} on average"


def _counted(n: int, total: int) -> tuple[Cell, Cell]:
    return Cell(formatting.count(n), n), Cell(formatting.percent(n / total), n / total)
