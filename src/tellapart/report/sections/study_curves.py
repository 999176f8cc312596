"""Learning curves of a study's cells: the leading ones together, and a panel for each with the gap."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence

from tellapart.evaluation.study_summary import CellResult, StudySummary
from tellapart.report import formatting
from tellapart.report.blocks import Block, Chart, Fold, Section, Side, Text
from tellapart.report.charts import Line, line_chart
from tellapart.report.study_details import Band, StudyDetails
from tellapart.report.study_words import label

#: Cells in one chart: as many as there are colours. Panels shown, and panels behind a click.
_TOGETHER, _PANELS, _FOLDED = 6, 12, 36
_MEASURES = ("accuracy", "loss")


def curves_section(details: StudyDetails) -> Section | None:
    """Curves of the best cells and the baseline with bands over seeds; then training and validation of each.

    The small panels share one scale, so that gaps can be compared by eye.
    """
    cells = _in_order(details.summary, details.curves.keys())
    if not cells:
        return None
    first = cells[:_TOGETHER]
    blocks: list[Block] = _present(_together(details, first, measure) for measure in _MEASURES)
    names = "; ".join(f"{i}: {label(details.summary, one)}" for i, one in enumerate(first, start=1))
    about = f"Validation, the mean over seeds; bands reach from the lowest seed to the highest. {names}."
    shown = cells[: _PANELS + _FOLDED]
    scale = _scale(details, shown)
    panels = [panel for one in shown if (panel := _panel(details, one, "accuracy", scale, gap=True))]
    pairs = [_pair(details, one) for one in cells[:_PANELS]]
    blocks = [Side(blocks), Text(about, "note"), Side(panels[:_PANELS], small=True)]
    if panels[_PANELS:]:
        blocks.append(Fold(f"{len(panels) - _PANELS} more settings", [Side(panels[_PANELS:], small=True)]))
    blocks.append(Fold("Accuracy and loss side by side", pairs))
    text = "Blue: validation. Grey: training, in training mode and on augmented pictures. "
    text += "Only epochs that all seeds reached are drawn."
    if len(cells) > len(shown):
        text += f" Shown for the baseline and the best of {len(cells):,} settings."
    blocks.append(Text(text, "note"))
    return Section("curves", "Learning curves", blocks, "Curves")


def _present(charts: Iterable[Chart | None]) -> list[Block]:
    return [chart for chart in charts if chart is not None]


def _in_order(summary: StudySummary, known: Collection[str]) -> list[CellResult]:
    """Cells with curves: the baseline first, then from the best to the worst."""
    sign = 1 if summary.lower_is_better else -1
    cells = [one for one in summary.cells if one.n and one.cell in known]
    return sorted(cells, key=lambda one: (one.cell != summary.baseline, sign * one.score.value, one.number))


def _together(details: StudyDetails, cells: Sequence[CellResult], measure: str) -> Chart | None:
    lines = []
    for hue, one in enumerate(cells, start=1):
        curves = details.curves[one.cell]
        band = curves.bands[f"validation_{measure}"]
        name = f"{hue} ({formatting.shortened(label(details.summary, one), 30)})"
        lines.append(_line(name, curves.epochs, band, hue=hue, end=str(hue)))
    return _chart(f"Validation {measure}", [line for line in lines if line is not None], measure)


def _line(
    name: str, epochs: Sequence[int], band: Band, quiet: bool = False, hue: int = 0, end: str = ""
) -> Line | None:
    """A curve with its band; None where nothing was measured."""
    mean, low, high = (values.tolist() for values in (band.mean, band.low, band.high))
    return Line(name, epochs, mean, quiet, hue, end, low, high) if any(map(math.isfinite, mean)) else None


def _chart(
    title: str, lines: Sequence[Line], measure: str, caption: str = "", scale: tuple[float, ...] = ()
) -> Chart | None:
    if not lines:
        return None
    share = measure == "accuracy"
    svg = line_chart(
        lines,
        title=title,
        x_title="epoch",
        form=formatting.short_percent if share else None,
        whole_x=True,
        y_limits=(0.0, 1.0) if share else (0.0, math.inf),
        y_include=scale,
    )
    return Chart(title, svg, caption)


def _panel(
    details: StudyDetails, one: CellResult, measure: str, scale: tuple[float, ...] = (), gap: bool = False
) -> Chart | None:
    """Training and validation of one cell, with the distance between them at the epoch that was kept."""
    curves = details.curves[one.cell]
    training, validation = (curves.bands[f"{part}_{measure}"] for part in ("training", "validation"))
    lines = [
        line
        for line in (
            _line("training", curves.epochs, training, quiet=True, end="train"),
            _line("validation", curves.epochs, validation, end="val"),
        )
        if line is not None
    ]
    base = " (baseline)" if one.cell == details.summary.baseline else ""
    at = min(curves.best, len(curves.epochs)) - 1
    distance = float(training.mean[at] - validation.mean[at]) if len(curves.epochs) else math.nan
    caption = f"Gap at epoch {at + 1}: {100 * distance:+.1f} points." if gap and math.isfinite(distance) else ""
    name = formatting.shortened(label(details.summary, one), 60)
    return _chart(f"{name}{base}", lines, measure, caption.replace("-", "−"), scale)


def _pair(details: StudyDetails, one: CellResult) -> Side:
    return Side(_present(_panel(details, one, measure) for measure in _MEASURES))


def _scale(details: StudyDetails, cells: Sequence[CellResult]) -> tuple[float, ...]:
    """Lowest and highest accuracy of all panels."""
    bands = [details.curves[one.cell].bands[f"{part}_accuracy"] for one in cells for part in ("training", "validation")]
    values = [v for band in bands for v in (*band.low, *band.high) if math.isfinite(v)]
    return (min(values), max(values)) if values else ()
