"""A scan with its progress shown, and a catalog in words: classes, counts, sizes, trouble."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import polars as pl

from tellapart.core.text import as_lines, counted
from tellapart.data.catalog import Catalog
from tellapart.data.scan import scan as scan_pictures
from tellapart.workflows.progress import ProgressSink

_SHOWN = 20


def scan(pictures: str | Path, progress: ProgressSink, **options: Any) -> Catalog:
    """Scan, show how far it is, and say in one line what is there.

    Args:
        pictures: a folder, or a table of files and labels.
        progress: where to show it.
        options: as for `tellapart.data.scan.scan`.

    Raises:
        DataError: no pictures, or a table that cannot be used.
        UsageError: options that do not fit together.
    """
    start = time.monotonic()
    with progress.steps() as show:
        catalog = scan_pictures(pictures, progress=lambda done, total: show("scanning", done, total), **options)
    unreadable = len(catalog) - len(catalog.readable)
    progress.say(
        f"{counted(len(catalog), 'picture')}, {counted(len(catalog.classes), 'class', 'classes')}"
        f" ({catalog.layout.rstrip('.')})"
        f"{f', {unreadable} unreadable' if unreadable else ''}; {time.monotonic() - start:.1f} s"
    )
    return catalog


def summary(catalog: Catalog) -> dict[str, Any]:
    """What a catalog holds, as plain values."""
    table = catalog.table
    readable = table.filter(pl.col("problem").is_null())
    sizes = readable.group_by("width", "height").len().sort(["len", "width", "height"], descending=[True, False, False])
    duplicates = readable.height - readable["sha256"].n_unique()
    unreadable = table.filter(pl.col("problem").is_not_null())
    # Of these there is something to say in few folders only.
    seldom = {
        "unknown": catalog.unknown_counts(),
        "unused_columns": list(catalog.unused_columns),
        "unused_tables": dict(catalog.unused_tables),
    }
    return {
        "root": str(catalog.root),
        "layout": catalog.layout,
        "n": len(catalog),
        "multilabel": catalog.multilabel,
        "classes": catalog.counts(),
        "n_without_label": int((table["labels"].list.len() == 0).sum()),
        "parts": _counts(table["split"]),
        "formats": _counts(readable["format"]),
        "sizes": [{"width": w, "height": h, "n": n} for w, h, n in sizes.iter_rows()],
        "n_duplicates": duplicates,
        "unreadable": [{"path": p, "reason": r} for p, r in unreadable.select("path", "problem").iter_rows()],
        **{name: values for name, values in seldom.items() if values},
    }


def _counts(column: pl.Series) -> dict[str, int]:
    """How often each value occurs, the most frequent first; those equally frequent by name."""
    counts = column.drop_nulls().value_counts().sort(pl.col("count"), pl.col(column.name), descending=[True, False])
    return dict(counts.iter_rows())


def summary_text(catalog: Catalog) -> str:
    """Lines for a terminal."""
    facts = summary(catalog)
    kind = "none, one or more labels a picture" if facts["multilabel"] else "one label a picture"
    lines = [f"{facts['root']}: {facts['n']:,} pictures; {kind}", f"Layout: {facts['layout']}", ""]
    unlabelled = {"(no label)": facts["n_without_label"]} if facts["n_without_label"] else {}
    width = max(map(len, [*facts["classes"], *unlabelled]), default=0)
    counts = list(facts["classes"].items())
    lines += [f"  {name:<{width}}  {n:>7,}" for name, n in counts[: 2 * _SHOWN]]
    if len(counts) > 2 * _SHOWN:
        lines.append(f"  … and {len(counts) - 2 * _SHOWN} more classes")
    lines += [f"  {name:<{width}}  {n:>7,}" for name, n in unlabelled.items()]
    if facts["parts"]:
        lines.append("Given parts: " + ", ".join(f"{n:,} {name}" for name, n in facts["parts"].items()))
    lines.append("Formats: " + ", ".join(f"{n:,} {name}" for name, n in facts["formats"].items()))
    lines.append("Sizes (width × height):")
    lines += [f"  {s['width']:>5} × {s['height']:<5} {s['n']:>7,}" for s in facts["sizes"][:8]]
    if len(facts["sizes"]) > 8:
        rest = sum(s["n"] for s in facts["sizes"][8:])
        lines.append(f"  {len(facts['sizes']) - 8:,} other sizes {rest:>7,}")
    if facts["n_duplicates"]:
        n = facts["n_duplicates"]
        repeat = "picture repeats" if n == 1 else "pictures repeat"
        lines.append(f"Exact duplicates: {n:,} {repeat} another, byte for byte")
    if facts["unreadable"]:
        lines.append(f"Unreadable: {len(facts['unreadable']):,}")
        lines += [f"  {u['path']}: {u['reason']}" for u in facts["unreadable"][:_SHOWN]]
        if len(facts["unreadable"]) > _SHOWN:
            lines.append(f"  … and {len(facts['unreadable']) - _SHOWN:,} more (all with --json)")
    return as_lines(lines)
