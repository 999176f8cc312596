"""Slices of a finished run: its score by size, brightness, file type or group."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tellapart.auditing.traits import USUAL
from tellapart.core.text import as_lines, counted
from tellapart.errors import RunError, UsageError
from tellapart.evaluation.slices import SMALLEST, Slices
from tellapart.report import formatting
from tellapart.report.sections.slices import part_name, slices_of, verdict
from tellapart.runs.run import Run
from tellapart.workflows.progress import progress_sink


def slices(
    trained: Run | str | Path,
    *,
    on: str = "",
    by: Sequence[str] = USUAL,
    table: str | Path | None = None,
    smallest: int = SMALLEST,
    progress: bool = False,
) -> Slices:
    """Score slices of a run's pictures, and find those that are proven to be harder than the rest.

    Args:
        trained: a finished run, or its directory.
        on: "test" or "validation"; by default the test pictures, or the validation ones where there is no test.
        by: traits to slice by: size, shape, brightness, file type, colour mode, group, labels, or a catalog's column.
        table: a table of your own with the pictures' paths (file_name) and other columns, such as the camera; these are
            looked at too.
        smallest: pictures that a part must have.
        progress: show progress on standard error.

    Raises:
        RunError: the training has not finished, or has no such part.
        UsageError: there is no such column.
        DataError: the table cannot be used.
    """
    run = trained if isinstance(trained, Run) else Run(Path(trained))
    if smallest < 1:
        raise UsageError(f"--smallest {smallest}: a part has at least 1 picture.")
    known = run.evaluations
    if on and on not in known:
        raise RunError(f"{run.directory} has no {on} part.", f"It has: {', '.join(known)}.")
    own = None if table is None else Path(table)
    return progress_sink(progress).watch(slices_of(run, on or next(iter(known)), by, smallest, table=own))


def text(scored: Slices, most: int = 20) -> str:
    """The worst parts and a verdict, for a terminal."""
    shown = scored.parts[:most]
    width = max((len(part_name(part)) for part in shown), default=0)
    total = formatting.percent(scored.right / scored.n) if scored.n else "–"
    lines = [f"{counted(scored.n, 'picture')}, {total} right; parts of {scored.smallest} pictures or more:"]
    for part in shown:
        mark = "!" if part.worse else " "
        span = f"(95 %: {formatting.number(part.low)} to {formatting.percent(part.high)})"
        lines.append(
            f"{mark} {part_name(part):<{width}}  {formatting.percent(part.value):>7}  {span:<23}  n = {part.n:<6,}  "
            f"elsewhere {formatting.percent(part.rest):>7}  p = {formatting.chance(part.p_corrected)}"
        )
    if len(scored.parts) > most:
        lines.append(f"  and {len(scored.parts) - most} more, none of them lower")
    if scored.n_small:
        lines.append(f"Left out for having fewer pictures: {counted(scored.n_small, 'part')}.")
    return as_lines([*lines, verdict(scored)])
