"""Scores of slices, the parts of the pictures by size, brightness and so on; the hardest first."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path

from tellapart.auditing.traits import USUAL, table_traits, traits
from tellapart.core.events import Computing
from tellapart.core.scores import Metric
from tellapart.core.text import counted
from tellapart.evaluation.metrics import answers, known
from tellapart.evaluation.slices import SMALLEST, Slice, Slices
from tellapart.evaluation.slices import slices as sliced
from tellapart.report import formatting
from tellapart.report.blocks import Block, Cell, Fold, Section, Table, Text
from tellapart.runs.run import Run

#: The most pictures that the report opens to measure brightness; `tellapart slices` opens all.
_MOST = 1000


def slices_section(run: Run) -> Section | None:
    """The report's section, on the pictures of the headline; None where there are too few for any slice."""
    slices = _finish(slices_of(run, next(iter(run.evaluations)), USUAL, SMALLEST, _MOST))
    return section(slices, run.catalog.multilabel) if slices.parts else None


def _finish(work: Generator[Computing, None, Slices]) -> Slices:
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: Slices = end.value
            return result


def slices_of(
    run: Run, on: str, by: Sequence[str], smallest: int, most: int | None = None, table: Path | None = None
) -> Generator[Computing, None, Slices]:
    """Accuracy by size, brightness and so on. Multilabel: the share of pictures with every label right.

    Args:
        run: finished. on: "test" or "validation".
        by: some of `auditing.traits.names`.
        smallest: number of pictures that a slice needs.
        most: see `auditing.traits.traits`.
        table: a table of the user's own, whose columns make slices too.
    """
    values = run.evaluation_values
    predictions = known(run.predictions(on))
    answer = answers(predictions, values["temperature"], values["thresholds"])
    right = (answer == predictions.target).reshape(len(predictions), -1).all(axis=1)
    columns = yield from traits(run.catalog, predictions.row, by, most)
    if table is not None:
        columns |= table_traits(run.catalog, predictions.row, table)
    return sliced(right, columns, smallest)


def section(slices: Slices, multilabel: bool) -> Section:
    """A verdict, the slices that are proven to be hard, and the others behind a click."""
    blocks: list[Block] = [Text(verdict(slices))]
    if slices.worst:
        blocks.append(_table(slices.worst, multilabel, _caption(slices)))
    rest = [part for part in slices.parts if part not in slices.worst]
    if rest:
        summary = f"{counted(len(rest), 'other part' if slices.worst else 'part')} of the pictures, by size and more"
        blocks.append(Fold(summary, [_table(rest, multilabel, "" if slices.worst else _caption(slices))]))
    return Section("errors", "Which pictures it finds hard", blocks, "Failures")


def verdict(slices: Slices) -> str:
    """The hardest slice in a sentence or two."""
    if not slices.parts:
        return f"No part of the pictures has {slices.smallest} of them and leaves as many: there is nothing to compare."
    by = ", ".join(dict.fromkeys(part.by for part in slices.parts))
    looked = f"Of {counted(len(slices.parts), 'part')} of the pictures (by {by})"
    if not slices.worst:
        return f"{looked}, none is proven to be harder than the rest."
    n, first = len(slices.worst), slices.worst[0]
    return (
        f"{looked}, {formatting.count(n)} {'is' if n == 1 else 'are'} proven to be harder than the rest; the hardest, "
        f"{part_name(first)}, has {formatting.percent(first.value)} right, against {formatting.percent(first.rest)} "
        "elsewhere."
    )


def part_name(part: Slice) -> str:
    """A slice in words: "brightness: 12–63, lowest quarter"."""
    return f"{part.by}: {formatting.visible(part.name)}"


def _caption(slices: Slices) -> str:
    small = f" {counted(slices.n_small, 'smaller one')} left out." if slices.n_small else ""
    return (
        f"Parts of {slices.smallest} pictures or more.{small} In small figures: the 95\u202f% interval. "
        f"p: how often chance alone would leave so few right, corrected for all {len(slices.parts)} parts (Holm); "
        "below 0.05 counts as proven. This says where it is hard, not why: dark pictures may be of a hard class."
    )


def _table(parts: Sequence[Slice], multilabel: bool, caption: str) -> Table:
    rows = [
        [
            Cell(part_name(part)),
            Cell(
                formatting.percent(part.value),
                part.value,
                formatting.interval("", Metric(part.value, part.low, part.high, part.n)),
                (part.low, part.value, part.high),
            ),
            Cell(formatting.percent(part.rest), part.rest),
            Cell(formatting.count(part.n), part.n),
            Cell(formatting.chance(part.p_corrected), part.p_corrected),
        ]
        for part in parts
    ]
    share = "every label right" if multilabel else "right"
    return Table(["pictures", share, "elsewhere", "number", "p"], rows, caption, sortable=True)
