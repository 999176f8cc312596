"""The page of a study: the finding first, then cells, effects, curves, trade-offs and methods."""

from __future__ import annotations

import math

from tellapart.core.scores import is_share
from tellapart.core.text import counted
from tellapart.evaluation.study_summary import CellResult, StudySummary
from tellapart.report import formatting
from tellapart.report.blocks import Block, Cell, Chart, Code, Fold, Page, Section, Table, Text
from tellapart.report.forest import Interval, forest_chart, forest_finding, forest_table
from tellapart.report.sections.study_curves import curves_section
from tellapart.report.sections.study_effects import (
    effects_section,
    importance_section,
    ranks_section,
    tradeoffs_section,
)
from tellapart.report.study_details import StudyDetails
from tellapart.report.study_methods import methods
from tellapart.report.study_table import other_metrics
from tellapart.report.study_words import (
    amount,
    baseline_words,
    finding,
    interval,
    label,
    metric_words,
    plus_minus,
    value,
    verdict,
    verdict_note,
)

#: Rows of the table of cells; of a larger study, the best ones. All are in table.csv.
MOST_ROWS = 300
_MOST_DIFFERENCES = 40


def study_page(details: StudyDetails) -> Page:
    """The page of a study, finished or not."""
    summary = details.summary
    sections = [_finding_section(details), _cells_section(summary)]
    if details.test:
        rows = [[Cell(name), Cell(score, quiet=spread)] for name, score, spread in details.test]
        notes = [Text(note, "note") for note in details.test_notes]
        blocks: list[Block] = [Table(["on the test part", "score"], rows), *notes]
        sections.insert(1, Section("test", "On pictures never used to choose", blocks, "Test"))
    optional = [
        effects_section(summary),
        curves_section(details),
        tradeoffs_section(summary),
        importance_section(summary),
        ranks_section(details.ranks) if details.ranks else None,
        _trouble_section(summary),
    ]
    sections += [section for section in optional if section is not None]
    sections.append(_methods_section(details))
    subtitle = [
        counted(len(summary.cells), "setting"),
        counted(sum(one.n for one in summary.cells), "training"),
        metric_words(summary.metric),
    ]
    if summary.n_pictures:
        subtitle.append(counted(summary.n_pictures, "validation picture"))
    return Page(formatting.shortened(details.name, 60), subtitle, sections, notes=summary.notes)


def _finding_section(details: StudyDetails) -> Section:
    summary = details.summary
    blocks: list[Block] = [Text(sentence, "lead") for sentence in finding(summary)]
    if details.about:
        blocks.append(Text(details.about))
    intervals = differences(summary)
    if intervals:
        worse, better = ("← better", "worse →") if summary.lower_is_better else ("← worse", "better →")
        unit = ", percentage points" if is_share(summary.metric) else ""

        def form(number: float) -> str:
            return difference_tick(summary.metric, number)

        svg = forest_chart(
            intervals,
            title="Difference of each setting to the baseline, with 95 % intervals",
            x_title=f"difference to the baseline{unit}",
            form=form,
            ends=(worse, better),
        )
        n = sum(map(_has_interval, summary.cells))
        shown = f"The {_MOST_DIFFERENCES} largest of {n:,} differences. " if n > _MOST_DIFFERENCES else ""
        caption = (
            f"{forest_finding(intervals, form)} {shown}Lines: 95 % intervals. Grey: the difference may be chance, once "
            "corrected for all."
        )
        blocks.append(Chart("Differences to the baseline", svg, caption, forest_table(intervals, form)))
    return Section("finding", "What came out", blocks, "Finding")


def _has_interval(one: CellResult) -> bool:
    return one.difference is not None and math.isfinite(one.difference.low)


def differences(summary: StudySummary) -> list[Interval]:
    """Intervals of the differences, in the order of the design; the largest ones where there are too many."""
    cells = [one for one in summary.cells if _has_interval(one)]
    cells.sort(key=lambda one: -abs(one.difference.value) if one.difference else 0.0)
    looks = {"better": "better", "worse": "worse", "cannot tell": ""}
    return [
        Interval(label(summary, one), d.value, d.low, d.high, looks[d.verdict])
        for one in sorted(cells[:_MOST_DIFFERENCES], key=lambda one: one.number)
        if (d := one.difference) is not None
    ]


def difference_tick(metric: str, number: float) -> str:
    """A difference at an axis, without its unit."""
    text = f"{100 * number if is_share(metric) else number:+.4g}".replace("-", "−")
    return text if abs(number) > 1e-9 else "0"


