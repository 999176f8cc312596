"""Learning curves of a study's cells: the leading ones together, and a panel for each with the gap."""

from __future__ import annotations

from collections.abc import Collection

from tellapart.evaluation.study_summary import CellResult, StudySummary
from tellapart.report.blocks import Block, Fold, Section, Side, Text
from tellapart.report.sections.band_charts import LEGEND, Named, pair, panels, together
from tellapart.report.study_details import StudyDetails
from tellapart.report.study_words import label

#: Cells in one chart: as many as there are colours. Panels shown, and panels behind a click.
_TOGETHER, _PANELS, _FOLDED = 6, 12, 36


def curves_section(details: StudyDetails) -> Section | None:
    """Curves of the baseline and the best cells with bands over seeds; then training and validation of each.

    The small panels share one scale, so that gaps can be compared by eye.
    """
    cells = _in_order(details.summary, details.curves.keys())
    if not cells:
        return None
    named = [_named(details, i, one) for i, one in enumerate(cells[: _PANELS + _FOLDED], start=1)]
    names = "; ".join(f"{short}: {name}" for short, name, _ in named[:_TOGETHER])
    small = panels(named)
    blocks: list[Block] = [Side(together(named[:_TOGETHER])), Text(f"{names}.", "note")]
    blocks.append(Side(small[:_PANELS], small=True))
    if small[_PANELS:]:
        blocks.append(Fold(f"{len(small) - _PANELS} more settings", [Side(small[_PANELS:], small=True)]))
    pairs = [pair(name, curves) for _, name, curves in named[:_PANELS]]
    blocks.append(Fold("Accuracy and loss side by side", pairs))
    n = f" Shown for the baseline and the best of {len(cells):,} settings." if len(cells) > len(named) else ""
    blocks.append(Text(f"{LEGEND}{n}", "note"))
    return Section("curves", "Learning curves", blocks, "Curves")


def _in_order(summary: StudySummary, known: Collection[str]) -> list[CellResult]:
    """Cells with curves: the baseline first, then from the best to the worst."""
    sign = 1 if summary.lower_is_better else -1
    cells = [one for one in summary.cells if one.n and one.cell in known]
    return sorted(cells, key=lambda one: (one.cell != summary.baseline, sign * one.score.value, one.number))


def _named(details: StudyDetails, number: int, one: CellResult) -> Named:
    base = one.cell == details.summary.baseline and not details.summary.one_at_a_time
    name = f"{label(details.summary, one)}{' (baseline)' if base else ''}"
    return str(number), name, details.curves[one.cell]
