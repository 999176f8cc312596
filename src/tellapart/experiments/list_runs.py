"""All runs and studies below a folder, one row each. No network is loaded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from tellapart.core.files import is_hidden
from tellapart.core.scores import Metric, interval_text, score_text
from tellapart.core.text import Lines, as_lines, visible
from tellapart.errors import TellapartError, UsageError
from tellapart.experiments.results import DESCRIPTION, FAILED, read_results
from tellapart.experiments.run_study import best_cell
from tellapart.experiments.where import parse_where
from tellapart.runs.run import Run

#: Folders that are looked into, and how deep: a folder of runs is no disk.
_MOST, _DEEPEST = 100_000, 8
_SCHEMA: dict[str, Any] = {
    "path": pl.String,
    "kind": pl.String,
    "state": pl.String,
    "model": pl.String,
    "metric": pl.String,
    "score": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "on": pl.String,
    "pictures": pl.String,
    "trainings": pl.Int64,
    "begun": pl.String,
    "problem": pl.String,
}
COLUMNS = list(_SCHEMA)
DEFAULT = ("runs", "studies")


def list_runs(folder: str | Path | None = None, where: str = "", sort: str = "") -> pl.DataFrame:
    """The runs and studies below a folder.

    Args:
        folder: is looked through; the runs inside of a study are not listed. By default runs/ and studies/, where
            commands write them.
        where: a condition on the columns, see `where.parse_where`.
        sort: a column; numbers fall, texts rise; by default the path.

    Returns:
        Columns: "path" (relative to the folder, or to the current one by default), "kind" ("run" or "study"), "state",
        "model", "metric", "score" with "low" and "high" (its 95 % interval), "on" (the pictures it is of), "pictures",
        "trainings", "begun", and "problem": why it cannot be read.

    Raises:
        UsageError: there is no such folder or column, or the condition cannot be read.
    """
    folders = [Path(folder)] if folder is not None else [path for path in map(Path, DEFAULT) if path.is_dir()]
    if not folders or not folders[0].is_dir():
        missing = " and no folder ".join(DEFAULT) if folder is None else folder
        raise UsageError(f"There is no folder {missing}.", "Give the folder that holds the runs.")
    root = folders[0] if folder is not None else Path()
    condition = parse_where(where, COLUMNS) if where else None
    if sort and sort not in COLUMNS:
        raise UsageError(f"--sort {sort}: there is no such column.", f"Columns: {', '.join(COLUMNS)}.")
    rows = [row for each in folders for row in _rows(each, root) if condition is None or condition(row)]
    table = pl.DataFrame(rows, schema=_SCHEMA, orient="row").sort("path")
    numeric = bool(sort) and _SCHEMA[sort] in (pl.Float64, pl.Int64)
    return table.sort(sort, descending=numeric, nulls_last=True, maintain_order=True) if sort else table


def _rows(folder: Path, root: Path) -> Iterator[dict[str, Any]]:
    for n_folders, (name, folders, files) in enumerate(os.walk(folder)):
        here = Path(name)
        depth = len(here.relative_to(folder).parts)
        is_study, is_run = DESCRIPTION in files, "recipe.toml" in files and "catalog.parquet" in files
        if is_study or is_run or depth >= _DEEPEST or n_folders >= _MOST:
            folders.clear()
        folders[:] = sorted(each for each in folders if not is_hidden(each))
        if is_study or is_run:
            row = {"path": here.relative_to(root).as_posix(), "kind": "study" if is_study else "run"}
            try:
                row |= _study(here) if is_study else _run(here)
            except TellapartError as error:
                row |= {"state": "damaged", "problem": error.message}
            # A name that is no UTF-8 has halves of characters, which no table holds.
            yield {name: visible(value) if isinstance(value, str) else value for name, value in row.items()}


def _study(directory: Path) -> dict[str, Any]:
    results = read_results(directory)
    description, best = results.description, best_cell(results)
    failed = results.runs.filter(pl.col("status") == FAILED).height
    score = None if best is None else results.runs.filter(pl.col("cell") == best)["score"].mean()
    return {
        "state": description.state,
        "model": ", ".join(factor.name for factor in description.factors),
        "metric": description.objective.name,
        "score": score,
        "on": "validation",
        "pictures": Path(description.pictures).name,
        "trainings": results.runs.height,
        "problem": f"{failed} failed" if failed else None,
    }


def _run(directory: Path) -> dict[str, Any]:
    run = Run(directory)
    row: dict[str, Any] = {
        "state": "done" if run.finished else "open",
        "model": run.recipe.model.name,
        "pictures": run.catalog.root.name,
        "trainings": 1,
        "begun": run.environment.get("begun") if run.environment_file.is_file() else None,
    }
    if not run.evaluation_file.is_file():
        return row
    if not run.evaluations:
        return row
    on, evaluation = next(iter(run.evaluations.items()))
    metric, value = evaluation.headline
    return row | {"metric": metric, "score": value.value, "low": value.low, "high": value.high, "on": on}


def runs_text(table: pl.DataFrame) -> Lines:
    """The table as lines: one a run or study, columns below each other."""
    if table.is_empty():
        return as_lines(["No run and no study fits."])
    head = ("path", "kind", "state", "score", "95 % interval", "of", "what", "pictures")
    rows = [head, *(_cells(row) for row in table.iter_rows(named=True))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    return as_lines(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    metric = row["metric"] or ""
    score = "–" if row["score"] is None else score_text(metric, row["score"])
    interval = "" if row["low"] is None else interval_text(metric, Metric(row["score"], row["low"], row["high"], 0))
    of = f"{row['metric']}, {row['on']}" if row["metric"] else ""
    n = f", {row['trainings']} trainings" if row["kind"] == "study" and row["trainings"] is not None else ""
    state = f"{row['state']}{n}" + (f": {row['problem'][:80]}" if row["problem"] else "")
    texts = (row["path"], row["kind"], state, score, interval, of, row["model"] or "", row["pictures"] or "")
    return tuple(visible(text) for text in texts)