def _cells_section(summary: StudySummary) -> Section:
    sign = 1 if summary.lower_is_better else -1
    order = sorted(summary.cells, key=lambda one: (not one.n, sign * one.score.value if one.n else 0.0, one.number))
    shown = order[:MOST_ROWS]
    baseline = summary.cell(summary.baseline)
    if baseline is not None and baseline not in shown:
        shown[-1] = baseline
    rows = [_row(summary, one) for one in shown]
    columns = ["setting", "validation", "seeds", "difference", "verdict", *map(metric_words, other_metrics(summary))]
    columns += ["training", "time", "parameters"]
    caption = (
        "Validation and training: mean over seeds ± half the 95 % interval, each at the epoch whose weights were kept. "
        "Difference: to the baseline, seed by seed, with its 95 % interval over seeds and pictures. "
        f"Verdict: corrected for {counted(summary.tested, 'difference')} (Holm). "
        "Bold: proven better than every other setting. ● cannot be told from the best. "
        "↗ validation was still rising in the last epoch of some seeds."
    )
    if base := baseline_words(summary):
        caption = f"Baseline: {base}. {caption}"
    if summary.others:
        caption += " ◆ no other setting is as good in all objectives and better in one (Pareto front)."
    if len(summary.cells) > MOST_ROWS:
        caption = f"The best {MOST_ROWS} of {len(summary.cells):,} settings; all are in table.csv. {caption}"
    return Section("settings", "Settings", [Table(columns, rows, caption, sortable=len(rows) > 2)])


def _row(summary: StudySummary, one: CellResult) -> list[Cell]:
    alone = one.leading and len(summary.leading) == 1
    mark = " ●" if one.leading and not alone and len(summary.leading) < len(summary.cells) else ""
    rising = (" ↗" if one.still_rising else "") + (" ◆" if one.on_front else "")
    difference = one.difference
    spread = math.nan if difference is None else difference.value
    between = "" if difference is None else interval(summary.metric, difference.low, difference.high)
    path = next(iter(one.paths.values()), "")
    return [
        Cell(label(summary, one), href=f"{path.rsplit('/', 1)[0]}/" if path else ""),
        Cell(
            value(summary.metric, one.score.value) + mark + rising,
            one.score.value,
            plus_minus(summary.metric, one.score),
            strong=alone,
        ),
        Cell(f"{one.n}", one.n),
        Cell("–" if difference is None else amount(summary.metric, spread), spread, between),
        Cell(verdict(summary, one), quiet=verdict_note(summary, one)),
        *(_other(name, one) for name in other_metrics(summary)),
        Cell(formatting.percent(one.training.value), one.training.value, plus_minus("accuracy", one.training)),
        Cell(formatting.duration(60 * one.minutes.value), one.minutes.value),
        Cell("–" if one.n_parameters is None else formatting.count(one.n_parameters), one.n_parameters or math.nan),
    ]


def _other(name: str, one: CellResult) -> Cell:
    number = one.others.get(name, math.nan)
    return Cell(value(name, number), number)


def _trouble_section(summary: StudySummary) -> Section | None:
    """Settings that failed, were stopped by the search, or were still getting better."""
    blocks: list[Block] = []
    failed = [(one, reason, n) for one in summary.cells for reason, n in one.failed.items()]
    if failed:
        rows = [[Cell(label(summary, one)), Cell(f"{n}", n), Cell(reason)] for one, reason, n in failed[:MOST_ROWS]]
        caption = "The same command with --retry-failed runs these alone once more."
        if len(failed) > MOST_ROWS:
            caption = f"The first {MOST_ROWS} of {len(failed):,}. {caption}"
        blocks.append(Table(["setting", "trainings", "reason"], rows, caption, title="Failed"))
    rising = [one for one in summary.cells if one.still_rising]
    if rising:
        texts = [
            f"{label(summary, one)} ({one.still_rising} of {counted(one.n, 'seed')})" for one in rising[:MOST_ROWS]
        ]
        note = "Their last epoch was their best one: more epochs may change the order of the settings."
        blocks += [Text(f"{counted(len(rising), 'setting')} still rising. {note}", "warning")]
        blocks.append(Fold("Which", [Text("; ".join(texts) + ".", "note")]))
    stopped = [(one, reason, n) for one in summary.cells for reason, n in one.stopped.items()]
    if stopped:
        rows = [[Cell(label(summary, one)), Cell(f"{n}", n), Cell(reason)] for one, reason, n in stopped[:MOST_ROWS]]
        summary_line = f"{counted(len(stopped), 'setting')} stopped by the search"
        blocks.append(Fold(summary_line, [Table(["setting", "trainings", "reason"], rows)]))
    return Section("trouble", "Failed, stopped, or not finished rising", blocks, "Trouble") if blocks else None


def _methods_section(details: StudyDetails) -> Section:
    blocks: list[Block] = [Text(methods(details))]
    blocks.append(
        Text(
            "Choosing the best of several settings flatters its score; the more settings, the more. Scores here are on "
            "validation pictures, on which the epochs were chosen too. “tellapart study close” measures the best "
            "setting and the baseline once on the test part.",
            "note",
        )
    )
    if details.facts:
        rows = [[Cell(name), Cell(text)] for name, text in details.facts if text]
        blocks.append(Fold("Machine, versions, runtime", [Table(["of", "value"], rows)]))
    if details.command:
        blocks.append(Code(details.command, "Repeat or go on"))
    return Section("methods", "How it was judged", blocks, "Methods")
